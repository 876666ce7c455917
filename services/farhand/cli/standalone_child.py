"""One service of a standalone, kept running: started, waited for, started again when it dies, stopped.

The service says that it is ready by a line on a pipe (FARHAND_READY_FD), and ends by
itself when the standalone dies (FARHAND_PARENT_DEATH). It is in a session of its own:
a Ctrl-C in the terminal is for the standalone, which stops the services in their order.
"""

import asyncio
import json
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, BinaryIO, Self

from farhand.cli.failure import CommandFailed
from farhand.cli.standalone_output import Output
from farhand.kernel.durations import format_duration

_FIRST_PAUSE = 0.5  # seconds before the first new start; doubles with each that fails
_LONGEST_PAUSE = 30.0
_STEADY = 60.0  # seconds after which a service counts as steady again
_LAST_LINES = 5
_LAST_WORDS = 1.0  # seconds


class Child:
    """A service; `facts` is what its ready line said, last time."""

    def __init__(
        self,
        name: str,
        command: Callable[[], Sequence[str]],
        environment: Callable[[], Mapping[str, str]],
        output: Output,
        remember: Callable[[str, int], None],
    ) -> None:
        """command, environment: asked at each start, since a port is known only after the first.

        remember: told the name and the process id of each start.
        """
        self.name = name
        self.facts: dict[str, Any] = {}
        self._command = command
        self._environment = environment
        self._output = output
        self._remember = remember
        self._process: asyncio.subprocess.Process | None = None
        self._passing_on: asyncio.Task[None] | None = None
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._stopping = False

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Start it and keep it running from now on; returns when it is ready.

        CommandFailed where it ends before that: then it is not started again.
        """
        ready = await self._spawn(tasks)
        line = await ready
        if not line:
            self._stopping = True
            code = await self._ended()
            assert self._passing_on is not None
            await asyncio.wait([self._passing_on], timeout=_LAST_WORDS)
            raise CommandFailed(f"The {self.name} did not start ({_how(code)}).", *self._last_lines)
        self.facts = json.loads(line)
        tasks.create_task(self._keep(tasks))

    async def stop(self, patience: float) -> None:
        """TERM, and KILL after so many seconds; returns when it has ended."""
        self._stopping = True
        if self._process is None:
            return
        self._send(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._ended(), patience)
        except TimeoutError:
            self._output.notice(f"the {self.name} did not stop within {format_duration(patience)}; killing it")
            self._send(signal.SIGKILL)
            await self._ended()
        if self._passing_on is not None:
            # Its last words; whoever else may hold its pipe is not waited for.
            await asyncio.wait([self._passing_on], timeout=_LAST_WORDS)
            self._passing_on.cancel()

    def kill(self) -> None:
        """KILL. Its own children are not forgotten: the warden and PostgreSQL end with their parent."""
        self._stopping = True
        self._send(signal.SIGKILL)

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def _keep(self, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        while True:
            started = loop.time()
            code = await self._ended()
            if self._stopping:
                return
            if loop.time() - started > _STEADY:
                pause = _FIRST_PAUSE
            self._output.notice(f"the {self.name} ended ({_how(code)}); it starts again in {format_duration(pause)}")
            await asyncio.sleep(pause)
            if self._stopping:
                return
            pause = min(pause * 2, _LONGEST_PAUSE)
            ready = await self._spawn(tasks)
            tasks.create_task(self._note_ready(ready))

    async def _note_ready(self, ready: "asyncio.Task[bytes]") -> None:
        if line := await ready:
            self.facts = json.loads(line)
            self._output.notice(f"the {self.name} is back")

    async def _spawn(self, tasks: asyncio.TaskGroup) -> "asyncio.Task[bytes]":
        """Start the process; the task brings its ready line, or b"" when it ended without."""
        with _Pipe() as ready, _Pipe() as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(),
                env={
                    **self._environment(),
                    "FARHAND_READY_FD": str(ready.writer),
                    "FARHAND_PARENT_DEATH": str(os.getpid()),
                },
                pass_fds=[ready.writer],
                stdin=asyncio.subprocess.DEVNULL,
                # Not asyncio's own pipe: with that, wait() waits for whoever inherited it as well.
                stdout=output.writer,
                stderr=output.writer,
                start_new_session=True,
            )
            self._remember(self.name, self._process.pid)
            self._passing_on = tasks.create_task(self._pass_on(output.take()))
            return tasks.create_task(_first_line(ready.take()))

    async def _pass_on(self, pipe: BinaryIO) -> None:
        async with _reading(pipe) as stream:
            rest = b""
            while data := await stream.read(65536):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._line(line)
            if rest:
                self._line(rest)

    def _line(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace")
        self._last_lines.append(text)
        self._output.line(self.name, text)

    async def _ended(self) -> int:
        assert self._process is not None
        return await self._process.wait()

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)


class _Pipe:
    """A pipe whose ends are closed with the block, but for a reading end that was taken."""

    def __enter__(self) -> Self:
        self._reader, self.writer = os.pipe()
        self._taken = False
        return self

    def take(self) -> BinaryIO:
        """The reading end; now the caller's to close."""
        self._taken = True
        return os.fdopen(self._reader, "rb", buffering=0)

    def __exit__(self, *error: object) -> None:
        os.close(self.writer)
        if not self._taken:
            os.close(self._reader)


@asynccontextmanager
async def _reading(pipe: BinaryIO) -> AsyncIterator[asyncio.StreamReader]:
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), pipe
    )
    try:
        yield stream
    finally:
        transport.close()


async def _first_line(pipe: BinaryIO) -> bytes:
    """The first line that comes through a pipe, b"" where none did."""
    async with _reading(pipe) as stream:
        return await stream.readline()


def _how(code: int) -> str:
    """How a process ended, for people."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
