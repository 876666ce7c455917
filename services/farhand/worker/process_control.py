"""The port behind which every job's process runs.

A worker never starts a process itself. It asks a `ProcessControl`, and whoever
implements that answers for one promise (design.md, rule 7; P1): nothing that it
started outlives the deadline it was given, nor the worker, however the worker
ends (SIGTERM, kill -9, SIGSTOP, stuck).

Linux has `farhand.worker.warden_client`. Another platform is another
implementation of these protocols (Windows: a Job Object; macOS: none is known
that keeps the promise), and a worker on a platform without one refuses to start.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Undo:
    """One HTTP request that takes back what a program began elsewhere, such as the deletion of a container.

    It is sent when nothing of the program is left, however it ended, and may find nothing to do: any 2xx and 404
    mean that it is done. `socket` is the path of a unix socket, `target` a path with its query, `seconds` how long
    to try, `what` names the thing for people. `begun` is the path of a file that the program makes just before it
    begins; without it there is nothing to take back. Empty: it has begun.
    """

    what: str
    socket: str
    method: str
    target: str
    begun: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One program to run.

    `run_id` names the run for its whole life and is never used twice by one worker process
    (job id and fence together serve). `argv[0]` is looked up in `env["PATH"]` where it has no
    slash. `env` is the complete environment: nothing is inherited. `cwd` must exist. `undo`: see there.
    """

    run_id: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    undo: Undo | None = None


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """How a run ended. By then every process of its tree is gone, and its undo is carried out.

    `exit_code` is the main process's; negative is the signal that ended it (-15: SIGTERM).
    `fenced`: it was killed because the deadline had come, or was lost with its warden (then
    `exit_code` is -9). The lease may be gone, so such an end is no result: report none.
    `not_undone`: why its undo could not be carried out; "" where it was, or there was none.
    """

    exit_code: int
    fenced: bool
    not_undone: str = ""


class ProcessStartError(Exception):
    """The program can't be run (missing, not executable, no such folder): the job's own fault.

    `message` is one line for the job's log.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class NothingMayRun(Exception):
    """No deadline was set yet, it has passed, or the warden is dead. Not the job's fault: report no result."""


class RunningProcess(Protocol):
    """A started run. Read both pipes to their end, always: a full pipe stops the program."""

    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader

    async def wait(self) -> ProcessEnd:
        """The end, once the main process and all that it left behind are gone. May be called often.

        Output may still be unread then; both pipes reach end-of-file by themselves.
        """
        ...

    async def kill(self, grace: float) -> None:
        """Ask the whole tree to end: SIGTERM now, SIGKILL to what is left after `grace` seconds.

        Returns once it is asked; `wait` tells the end. Never reaches beyond the deadline. Called
        again, the earlier SIGKILL counts, and SIGTERM is not repeated. After the end: nothing.
        """
        ...


class ProcessControl(Protocol):
    """Starts processes, and ends them at the deadline."""

    dead: asyncio.Event
    """Set when the warden died, or was closed. Every run has ended by then, those still alive as fenced."""

    async def start(self, spec: ProcessSpec) -> RunningProcess:
        """Start the program.

        Raises ProcessStartError where it can't be run, NothingMayRun where none may.
        """
        ...

    async def set_deadline(self, boottime: float) -> None:
        """Everything is killed at `boottime` (seconds of CLOCK_BOOTTIME), whatever the caller does by then.

        The caller only ever moves it forward; an earlier one than before is ignored. Before the
        first call nothing may run. After a deadline has passed, a later one opens for new runs.
        """
        ...

    async def close(self) -> None:
        """Kill all that runs and end the warden. Returns when both are gone. May be called often."""
        ...
