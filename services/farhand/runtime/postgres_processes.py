"""Looking at a machine from outside of PostgreSQL: its processes in a folder, its pid file, free ports."""

import contextlib
import errno
import os
import signal
import socket
from pathlib import Path


def servers_in(data: Path) -> set[int]:
    """The pids of all PostgreSQL processes whose working folder is this cluster, backends included; Linux only."""
    try:
        wanted = data.stat()
    except FileNotFoundError:
        return set()
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        # Processes end while we look, and those of others are not ours to see.
        with contextlib.suppress(OSError):
            here = os.stat(entry / "cwd")  # noqa: PTH116  # follows the magic link, even where its path is unreachable
            if (here.st_dev, here.st_ino) == (wanted.st_dev, wanted.st_ino):
                program = os.readlink(entry / "exe").removesuffix(" (deleted)")  # noqa: PTH115
                if program.endswith("/postgres"):
                    found.add(int(entry.name))
    return found


def number_in(path: Path) -> int | None:
    """The number in a file's first line; None where there is none."""
    try:
        return int(path.read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def send(pid: int, number: signal.Signals) -> None:
    """Signal a process that may be gone by now."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as attempt:
        # As PostgreSQL does, else connections of the last server in TIME_WAIT would count.
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((host, port))
            attempt.listen()
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
        return True


def any_free_port(host: str) -> int:
    """A port that the kernel finds free now."""
    with socket.socket() as attempt:
        attempt.bind((host, 0))
        port: int = attempt.getsockname()[1]
        return port
