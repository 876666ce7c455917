"""A PostgreSQL of our own on this machine: one data folder, one owner, a URL that stays.

    async with EmbeddedPostgres(Path("~/.local/share/farhand/postgres").expanduser()) as postgres:
        postgres.url

The server ends with its owner, even with one that is killed with -9, and what a
killed owner left behind is cleared up by the next (postgres_folder.py). A server
that dies by itself is started again on its port.

`python -m farhand.runtime.embedded_postgres --data FOLDER [--port N]` runs it in the
foreground; its ready line has "url" and "address". For the server's extra only.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from farhand.runtime import postgres_binaries, postgres_launch
from farhand.runtime.postgres_binaries import OtherUser
from farhand.runtime.postgres_folder import DataFolder
from farhand.runtime.postgres_processes import any_free_port, is_free, number_in
from farhand.runtime.service import Lifecycle, StartupError, run
from farhand.runtime.settings import LogSettings, parse, setting

_HOST = "127.0.0.1"
_USER = "farhand"
_DATABASE = "postgres"
_START_SECONDS = 300.0  # recovery after a crash reads all that was written since the last checkpoint
_STOP_SECONDS = 30.0  # a fast shutdown writes a checkpoint
_SETTINGS = (
    f"--listen_addresses={_HOST}",
    "--unix_socket_directories=",
    "--timezone=UTC",
    "--log_timezone=UTC",
    # Nobody replicates from it.
    "--wal_level=minimal",
    "--max_wal_senders=0",
    # Reads come from memory here: processes for asynchronous reads would only sit there.
    "--io_method=sync",
)

log = logging.getLogger(__name__)


class EmbeddedPostgres:
    """Runs a PostgreSQL server while its `async with` block runs."""

    def __init__(self, data_folder: Path, port: int = 0, *, fsync: bool = True) -> None:
        """port: 0 takes the port of the last time, or any free one. fsync: off only for tests."""
        self._folder = DataFolder(data_folder)
        self._wanted_port = port
        self._fsync = fsync
        self._user: OtherUser | None = None
        self._binaries: Path | None = None
        self._server: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """postgresql://USER:PASSWORD@127.0.0.1:PORT/DATABASE; the same after a restart unless the port was taken."""
        return f"postgresql://{_USER}:{self._folder.password}@{_HOST}:{self._port}/{_DATABASE}"

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"{_HOST}:{self._port}"

    async def __aenter__(self) -> "EmbeddedPostgres":
        """Ready for connections. StartupError where the folder has an owner, the port is taken, or it can't start."""
        self._folder.lock()
        try:
            self._user = OtherUser.needed()
            await self._folder.clear_orphans()
            self._find_binaries()
            await self._make_cluster()
            await self._start(self._choose_port())
            self._watcher = asyncio.create_task(self._keep_running(), name="embedded postgres")
        except BaseException:
            await self._release()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._release()

    async def _release(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait({self._watcher})
            self._watcher = None
        await self._stop()
        if self._binaries is not None:
            postgres_binaries.remove_copy(self._binaries)
            self._folder.binaries_note.unlink(missing_ok=True)
            self._binaries = None
        self._folder.unlock()

    def _find_binaries(self) -> None:
        original = postgres_binaries.installed()
        note = self._folder.binaries_note
        if note.exists():  # of an owner that was killed
            postgres_binaries.remove_copy(Path(note.read_text().strip()))
            note.unlink()
        if self._user is None or self._user.reaches(original / "bin"):
            self._binaries = original
            return
        self._binaries = postgres_binaries.linked_copy(original)
        note.write_text(f"{self._binaries}\n")

    async def _make_cluster(self) -> None:
        """initdb beside its final place, then a rename: what a kill interrupts is not taken for a cluster."""
        assert self._binaries is not None
        if self._folder.cluster.exists():
            self._folder.check_version(self._binaries)
            return
        draft = self._folder.draft
        if draft.exists():
            shutil.rmtree(draft)
        draft.mkdir(mode=0o700)
        if self._user is not None:
            os.chown(draft, self._user.uid, self._user.gid)
        self._folder.new_password()
        with (
            _password_pipe(self._folder.password, self._user) as standard_input,
            _reach(draft, self._user) as (place, fds),
        ):
            process = await self._launch(
                signal.SIGKILL,
                "initdb",
                f"--pgdata={place}",
                f"--username={_USER}",
                "--pwfile=/dev/stdin",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-instructions",
                stdin=standard_input,
                pass_fds=fds,
            )
        try:
            code = await process.wait()
        except BaseException:
            process.kill()
            raise
        if code != 0:
            raise StartupError(f"PostgreSQL's initdb failed: {self._folder.last_words()}")
        draft.rename(self._folder.cluster)

    def _choose_port(self) -> int:
        if self._wanted_port:
            if not is_free(_HOST, self._wanted_port):
                raise StartupError(
                    f"Port {self._wanted_port} on {_HOST} is in use. Stop the other process, or choose another --port."
                )
            return self._wanted_port
        last = number_in(self._folder.port_note)
        return last if last is not None and is_free(_HOST, last) else any_free_port(_HOST)

    async def _start(self, port: int) -> None:
        assert self._binaries is not None
        with _reach(self._folder.cluster, self._user) as (place, fds):
            server = await self._launch(
                signal.SIGINT,  # to a postmaster: a fast shutdown
                "postgres",
                "-D",
                place,
                *_SETTINGS,
                f"--port={port}",
                f"--fsync={'on' if self._fsync else 'off'}",
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=fds,
            )
        self._server = server
        ended = asyncio.ensure_future(server.wait())
        try:
            async with asyncio.timeout(_START_SECONDS):
                while not self._folder.accepts(server.pid):
                    await asyncio.wait({ended}, timeout=0.01)
                    if ended.done():
                        raise StartupError(f"PostgreSQL ended at its start: {self._folder.last_words()}")
        except TimeoutError:
            raise StartupError(
                f"PostgreSQL was not ready within {_START_SECONDS:.0f} s: {self._folder.last_words()}"
            ) from None
        finally:
            ended.cancel()
        self._port = port
        self._folder.port_note.write_text(f"{port}\n")

    async def _keep_running(self) -> None:
        while True:
            assert self._server is not None
            code = await self._server.wait()
            log.error("PostgreSQL ended by itself; starting it again", extra={"exit_code": code})
            pause = 0.1
            while True:
                try:
                    await self._folder.clear_orphans()
                    await self._start(self._port)
                except (StartupError, OSError) as error:
                    log.error("PostgreSQL does not start", extra={"reason": str(error)})
                    await self._stop()
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 5.0)
                else:
                    log.info("PostgreSQL runs again", extra={"address": self.address})
                    break

    async def _stop(self) -> None:
        server, self._server = self._server, None
        if server is None or server.returncode is not None:
            return
        for number, seconds in ((signal.SIGINT, _STOP_SECONDS), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                server.send_signal(number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.wait(), seconds)
                return
            log.warning("PostgreSQL does not end", extra={"signal": number.name})

    async def _launch(
        self, when_parent_dies: signal.Signals, program: str, *arguments: str, stdin: int, pass_fds: tuple[int, ...]
    ) -> asyncio.subprocess.Process:
        assert self._binaries is not None
        user = self._user
        with self._folder.open_log() as output:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                postgres_launch.__file__,
                str(os.getpid()),
                str(int(when_parent_dies)),
                str(-1 if user is None else user.uid),
                str(-1 if user is None else user.gid),
                str(self._binaries / "bin" / program),
                *arguments,
                stdin=stdin,
                stdout=output,
                stderr=output,
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
                pass_fds=pass_fds,
                # A Ctrl-C in the terminal is for the owner, who stops it when all others have ended.
                start_new_session=True,
            )


