"""ProcessControl on Linux: launches the warden and speaks with it.

The two pipes of a run are made here, and their writing ends travel to the
warden with the order to start. So it is this process that meets the limit of
open files first, at a point where one run can be refused and nothing else is
disturbed.

One task reads the socket, one writes it. When the warden dies its keepers kill
their runs; what could still be left (somebody killed the keepers as well) is
looked for by the mark in its environment, and only then `dead` is set.
"""

import asyncio
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from farhand.runtime.service import StartupError
from farhand.worker.pipe_reader import PipeReader
from farhand.worker.process_control import NothingMayRun, ProcessEnd, ProcessSpec, ProcessStartError
from farhand.worker.warden import frames, tree, undo

RUN_MARK = "FARHAND_RUN_ID"
"""The variable that every process of a run finds in its environment, unless it was removed on the way.

Job ids are the same in every installation, and several may share a host: a warden's runs bear a random word, too.
"""

_WARDEN = Path(__file__).parent / "warden" / "__main__.py"
_LAUNCH_TIMEOUT = 30.0  # seconds until a warden says "ready"; an overloaded machine takes some
_CLOSE_TIMEOUT = 10.0  # seconds that it may take to kill everything, before it is killed itself
_SWEEPS = 20  # looks for what a dead warden and its keepers left

log = logging.getLogger(__name__)


class WardenRun:
    """A RunningProcess under the warden."""

    def __init__(
        self, spec: ProcessSpec, control: "WardenProcessControl", stdout: PipeReader, stderr: PipeReader
    ) -> None:
        self._run_id = spec.run_id
        self._undo = spec.undo
        self._control = control
        self._pipes = (stdout, stderr)
        self.stdout = stdout.stream
        self.stderr = stderr.stream
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._end: asyncio.Future[ProcessEnd] = asyncio.get_running_loop().create_future()

    async def wait(self) -> ProcessEnd:
        """See RunningProcess.wait."""
        return await asyncio.shield(self._end)

    async def kill(self, grace: float) -> None:
        """See RunningProcess.kill."""
        if not self._end.done():
            self._control.order({"do": "kill", "run": self._run_id, "grace": grace})

    def ended(self, end: ProcessEnd) -> None:
        """Nothing of the run is left."""
        self._end.set_result(end)
        for pipe in self._pipes:
            pipe.run_ended()

    async def lost(self) -> None:
        """The warden is gone, and nothing of the run is left here. Its keeper may take back the rest, or be dead."""
        why = ""
        if self._undo is not None and undo.is_due(request := undo.read(asdict(self._undo))):
            why = await asyncio.to_thread(undo.carry_out, request, cut_off=True)
        self.ended(ProcessEnd(exit_code=-signal.SIGKILL, fenced=True, not_undone=why))

    def abandon(self) -> None:
        """Nobody will read what it writes."""
        for pipe in self._pipes:
            pipe.close()


