"""The data folder of an embedded PostgreSQL: its one owner, its secrets, and what a killed owner left in it.

`owner` is locked while somebody runs it and holds the pid; `password` has mode 0600;
`port` and `binaries` are notes to the next start; `postgres.log`; `data` is the
cluster itself, and `data.new` one whose making was interrupted.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
import signal
from pathlib import Path
from typing import BinaryIO

from farhand.runtime.postgres_processes import number_in, send, servers_in
from farhand.runtime.service import StartupError

_ORPHAN_SECONDS = 10.0  # a fast shutdown writes a checkpoint
_LARGEST_LOG = 10 * 1024 * 1024  # bytes, when a start begins a new one

log = logging.getLogger(__name__)


class DataFolder:
    """One folder, and who may use it."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.cluster = self.path / "data"
        self.draft = self.path / "data.new"
        self.port_note = self.path / "port"
        self.binaries_note = self.path / "binaries"
        self._log = self.path / "postgres.log"
        self._password = self.path / "password"
        self._owner: int | None = None

    def lock(self) -> None:
        """Become its owner, making it where it is missing; StartupError names the pid of another owner."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path / "owner", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StartupError(f"The data folder {self.path} can't be used: {error.strerror}.") from None
        try:
            # The kernel drops it when we end, however we end; servers don't inherit the descriptor.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise StartupError(
                f"The data folder {self.path} is in use by process {pid}. Stop that one, or choose another folder."
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._owner = descriptor

    def unlock(self) -> None:
        """Stop being its owner."""
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None

    def new_password(self) -> None:
        """Choose the superuser's password; only for a cluster that is about to be made."""
        self._password.unlink(missing_ok=True)
        descriptor = os.open(self._password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(24) + "\n")

    @property
    def password(self) -> str:
        """The superuser's password."""
        return self._password.read_text().strip()

    def check_version(self, binaries: Path) -> None:
        """StartupError where the cluster was written by another major version than these binaries'."""
        had = (self.cluster / "PG_VERSION").read_text().strip()
        # The catalogue's bootstrap file begins with "# PostgreSQL 18".
        with (binaries / "share" / "postgres.bki").open(encoding="utf-8") as catalogue:
            has = catalogue.readline().split()[-1]
        if had != has:
            raise StartupError(
                f"The data in {self.cluster} were written by PostgreSQL {had}, this is {has}. "
                "Dump them with the old version and load them with this one, or choose another folder."
            )

    def accepts(self, pid: int) -> bool:
        """Whether the server with this pid is ready for connections: the last line of its pid file says so."""
        try:
            lines = (self.cluster / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"

    async def clear_orphans(self) -> None:
        """Wait for servers that lost their owner to end; remove the pid file that a killed one leaves.

        We hold the lock, so whoever runs here has no owner. PostgreSQL itself only
        looks whether *some* process has the pid in that file.
        """
        if Path("/proc/self").exists():
            for folder in (self.cluster, self.draft):
                if folder.exists():
                    await self._clear(folder)

    async def _clear(self, folder: Path) -> None:
        pid_file = folder / "postmaster.pid"
        orphans = servers_in(folder)
        if orphans:
            log.info("waiting for the server of a killed owner to end", extra={"pids": sorted(orphans)})
            leader = number_in(pid_file)
            if leader in orphans:
                send(leader, signal.SIGINT)
        for number in (signal.SIGQUIT, signal.SIGKILL, None):
            if await self._deserted(folder):
                pid_file.unlink(missing_ok=True)
                return
            if number is not None:
                for pid in servers_in(folder):
                    send(pid, number)
        pids = ", ".join(str(pid) for pid in sorted(servers_in(folder)))
        raise StartupError(f"The processes {pids} still use {folder} and can't be ended.")

    @staticmethod
    async def _deserted(folder: Path) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ORPHAN_SECONDS):
                while servers_in(folder):  # noqa: ASYNC110  # others' children: nothing signals their end
                    await asyncio.sleep(0.02)
                return True
        return False

    def open_log(self) -> BinaryIO:
        """Where the server's own words go."""
        long = self._log.exists() and self._log.stat().st_size > _LARGEST_LOG
        return self._log.open("wb" if long else "ab")

    def last_words(self) -> str:
        """What the server's log ends with, in one line."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        lines = [line for line in text.splitlines() if line.strip()]
        return f"{' / '.join(lines[-3:])[-400:]} (log: {self._log})"
