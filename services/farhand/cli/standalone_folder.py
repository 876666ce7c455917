"""The data folder of a standalone: one owner at a time, and a clean start after a kill -9.

The lock is the kernel's (flock), so it ends with its process whatever way that ends.
The services outlive their killed standalone for a moment, and hold ports and the
database's files meanwhile; so their process ids are written down, and the next owner
waits until those are gone. A process id alone could be somebody else's by now: it is
written with the machine's boot and the process's start.
"""

import fcntl
import json
import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from farhand.cli.failure import CommandFailed

_PATIENCE = 10.0  # seconds from TERM to KILL for what an earlier run left


class DataFolder:
    """A folder that is ours while `hold` lasts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._children: dict[str, tuple[int, str]] = {}

    @classmethod
    @contextmanager
    def hold(cls, path: Path) -> Iterator["DataFolder"]:
        """Make it where missing, and own it. CommandFailed names the process that owns it already."""
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(path / "standalone.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CommandFailed(
                f"The data folder {path} can't be used: {error.strerror}.", "--data FOLDER names another."
            ) from None
        try:
            _own(lock, path)
            yield cls(path)
        finally:
            os.close(lock)

    def end_leftovers(self, notice: Callable[[str], None]) -> None:
        """Wait for the services of a run that was killed; end those that won't end. Blocks for seconds at worst."""
        for name, (pid, identity) in _read(self._roll).items():
            if _identity(pid) == identity:
                notice(f"the {name} of an earlier run (process {pid}) still ends; waiting for it")
                _end(pid, identity)
        self._roll.unlink(missing_ok=True)

    def remember(self, name: str, pid: int) -> None:
        """Write down that this process is ours."""
        self._children[name] = (pid, _identity(pid))
        fresh = self._roll.with_suffix(".new")
        fresh.write_text(json.dumps(self._children))
        fresh.replace(self._roll)

    def forget(self) -> None:
        """All have ended."""
        self._children.clear()
        self._roll.unlink(missing_ok=True)

    @property
    def _roll(self) -> Path:
        return self.path / "services.json"


def _own(lock: int, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(lock, 20, 0).decode(errors="replace").strip() or "unknown"
        raise CommandFailed(
            f"The data folder {path} is in use by another farhand, process {owner}.",
            "Stop that one, or give this one a folder of its own: --data FOLDER",
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def _read(roll: Path) -> dict[str, tuple[int, str]]:
    try:
        return {str(name): (int(pid), str(identity)) for name, (pid, identity) in json.loads(roll.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _identity(pid: int) -> str:
    """What no other process ever shares with this one; empty where there is no such process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # The name in parentheses may hold anything; the start is field 22 (proc(5)), the 20th after it.
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else f"{boot} {fields[18]}"


def _end(pid: int, identity: str) -> None:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if _identity(pid) != identity:
                return
            signal.pidfd_send_signal(process, number)
            if select.select([process], [], [], _PATIENCE)[0]:
                return
    except ProcessLookupError:
        return
    finally:
        os.close(process)
