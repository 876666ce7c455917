"""The working folder of a pod: what is put there before the command, and what is fetched after it.

Both go as a tar archive through `exec`, whose frames carry a channel's number and then
bytes. Of the side image this takes sh, head, wc, tar, find and test. An archive counts
only when all of it has arrived; where the stream breaks it is sent again from the start.
"""

import asyncio
import json
import os
import shlex
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, BinaryIO, cast

import aiohttp

from farhand.kernel.globs import matches_any
from farhand.worker.runners.kubernetes.api import SILENCE, Cluster
from farhand.worker.runners.kubernetes.manifest import ARRIVAL, FOLDER, IN, OUT
from farhand.worker.runners.patience import Passing, persist

STDIN, STDOUT, STDERR, STATUS = range(4)
PIECE = 32 * 1024  # bytes in a frame, as kubectl has it
MOST_WORDS = 2000  # characters of what a command complains of
MOST_FILES = 1_000  # as in tasks/files.py
LONGEST_LIST = 64 << 20  # bytes of the paths in a folder


class FilesFailed(Exception):
    """The files can't be put there or fetched, and trying again would not help. For people."""


async def bring_in(cluster: Cluster, pod: str, folder: Path) -> None:
    """Put all files of a folder into the pod's, and have its init container end. Raises FilesFailed, Refused, Away."""
    with tempfile.TemporaryFile() as archive:
        await asyncio.to_thread(_pack, folder, archive)
        size = archive.seek(0, os.SEEK_END)
        arrived = f"{ARRIVAL}/files.tar"
        script = (
            f"head -c {size} > {arrived} && [ $(wc -c < {arrived}) -eq {size} ] && "
            f"tar -x -C {FOLDER} -f {arrived} && rm {arrived} && : > {ARRIVAL}/done"
        )

        async def once() -> None:
            archive.seek(0)
            await _execute(cluster, pod, IN, script, archive, None)

        await persist(once, cluster.patience)


async def hand_out(cluster: Cluster, pod: str, patterns: Sequence[str], folder: Path) -> None:
    """Fetch the files of the pod's folder that the patterns mean. Raises FilesFailed, Refused, Away."""
    with tempfile.TemporaryFile() as found:
        # Links are followed where they lead to a file, linked folders are not entered (tasks/files.py).
        look = f"cd {FOLDER} && find . -type f -print0 -o -type l -exec test -f {{}} \\; -print0"
        await persist(lambda: _anew(cluster, pod, look, b"", found), cluster.patience)
        if found.seek(0, os.SEEK_END) > LONGEST_LIST:
            raise FilesFailed("there are too many files in the working folder to look through")
        found.seek(0)
        paths = [os.fsdecode(path.removeprefix(b"./")) for path in found.read().split(b"\0") if b"\n" not in path]
    wanted = [path for path in paths if path and matches_any([p.removeprefix("./") for p in patterns], path)]
    if not wanted:
        return
    if len(wanted) > MOST_FILES:
        raise FilesFailed(f"outputFiles mean {len(wanted):,} files; {MOST_FILES:,} are allowed: pack them")
    names = b"".join(b"./" + os.fsencode(path) + b"\n" for path in wanted)
    with tempfile.TemporaryFile() as archive:
        # As words of the command, since not every busybox reads names from a file.
        pack = f"cd {FOLDER} && set -f && IFS='\n' && exec tar -c -h -f - $(head -c {len(names)})"
        await persist(lambda: _anew(cluster, pod, pack, names, archive), cluster.patience)
        archive.seek(0)
        missing = await asyncio.to_thread(_unpack, archive, set(wanted), folder)
    if missing:
        raise FilesFailed(f"{len(missing)} files did not come, {min(missing)} among them")


async def _anew(cluster: Cluster, pod: str, script: str, stdin: bytes, to: BinaryIO) -> None:
    to.seek(0)
    to.truncate()
    with tempfile.TemporaryFile() as source:
        source.write(stdin)
        source.seek(0)
        await _execute(cluster, pod, OUT, script, source if stdin else None, to)


async def _execute(
    cluster: Cluster, pod: str, container: str, script: str, stdin: BinaryIO | None, stdout: BinaryIO | None
) -> None:
    """Run a script in a container. Raises FilesFailed where it fails, Passing where its end can't be known."""
    command = ["/bin/sh", "-c", script]
    async with cluster.exec(pod, container, command, stdin=stdin is not None) as socket:
        listening = asyncio.create_task(_listen(socket, stdout))
        try:
            if stdin is not None:
                while piece := stdin.read(PIECE):
                    await socket.send_bytes(bytes([STDIN]) + piece)
        except (aiohttp.ClientError, OSError):
            pass  # it ends before it has read all: what it says of itself tells why
        except BaseException:
            listening.cancel()
            raise
        status, words = await listening
    if status is None:
        raise Passing(f"the stream to {shlex.join(command)} broke")
    if status.get("status") != "Success":
        raise FilesFailed(f"{status.get('message') or 'the command failed'} {words}".strip())


async def _listen(
    socket: aiohttp.ClientWebSocketResponse, stdout: BinaryIO | None
) -> tuple[dict[str, str] | None, str]:
    """What it says at its end, None where the stream ends without; and what it complains of."""
    words = bytearray()
    while True:
        try:
            message = await socket.receive(timeout=SILENCE)
        except TimeoutError:
            return None, ""
        if message.type is not aiohttp.WSMsgType.BINARY:
            return None, ""
        frame = cast(bytes, message.data)
        if frame[:1] == bytes([STATUS]):
            return dict(json.loads(frame[1:])), words.decode("utf-8", "replace")[:MOST_WORDS]
        if frame[:1] == bytes([STDOUT]) and stdout is not None:
            stdout.write(frame[1:])
        elif frame[:1] == bytes([STDERR]):
            words += frame[1:MOST_WORDS]


def _pack(folder: Path, archive: BinaryIO) -> None:
    """All files and folders; whoever the image's user is may read and write them."""

    def anybodys(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if not (entry.isreg() or entry.isdir()):
            return None
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mode = 0o777 if entry.isdir() or entry.mode & 0o100 else 0o666
        return entry

    with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for entry in sorted(folder.iterdir()):
            tar.add(entry, entry.name, filter=anybodys)


def _unpack(archive: BinaryIO, wanted: set[str], folder: Path) -> set[str]:
    """Write the wanted files into the folder, in which no command has run; the paths of those that are not there."""
    came: set[str] = set()
    with tarfile.open(fileobj=archive, mode="r|") as tar:
        for entry in tar:
            path, same = os.path.normpath(entry.name), os.path.normpath(entry.linkname)
            if path not in wanted - came or not (entry.isreg() or (entry.islnk() and same in came)):
                continue
            to = folder / path
            to.parent.mkdir(parents=True, exist_ok=True)
            to.unlink(missing_ok=True)
            # tar writes a file once; its other names are links to the first.
            with (
                (folder / same).open("rb") if entry.islnk() else _content(tar, entry) as content,
                to.open("xb") as file,
            ):
                shutil.copyfileobj(content, file, 1 << 20)
            came.add(path)
    return wanted - came


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(entry)
    assert content is not None  # it is a file
    return content
