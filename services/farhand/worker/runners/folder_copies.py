"""A task's working folder on its way to where the command runs, and what is wanted of it on its way back: as tar.

What comes back was written by strangers' programs: of it only regular files (also
those that a link in the archive means) are taken, by paths that stay in the folder.
"""

import posixpath
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from farhand.kernel.file_paths import check_path
from farhand.kernel.globs import matches_any

_ALL_MAY = 0o777  # whoever the command runs as over there: the copy is this task's alone


def pack(folder: Path, to: BinaryIO, root: str, owner: tuple[int, int] = (0, 0)) -> None:
    """Write the folder as an archive of the folder `root`, open to every user over there. Takes its time."""

    def opened(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid, member.gid = owner
        member.uname = member.gname = ""
        member.mode = _ALL_MAY if member.isdir() or member.mode & 0o100 else _ALL_MAY & ~0o111
        return member

    with tarfile.open(fileobj=to, mode="w") as archive:
        archive.add(folder, root, filter=opened)


def unpack(source: BinaryIO, folder: Path, root: str, patterns: Sequence[str]) -> None:
    """Replace what is in the folder by what matches the patterns (kernel.globs). Raises OSError or tarfile.TarError.
    Takes its time."""
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    with tarfile.open(fileobj=source, mode="r:") as archive:
        for member, path in _wanted(archive, root, patterns):
            if member.isdir():  # wanted by its name, which is told to be none of a file
                (folder / path).mkdir(parents=True, exist_ok=True)
                continue
            try:
                content = archive.extractfile(member)
            except (KeyError, RecursionError):  # a link to nothing, out of the folder, or to itself
                continue
            if content is not None:
                to = folder / path
                to.parent.mkdir(parents=True, exist_ok=True)
                with to.open("wb") as file:
                    shutil.copyfileobj(content, file)


def _wanted(archive: tarfile.TarFile, root: str, patterns: Sequence[str]) -> Iterator[tuple[tarfile.TarInfo, str]]:
    wanted = [pattern.removeprefix("./") for pattern in patterns]
    for member in archive:
        name = posixpath.normpath(member.name)
        if not name.startswith(root + "/"):
            continue
        path = name.removeprefix(root + "/")
        if check_path("", path):
            continue
        if path in wanted if member.isdir() else matches_any(wanted, path):
            yield member, path
