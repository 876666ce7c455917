"""One run of one task: what the task is given, and what ends it from outside.

The task's own coroutine runs beside this one. A kill or a timeout ends its
process, or cancels it where it has none just then; whatever it raises becomes an
outcome. So a run always ends, and always says how.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote

from farhand.api.types.v1 import log_record_pb2
from farhand.kernel.durations import format_duration
from farhand.kernel.expressions import ExpressionError
from farhand.runtime.crash_points import reach
from farhand.worker.core.slots import JobKey
from farhand.worker.log_lines import LineSplitter, text_of
from farhand.worker.masking import Mask
from farhand.worker.process_control import (
    NothingMayRun,
    ProcessControl,
    ProcessSpec,
    ProcessStartError,
    RunningProcess,
    Undo,
)
from farhand.worker.rendering import rendered
from farhand.worker.run_files import WorkerFiles
from farhand.worker.run_log import RunLog
from farhand.worker.runners import Command, CommandEnd, Program
from farhand.worker.runners.hosted import read_end
from farhand.worker.runners.process import ProcessRunner
from farhand.worker.tasks.base import Level, LineFilter, Outcome, OutcomeState, RendersLater, RunBy, TaskType, failed
from farhand.worker.tasks.output_limit import check_size
from farhand.worker.tasks.properties import invalid
from farhand.worker.undo_notes import UndoNotes

log = logging.getLogger(__name__)

_LEVELS = {level: log_record_pb2.LogLevel.Value(f"LOG_LEVEL_{level}") for level in Level}
TIMEOUT_GRACE = 10.0  # seconds from TERM to KILL, where nobody said otherwise
CHUNK = 64 * 1024


class Stop(IntEnum):
    """Why a run is ended from outside; the highest that was given counts."""

    TIMEOUT = 1  # it ran too long
    KILLED = 2  # somebody asked for it
    UNWANTED = 3  # nobody wants its result: it is another's now, or the worker stops
    LEASE = 4  # the lease ran out


class Fenced(Exception):
    """The run may not go on: its lease ran out, or the warden is gone. It has no result."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended. `in_time`: it is known that it ended while the lease stood, so the outcome counts."""

    outcome: Outcome
    in_time: bool
    seconds: float