@contextlib.contextmanager
def _password_pipe(password: str, user: OtherUser | None) -> Iterator[int]:
    """The reading end of a pipe that holds the password, for whoever initdb runs as."""
    reading, writing = os.pipe()
    try:
        if user is not None:
            os.fchown(reading, user.uid, user.gid)
        os.write(writing, password.encode())
        os.close(writing)
        yield reading
    finally:
        os.close(reading)


@contextlib.contextmanager
def _reach(folder: Path, user: OtherUser | None) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A path by which the server finds the folder, and the descriptors that it has to inherit for that.

    Another user may own the folder and yet not get there, when it lies under /root.
    A descriptor that root opened leads there without the folders on the way.
    """
    if user is None:
        yield str(folder), ()
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}", (descriptor,)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, kw_only=True)
class Settings(LogSettings):
    """Settings of the process that runs an embedded PostgreSQL."""

    data: Path = setting(..., "folder for the database; made where it is missing", kind=Path)
    port: int = setting(0, "port on 127.0.0.1; 0: the one of last time, or any", kind=int)
    fsync: bool = setting(True, "wait for the disk at each commit; off only for tests")


async def serve(settings: Settings, lifecycle: Lifecycle) -> None:
    """Run it until the process is asked to stop."""
    async with EmbeddedPostgres(settings.data, settings.port, fsync=settings.fsync) as postgres:
        lifecycle.ready(url=postgres.url, address=postgres.address)
        await lifecycle.stopping.wait()


def main() -> None:
    """The command line."""
    settings = parse(
        Settings,
        sys.argv[1:],
        prog="python -m farhand.runtime.embedded_postgres",
        description="Runs a PostgreSQL server of its own for Farhand, on 127.0.0.1, until it is stopped.",
        examples=["python -m farhand.runtime.embedded_postgres --data ./postgres --port 5433"],
    )
    run("postgres", settings, lambda lifecycle: serve(settings, lifecycle))


if __name__ == "__main__":
    main()
