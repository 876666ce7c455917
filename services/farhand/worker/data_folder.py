"""The folder of a worker on this machine: what of it outlives the process.

    lock            held (flock) by the worker that uses the folder, and by its warden until all of its
                    processes are gone; holds the worker's pid
    worker-id       its name, the same over restarts
    incarnations    one line of JSON for each process of it that the scheduler may still count on
    results.journal results that are not settled
    logs/           logs that are not wholly sent, one file per run
    jobs/           working folders of runs
    undo/           what runs have to take back elsewhere, one file per run
    files/          namespace files that were fetched, by digest

Whoever gets the lock knows that the earlier worker of this folder, and every
process that it started, is dead, if the machine has not been booted since: that
is what `dead_incarnations` in hello tells (design.md, rule 8).
"""

import fcntl
import json
import os
import secrets
import shutil
import socket
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from farhand.kernel.names import check_worker_id, group_label
from farhand.runtime.service import StartupError

MOST_NUMBERS = 1_000
MOST_INCARNATIONS = 100
MOST_LOCKED_LEVELS = 20
WARDEN_SECONDS = 10.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Incarnation:
    """One process of a worker: random bytes, and the boot of the machine that it ran in ("" where not known)."""

    id: bytes
    boot_id: str


def boot_id() -> str:
    """The boot of this machine; empty where the system doesn't tell."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def default_home() -> Path:
    """Where the folders of workers are that were started without --data."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "farhand" / "workers"


class DataFolder:
    """An open data folder: locked until `close`, or the end of this process and its warden."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.lock = lock
        self.jobs = path / "jobs"
        self.logs = path / "logs"
        self.files = path / "files"
        self.undo = path / "undo"
        self.journal = path / "results.journal"
        self._incarnations = path / "incarnations"
        for inner in (self.jobs, self.logs, self.files, self.undo):
            inner.mkdir(mode=0o700, exist_ok=True)
        self._leftovers = list(self.jobs.iterdir())

    @classmethod
    def open(cls, path: Path | None, group: str) -> "DataFolder":
        """Open `path`, or the first free folder of this group's own. StartupError where it is in use, or not usable."""
        if path is not None:
            folder = cls._try(path)
            if isinstance(folder, DataFolder):
                return folder
            raise StartupError(
                f"the data folder {path} is in use by another worker (pid {folder}); stop it, or give this one "
                "a folder of its own with --data"
            )
        home = default_home()
        for number in range(1, MOST_NUMBERS + 1):
            folder = cls._try(home / f"{group_label(group)}-{number}")
            if isinstance(folder, DataFolder):
                return folder
        raise StartupError(f"{MOST_NUMBERS} workers use the folders below {home}; name another with --data")

    @classmethod
    def _try(cls, path: Path) -> "DataFolder | str":
        """The folder, or the pid of the worker that uses it."""
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            why = error.strerror
            raise StartupError(f"the data folder {path} can't be used: {why}; name another with --data") from None
        if (owner := _lock(lock)) is not None:
            os.close(lock)
            return owner
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return cls(path, lock)

    def worker_id(self, wanted: str | None) -> str:
        """The worker's name: `wanted`, else the one kept here, else HOST-RANDOM, kept from now on."""
        file = self.path / "worker-id"
        if wanted is None:
            try:
                wanted = file.read_text().strip()
            except FileNotFoundError:
                wanted = ""
            if not wanted or check_worker_id("", wanted):
                wanted = f"{_host_label()}-{secrets.token_hex(3)}"
        _replace(file, wanted + "\n")
        return wanted

    def enter(self) -> tuple[Incarnation, list[bytes]]:
        """Begin a new incarnation: it, and those before it that are dead for certain with all their processes."""
        mine = Incarnation(secrets.token_bytes(16), boot_id())
        earlier = self._read()
        _replace(self._incarnations, "".join(_line(each) for each in [*earlier[-MOST_INCARNATIONS:], mine]))
        dead = [each.id for each in earlier if each.boot_id and each.boot_id == mine.boot_id]
        return mine, dead

    def forget_all_but(self, mine: Incarnation) -> None:
        """The scheduler was told of the dead; only this incarnation need be told by the next."""
        _replace(self._incarnations, _line(mine))

    def _read(self) -> list[Incarnation]:
        found: list[Incarnation] = []
        try:
            lines = self._incarnations.read_text().splitlines()
        except FileNotFoundError:
            return []
        for line in lines:
            try:
                entry = json.loads(line)
                found.append(Incarnation(bytes.fromhex(entry["incarnation"]), str(entry["boot_id"])))
            except (ValueError, KeyError, TypeError):
                continue  # a torn line
        return [each for each in found if len(each.id) == 16]

    def remove_leftovers(self) -> None:
        """Remove the working folders of earlier incarnations."""
        for folder in self._leftovers:
            remove_tree(folder)

    @property
    def free_bytes(self) -> int:
        """What the disk has left for us."""
        disk = os.statvfs(self.path)
        return disk.f_bavail * disk.f_frsize

    def close(self) -> None:
        """Give the folder up."""
        os.close(self.lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _lock(lock: int) -> str | None:
    """Take the lock, or answer the pid of its owner. Waits for a warden that still kills what a dead worker left."""
    give_up = time.monotonic() + WARDEN_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
            if time.monotonic() > give_up or not pid.isdecimal() or Path("/proc", pid).exists():
                return pid or "unknown"
            time.sleep(0.05)
        else:
            return None


def remove_tree(folder: Path) -> None:
    """Remove a folder and all in it, also what a job left unwritable. What can't be removed stays."""

    def unlock(function: object, path: str, error: object) -> None:
        parent = Path(path).parent
        for locked in (parent, Path(path)):
            try:
                if locked.is_dir() and not locked.is_symlink():
                    locked.chmod(stat.S_IRWXU)
            except OSError:
                return

    for _ in range(MOST_LOCKED_LEVELS):
        shutil.rmtree(folder, onerror=unlock)
        if not folder.exists():
            return


def _host_label() -> str:
    """The host's name as far as a worker's id may hold it."""
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in socket.gethostname())
    return name.lstrip("._-")[:80] or "worker"


def _line(each: Incarnation) -> str:
    return json.dumps({"incarnation": each.id.hex(), "boot_id": each.boot_id}) + "\n"


def _replace(file: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    fresh = file.with_name(file.name + ".new")
    fresh.write_text(text)
    fresh.replace(file)
