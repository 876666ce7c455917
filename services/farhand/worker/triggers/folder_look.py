"""`python -m farhand.worker.triggers.folder_look FOLDER`: one look into a folder, in a process of its own.

Started by local_files.py under the warden, since each step may hang or take the
processor for itself: a network drive that is away, a regular expression that never
ends, a large copy. A timeout or kill ends it like any command.

It finds what to do in `look.json` of the run's folder, and leaves there `seen.json`
and a copy of each file that is new: `files/0`, `files/1` …. A file that changes while
it is copied is left for the next look.

A file is known by its path, inode, size and time of change (ns): what was changed,
replaced or put back is another one.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import sys
from base64 import urlsafe_b64encode
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from farhand.kernel.file_paths import check_path
from farhand.kernel.names import shown

LOOK_FILE = "look.json"
# {"from": …, "pattern": … or null, "recursive": …, "action": …, "move_to": … or null, "most": …, "known": [ids]}
SEEN_FILE = "seen.json"
# {"error": …} or {"place": …, "files": [{"id", "path", "size", "modified", "copy"}], "there": [ids], "lines": […]}
COPIES = "files"

MOST_LOOKED_AT = 100_000  # entries
MOST_LINES = 20  # of the log
MOST_BYTES_OF_NAMES = 48 * 1024  # of the paths in one look: the outputs of a run are bounded


class LookFailed(Exception):
    """The folder can't be looked at; the message says why."""


@dataclass(frozen=True, slots=True)
class _File:
    path: str  # inside of the folder
    id: str
    size: int
    modified: int  # ns


def look(task: dict[str, Any], copies: Path) -> dict[str, Any]:
    """Act on files that are known, and copy those that are not. Raises LookFailed."""
    known = frozenset(task["known"])
    lines: list[str] = []
    try:
        place = _place(task["from"])
        found = sorted(_found(task, lines), key=lambda file: (file.modified, file.path))
    except OSError as error:
        raise LookFailed(
            f"can't look into {shown(os.fspath(error.filename or task['from']), 200)}: {error.strerror}"
        ) from None
    there = [file.id for file in found if file.id in known]
    if task["action"] != "NONE":
        there = [file.id for file in found if file.id in known and not _acted(task, file, lines)]
    fresh = _copied(task, [file for file in found if file.id not in known], copies, lines)
    return {"place": place, "files": fresh, "there": there, "lines": lines[:MOST_LINES]}


def _place(root: str) -> str:
    """This very folder: of this machine, as it was started this time, on this file system. Where a drive is not
    mounted, its mount point is another place."""
    found = Path(root).stat()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return hashlib.blake2b(f"{boot} {found.st_dev} {found.st_ino}".encode(), digest_size=12).hexdigest()


def _found(task: dict[str, Any], lines: list[str]) -> Iterator[_File]:
    """The files that are meant. Links, and folders behind links, are not."""
    root, pattern = task["from"], None if task["pattern"] is None else re.compile(task["pattern"])
    moved = None if task["move_to"] is None else os.path.realpath(task["move_to"])
    left = MOST_LOOKED_AT
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        try:
            entries = list(os.scandir(Path(root, inside)))
        except FileNotFoundError:
            if not inside:
                raise
            continue  # gone meanwhile. Any other trouble ends the look: nobody may say that these files are gone
        for entry in entries:
            left -= 1
            if left < 0:
                raise LookFailed(f"{shown(root, 200)} has more than {MOST_LOOKED_AT:,} entries to look at")
            path = f"{inside}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if task["recursive"] and os.path.realpath(entry.path) != moved:
                    waiting.append(path + "/")
            elif entry.is_file(follow_symlinks=False) and (pattern is None or pattern.fullmatch(path)):
                if wrong := check_path("", path):
                    lines.append(f"a file is left where it is: its path {wrong[0].description}")
                    continue
                try:
                    yield _file(root, path, entry.stat(follow_symlinks=False))
                except FileNotFoundError:
                    continue  # gone meanwhile


def _file(root: str, path: str, found: os.stat_result) -> _File:
    what = "\0".join((os.path.normpath(root), path, str(found.st_ino), str(found.st_size), str(found.st_mtime_ns)))
    digest = hashlib.blake2b(what.encode("utf-8", "surrogateescape"), digest_size=9).digest()
    return _File(path, urlsafe_b64encode(digest).decode(), found.st_size, found.st_mtime_ns)


def _copied(task: dict[str, Any], files: Collection[_File], copies: Path, lines: list[str]) -> list[dict[str, Any]]:
    """What the execution is told of files, each copied."""
    copies.mkdir()
    taken: list[dict[str, Any]] = []
    names = 0
    for file in files:
        names += len(json.dumps(file.path)) * 4  # once in its path and name, twice in its address, quoted
        if len(taken) == task["most"] or (taken and names > MOST_BYTES_OF_NAMES):
            break
        copy = copies / str(len(taken))
        try:
            if not _copy(task["from"], file, copy):
                continue
        except OSError as error:
            if error.filename == os.fspath(copy) or error.filename is None:
                raise LookFailed(f"{shown(file.path, 200)} can't be copied: {error.strerror}") from None
            lines.append(f"{shown(file.path, 200)} can't be read: {error.strerror}")
            continue
        modified = datetime.fromtimestamp(file.modified / 1e9, UTC).isoformat(timespec="milliseconds")
        taken.append(
            {
                "id": file.id,
                "path": file.path,
                "size": file.size,
                "modified": modified.replace("+00:00", "Z"),
                "copy": f"{COPIES}/{copy.name}",
            }
        )
    return taken


def _copy(root: str, file: _File, copy: Path) -> bool:
    """Whether all of it was copied, as it was when it was found."""
    source = Path(root, file.path)
    # Without waiting, should a pipe have taken its place.
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as reading:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) or _file(root, file.path, os.fstat(descriptor)) != file:
            return False
        with copy.open("wb") as writing:
            shutil.copyfileobj(reading, writing, 1 << 20)
            if writing.tell() == file.size and _file(root, file.path, os.fstat(descriptor)) == file:
                return True
    copy.unlink()
    return False


def _acted(task: dict[str, Any], file: _File, lines: list[str]) -> bool:
    """Whether a file that had its execution is out of the way now."""
    source = Path(task["from"], file.path)
    try:
        if task["action"] == "DELETE":
            source.unlink()
        else:
            _move(source, Path(task["move_to"], file.path))
    except FileNotFoundError:
        return not os.path.lexists(source)
    except OSError as error:
        what = "deleted" if task["action"] == "DELETE" else f"moved to {shown(task['move_to'], 200)}"
        lines.append(f"{shown(file.path, 200)} can't be {what}: {error.strerror}")
        return False
    return True


def _move(source: Path, target: Path) -> None:
    """Done again after it was broken off, it ends with one file at the target. What is there is never replaced."""
    target.parent.mkdir(parents=True, exist_ok=True)
    free, number = target, 0
    while os.path.lexists(free):
        one, other = source.stat(), free.lstat()
        if (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns) and stat.S_ISREG(other.st_mode):
            source.unlink()  # an earlier move got as far as the copy
            return
        number += 1
        free = target.with_name(f"{target.name}.{number}")
    try:
        source.rename(free)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        half = target.with_name(".farhand-moving")
        shutil.copy2(source, half)
        half.rename(free)
        source.unlink()


def main(folder: Path) -> None:
    """Do what the folder describes."""
    task = json.loads((folder / LOOK_FILE).read_text())
    try:
        seen = look(task, folder / COPIES)
    except LookFailed as error:
        seen = {"error": str(error)}
    (folder / SEEN_FILE).write_text(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