class WardenProcessControl:
    """The ProcessControl of a worker on Linux. Make one with `launch`."""

    def __init__(self, process: "subprocess.Popen[bytes]", channel: socket.socket) -> None:
        self._process = process
        self._channel = channel
        self._runs: dict[str, WardenRun] = {}
        self._word = secrets.token_hex(8)
        self._outbox: asyncio.Queue[tuple[bytes, Sequence[int]]] = asyncio.Queue()
        self._ready = asyncio.Event()
        self.dead = asyncio.Event()
        self._reader = asyncio.create_task(self._read(), name="warden reader")
        self._writer = asyncio.create_task(self._write(), name="warden writer")

    @classmethod
    async def launch(cls, lock: int | None = None) -> Self:
        """Start a warden. Raises StartupError where this platform has none, or it can't run.

        `lock`: a descriptor that the warden and its keepers hold until they end, as their stdin, and no
        program inherits. Whoever gets a flock on it knows that nothing of this worker is left.
        """
        if sys.platform != "linux":
            raise StartupError(
                f"a worker needs Linux, and this is {sys.platform}: only there can it promise that no process of a "
                "job outlives the job's lease. Run the worker in a Linux machine or container."
            )
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            # A few milliseconds, once; the new session keeps a terminal's Ctrl-C from it.
            try:
                process = subprocess.Popen(  # noqa: ASYNC220
                    [sys.executable, "-I", "-S", "-X", "utf8", str(_WARDEN), str(theirs.fileno())],
                    stdin=subprocess.DEVNULL if lock is None else lock,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise StartupError(f"the worker's warden can't be started: {error}") from error
        control = cls(process, ours)
        try:
            async with asyncio.timeout(_LAUNCH_TIMEOUT):
                await control._ready.wait()
        except TimeoutError:
            await control.close()
        except asyncio.CancelledError:
            process.kill()
            await control.close()
            raise
        if control.dead.is_set():
            raise StartupError(
                f"the worker's warden can't run ({sys.executable} {_WARDEN} ended with exit code "
                f"{process.returncode}); what it printed above says why"
            )
        return control

    @property
    def pid(self) -> int:
        """The warden's process id."""
        return self._process.pid

    def mark(self, run_id: str) -> str:
        """The value of RUN_MARK for a run."""
        return f"{run_id}.{self._word}"

    async def start(self, spec: ProcessSpec) -> WardenRun:
        """See ProcessControl.start."""
        if self._reader.done() or self.dead.is_set():
            raise NothingMayRun("the warden is dead")
        if spec.run_id in self._runs:
            raise ValueError(f"run {spec.run_id} runs already")
        run, written = self._open_pipes(spec)
        self._runs[spec.run_id] = run
        message = {
            "do": "start",
            "run": spec.run_id,
            "argv": list(spec.argv),
            "env": {**spec.env, RUN_MARK: self.mark(spec.run_id)},
            "cwd": str(spec.cwd),
            "undo": None if spec.undo is None else asdict(spec.undo),
        }
        self._outbox.put_nowait((frames.encode(message), written))
        try:
            await asyncio.shield(run.started)
        except asyncio.CancelledError:
            # Whoever asked is gone, so nobody would ever end it.
            run.abandon()
            self.order({"do": "kill", "run": spec.run_id, "grace": 0})
            raise
        except BaseException:
            run.abandon()
            raise
        return run

    async def set_deadline(self, boottime: float) -> None:
        """See ProcessControl.set_deadline."""
        self.order({"do": "deadline", "at": boottime})

    async def close(self) -> None:
        """See ProcessControl.close."""
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await asyncio.shield(self._reader)
        except TimeoutError:
            log.warning("the warden does not end by itself and is killed", extra={"warden_pid": self.pid})
            self._process.kill()
            await self._reader

    def order(self, message: dict[str, Any]) -> None:
        """Send a frame after those that were sent before. A dead warden hears nothing."""
        if not self.dead.is_set():
            self._outbox.put_nowait((frames.encode(message), ()))

    def _open_pipes(self, spec: ProcessSpec) -> tuple[WardenRun, tuple[int, int]]:
        opened: list[int] = []
        try:
            opened += os.pipe()
            opened += os.pipe()
        except OSError as error:
            for fd in opened:
                os.close(fd)
            raise ProcessStartError(
                f"the worker has too many files open ({error.strerror}): run fewer slots, or raise `ulimit -n`"
            ) from error
        out_read, out_write, err_read, err_write = opened
        return WardenRun(spec, self, PipeReader(out_read), PipeReader(err_read)), (out_write, err_write)

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            frame, descriptors = await self._outbox.get()
            try:
                sent = await self._send_with(frame, descriptors) if descriptors else 0
                await loop.sock_sendall(self._channel, memoryview(frame)[sent:])
            except (BrokenPipeError, ConnectionResetError):
                return  # the reader meets the same end, and tells
            finally:
                for fd in descriptors:
                    os.close(fd)

    async def _send_with(self, frame: bytes, descriptors: Sequence[int]) -> int:
        """Send the beginning of a frame, and the descriptors with it; returns how many bytes went."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                return socket.send_fds(self._channel, [frame], list(descriptors))
            except BlockingIOError:
                room = asyncio.Event()
                loop.add_writer(self._channel, room.set)
                try:
                    await room.wait()
                finally:
                    loop.remove_writer(self._channel)

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        decoder = frames.Decoder()
        try:
            while data := await loop.sock_recv(self._channel, 262_144):
                for message in decoder.feed(data):
                    self._hear(message)
        except ConnectionResetError:
            pass
        except frames.TornStream as error:
            log.error("the warden can't be understood and is given up: %s", error)
        finally:
            await self._bury()

    def _hear(self, message: dict[str, Any]) -> None:
        if message["is"] == "ready":
            self._ready.set()
            return
        run = self._runs[message["run"]]
        match message["is"]:
            case "started":
                if not run.started.done():
                    run.started.set_result(None)
            case "refused":
                del self._runs[message["run"]]
                error = (NothingMayRun if message["fenced"] else ProcessStartError)(message["why"])
                run.started.set_exception(error)
                run.started.exception()  # seen, also where the starter was cancelled and asks no more
            case "ended":
                del self._runs[message["run"]]
                run.ended(ProcessEnd(message["code"], message["fenced"], message["not_undone"]))

    async def _bury(self) -> None:
        """The warden is gone: see that its runs are too, then tell everybody."""
        self._writer.cancel()
        await asyncio.wait([self._writer])
        while not self._outbox.empty():
            for fd in self._outbox.get_nowait()[1]:
                os.close(fd)
        self._channel.close()
        await asyncio.to_thread(self._process.wait)
        if self._runs:
            await asyncio.to_thread(_kill_marked, [self.mark(run_id) for run_id in self._runs])
        for run in self._runs.values():
            if not run.started.done():
                run.started.set_exception(NothingMayRun("the warden died"))
                run.started.exception()
        await asyncio.gather(*(run.lost() for run in self._runs.values()))
        self._runs.clear()
        self.dead.set()
        self._ready.set()


def _kill_marked(marks: Sequence[str]) -> None:
    """Kill what still carries the mark of one of these runs, anywhere on this host, until none is found."""
    for _ in range(_SWEEPS):
        left = list(tree.marked(RUN_MARK, marks))
        if not left:
            return
        for process in left:
            tree.send(process, signal.SIGKILL)