class Run:
    """The TaskContext of one run."""

    def __init__(
        self,
        key: JobKey,
        properties: Mapping[str, Any],
        *,
        context: Mapping[str, Any] | None,
        envs: Mapping[str, str],
        timeout: float | None,
        env: Mapping[str, str],
        run_log: RunLog,
        mask: Mask,
        control: ProcessControl,
        process_runner: ProcessRunner,
        undo_notes: UndoNotes,
        folders: Path,
        lease_stands: Callable[[], bool],
        files: WorkerFiles,
    ) -> None:
        """`context`: what the properties' templates may name, beside `envs`; None: they are taken as they are.
        `mask`: what must not come into the outcome, nor into `run_log`, which has it too.

        `process_runner` says what a process on this machine sees. `folders`: where the run's own folder is made, if
        it asks for one.
        """
        self.key = key
        self.properties = properties
        self.env = env
        self.files = files.of(key, self.log)
        self._to_be_rendered = context is not None
        self.scope: Mapping[str, Any] = {} if context is None else {**context, "envs": envs}
        name = f"{quote(key[0], safe='')}-{key[1]}"
        self.folder_path = folders / name
        self.private_path = folders / f"{name}.runner"  # see Command.private
        self._timeout = timeout
        self._log = run_log
        self._mask = mask
        self._control = control
        self._process_runner = process_runner
        self._undo_notes = undo_notes
        self._lease_stands = lease_stands
        self._body: asyncio.Task[Outcome] | None = None
        self._stop: Stop | None = None
        self._grace = 0.0
        self._starting = False
        self._process: RunningProcess | None = None
        self._processes = 0
        self._fenced = False
        self._ended_in_time = False  # a process of it ended, and before the deadline
        self._orders: set[asyncio.Task[None]] = set()

    # ── what the agent does with it ──

    async def live(self, task_type: TaskType) -> Ending:
        """Run the task to its end. Never raises, but for being cancelled itself."""
        started = time.monotonic()
        outcome = self._mask.outcome(await self._outcome(task_type))
        if not self._fenced and not self._ended_in_time:
            self._fenced = not self._lease_stands()
        return Ending(outcome, in_time=not self._fenced, seconds=time.monotonic() - started)

    def stop(self, why: Stop, grace: float) -> None:
        """End it: TERM now, KILL after the grace. Called again, the shorter grace and the stronger reason count."""
        if self._stop is None or why > self._stop:
            self._stop = why
        self.files.stop()
        self._grace = grace
        if self._process is not None:
            self._order_kill(self._process, grace)
        elif not self._starting and self._body is not None:
            self._body.cancel()

    def lease_lost(self) -> None:
        """The deadline has passed. The warden ends a process, and tells whether it ended before; the rest ends here."""
        if self._process is None:
            self.stop(Stop.LEASE, 0.0)

    def give_away(self) -> None:
        """The scheduler says that the lease is over, whatever the deadline: end it, and have no result."""
        self._fenced = True
        self.stop(Stop.LEASE, 0.0)

    # ── what the task does with it ──

    def log(self, text: str, level: Level = Level.WARN) -> None:
        """See TaskContext.log."""
        self._log.system(text, _LEVELS[level])

    def say(self, text: str, level: Level = Level.INFO) -> None:
        """See TaskContext.say."""
        lines = text.encode("utf-8", "replace").splitlines() or [b""]
        self._log.output(log_record_pb2.LOG_STREAM_STDOUT, lines, _LEVELS[level])

    def folder(self) -> Path:
        """See TaskContext.folder."""
        self.folder_path.mkdir(mode=0o700, exist_ok=True)
        return self.folder_path

    async def run_process(
        self, argv: Sequence[str], *, env: Mapping[str, str], on_stdout: LineFilter | None = None
    ) -> int:
        """See TaskContext.run_process."""
        end = await self.run_command(argv, env=env, by=RunBy(self._process_runner, {}), on_stdout=on_stdout)
        assert end.exit_code is not None
        return end.exit_code

    async def run_command(
        self, argv: Sequence[str], *, env: Mapping[str, str], by: RunBy, on_stdout: LineFilter | None = None
    ) -> CommandEnd:
        """See TaskContext.run_command."""
        self._processes += 1
        run_id = f"{self.key[0]}-{self.key[1]}" + (f".{self._processes}" if self._processes > 1 else "")
        folder = self.folder()
        private = self.private_path / str(self._processes)
        command = Command(run_id, tuple(argv), env, folder, private, by.image, tuple(by.output_files))
        program = by.runner.program(command, by.properties)
        exit_code = await self._run_program(program, command, on_stdout)
        if program.ending is None:
            return CommandEnd(exit_code)
        return read_end(program.ending, exit_code, killed=self._stop is not None)

    # ── inside ──

    async def _run_program(self, program: Program, command: Command, on_stdout: LineFilter | None) -> int:
        self._starting = True
        try:
            if program.files:
                command.private.mkdir(mode=0o700, parents=True)
            for name, text in program.files.items():
                (command.private / name).write_text(text, encoding="utf-8")
            reach("folder made")
            spec = ProcessSpec(command.run_id, program.argv, program.env, command.folder, program.undo)
            if program.undo is not None:
                self._undo_notes.write(command.run_id, program.undo)
            process = await self._control.start(spec)
            reach("process started")
        except NothingMayRun as error:
            self._note_undo(command.run_id, program.undo, "")
            raise Fenced(str(error)) from None
        except ProcessStartError:
            self._note_undo(command.run_id, program.undo, "")
            raise
        finally:
            self._starting = False
        self._process = process
        try:
            if self._stop is not None:
                await process.kill(self._grace)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(process.stdout, log_record_pb2.LOG_STREAM_STDOUT, on_stdout))
                pumps.create_task(self._pump(process.stderr, log_record_pb2.LOG_STREAM_STDERR, None))
            end = await process.wait()
            reach("process ended")
        except BaseException:
            await process.kill(0.0)
            raise
        finally:
            self._process = None
        self._note_undo(command.run_id, program.undo, end.not_undone)
        if end.fenced or self._stop is Stop.LEASE:
            raise Fenced
        self._ended_in_time = True
        return end.exit_code

    def _note_undo(self, run_id: str, undo: Undo | None, not_undone: str) -> None:
        if undo is None:
            return
        if not not_undone:
            self._undo_notes.done(run_id)
            return
        self._undo_notes.left(run_id)
        message = f"{undo.what} could not be removed: {not_undone}. This worker tries again until it is"
        self.log(message, Level.ERROR)
        log.warning(message, extra={"job": self.key[0], "fence": self.key[1]})

    async def _outcome(self, task_type: TaskType) -> Outcome:
        timer: asyncio.TimerHandle | None = None
        self._body = asyncio.create_task(self._checked(task_type), name=f"task {self.key[0]}")
        try:
            if self._timeout:
                timer = asyncio.get_running_loop().call_later(self._timeout, self.stop, Stop.TIMEOUT, TIMEOUT_GRACE)
            if self._stop is not None:
                self.stop(self._stop, self._grace)
            await asyncio.wait([self._body])
        finally:
            if timer is not None:
                timer.cancel()
            if not self._body.done():
                self._body.cancel()
        if self._body.cancelled():
            # Its process may have ended in time, but not what followed, such as storing its files.
            self._fenced |= self._stop is Stop.LEASE
            outcome = failed("INTERNAL", "the task was cancelled")
        elif (error := self._body.exception()) is not None:
            outcome = self._failure(error)
        else:
            outcome = self._body.result()
        return self._as_stopped(outcome)

    async def _checked(self, task_type: TaskType) -> Outcome:
        if self._to_be_rendered:
            later = task_type.later if isinstance(task_type, RendersLater) else ()
            try:
                self.properties = await rendered(self.properties, self.scope, self._mask.rendered, later)
            except ExpressionError as error:
                self.log(error.message, Level.ERROR)
                return failed("EXPRESSION_FAILED", error.message)
        if violations := task_type.validate(self.properties):
            outcome = invalid(violations)
            self.log(outcome.message, Level.ERROR)
            return outcome
        outcome = await task_type.run(self)
        if (too_large := check_size(outcome)) is not None:
            self.log(too_large.message, Level.ERROR)
            return too_large
        return outcome

    def _failure(self, error: BaseException) -> Outcome:
        if isinstance(error, Fenced):
            self._fenced = True
            return failed("SELF_FENCED", str(error))
        told = {"job": self.key[0], "fence": self.key[1], "error": self._mask.traceback(error)}
        log.error("a task raised", extra=told)
        message = f"the task failed inside of the worker: {type(error).__name__}: {error}"
        self.log(message, Level.ERROR)
        return failed("INTERNAL", message[:1000])

    def _as_stopped(self, outcome: Outcome) -> Outcome:
        """What the outcome is called when the run was ended from outside; its exit code and outputs stay."""
        if self._stop is Stop.TIMEOUT:
            message = f"the task ran longer than its timeout of {format_duration(self._timeout or 0.0)}"
            if self.files.doing:
                message += f", while {self.files.doing}"
            self.log(message, Level.ERROR)
            return replace(outcome, state=OutcomeState.FAILED, reason="TIMEOUT", message=message)
        if self._stop is not None:
            return replace(outcome, state=OutcomeState.KILLED, reason="KILLED", message="the job was killed")
        return outcome

    def _order_kill(self, process: RunningProcess, grace: float) -> None:
        order = asyncio.create_task(process.kill(grace))
        self._orders.add(order)
        order.add_done_callback(self._orders.discard)

    async def _pump(
        self, pipe: asyncio.StreamReader, stream: log_record_pb2.LogStream.ValueType, on_line: LineFilter | None
    ) -> None:
        """Read a pipe to its end, whatever becomes of what it says: a full pipe would stop the program."""
        splitter = LineSplitter()
        while chunk := await pipe.read(CHUNK):
            self._keep(splitter.feed(chunk), stream, on_line)
        self._keep(splitter.finish(), stream, on_line)

    def _keep(
        self, lines: Sequence[bytes], stream: log_record_pb2.LogStream.ValueType, on_line: LineFilter | None
    ) -> None:
        if on_line is not None:
            # Most lines are none of the task's: only those that may be are decoded for it.
            lines = [line for line in lines if not (line.startswith(b"::{") and on_line(text_of(line)))]
        self._log.output(stream, lines)
