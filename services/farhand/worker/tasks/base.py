"""What a task type is, and what it is given to work with.

A task type is a small class with a name (`type`), a check of its properties and
a coroutine that does the work and says how it ended. Whatever it raises becomes
FAILED with reason INTERNAL; a kill or a timeout ends its processes, or cancels it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Protocol, runtime_checkable

from farhand.kernel.errors import Violation
from farhand.worker.runners import CommandEnd, TaskRunner


class OutcomeState(StrEnum):
    """How a run ended."""

    SUCCESS = "SUCCESS"
    WARNING = "WARNING"
    FAILED = "FAILED"
    KILLED = "KILLED"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a run: a reason (UPPER_SNAKE_CASE, protos/README.md) and a message unless it is a success.

    `outputs` must be JSON: strings without NUL, numbers, booleans, None, lists and dicts.
    """

    state: OutcomeState
    exit_code: int | None = None
    outputs: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    message: str = ""


class Level(StrEnum):
    """How grave a line of the log is."""

    TRACE = "TRACE"
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


SUCCESS = Outcome(OutcomeState.SUCCESS)


def failed(
    reason: str, message: str, *, exit_code: int | None = None, outputs: Mapping[str, Any] | None = None
) -> Outcome:
    """A failure."""
    return Outcome(OutcomeState.FAILED, exit_code, outputs or {}, reason, message)


LineFilter = Callable[[str], bool]
"""Given a line of standard output; True: it is dealt with and is not logged."""


class FileFailed(Exception):
    """A file can't be had, or not be stored, and trying again would not help. The message is for people."""


@dataclass(frozen=True, slots=True)
class NamespaceFile:
    """A file that the job's namespace has, or inherits."""

    namespace: str
    path: str
    digest: str  # SHA-256, hexadecimal
    size: int


class Files(Protocol):
    """The files that a run may fetch and store. Each method waits for a scheduler that is away, and raises
    FileFailed where there is no hope, OSError for this machine's own trouble."""

    @property
    def stopped(self) -> bool:
        """The run is to end: there is no time for files any more."""
        ...

    async def download(self, uri: str, to: Path) -> None:
        """Write what an earlier task stored to `to`, a new file."""
        ...

    async def upload(self, file: BinaryIO, path: str) -> str:
        """Store all of an open file under its path in the folder, and answer its address."""
        ...

    async def namespace_files(self) -> Sequence[NamespaceFile]:
        """Those that there are now, by path."""
        ...

    async def copy_namespace_file(self, file: NamespaceFile, to: Path) -> None:
        """Write one of them to `to`, a new file."""
        ...


@dataclass(frozen=True, slots=True)
class RunBy:
    """A task runner, and what it is told: its checked properties, and the rest as in runners.Command."""

    runner: TaskRunner
    properties: Mapping[str, Any]
    image: str = ""
    output_files: Sequence[str] = ()


class TaskContext(Protocol):
    """What a run may use."""

    @property
    def properties(self) -> Mapping[str, Any]:
        """The task's properties, rendered; they passed `validate`."""
        ...

    @property
    def scope(self) -> Mapping[str, Any]:
        """What the task's templates may name: the job's context, and the worker's `envs`. Empty where the properties
        are taken as they are."""
        ...

    @property
    def env(self) -> Mapping[str, str]:
        """What every process of the run is told: FARHAND_JOB_ID, FARHAND_FENCE, FARHAND_TENANT, FARHAND_GROUP_UID, and
        TRACEPARENT where the job is traced. The place that it runs in (the machine, a container) adds its own."""
        ...

    def log(self, text: str, level: Level = Level.WARN) -> None:
        """Write a SYSTEM line (or lines) to the job's log: Farhand's own word about the run."""
        ...

    def say(self, text: str, level: Level = Level.INFO) -> None:
        """Write a line (or lines) that are the task's output, as if a program had printed them."""
        ...

    @property
    def files(self) -> Files:
        """What it may fetch and store. For the types that come with Farhand: one of another package has none here,
        since it runs in a process of its own."""
        ...

    def folder(self) -> Path:
        """The run's own empty folder, made at the first call and removed after the run."""
        ...

    async def run_process(
        self, argv: Sequence[str], *, env: Mapping[str, str], on_stdout: LineFilter | None = None
    ) -> int:
        """Run a program in the folder, its output going to the log, and return its exit code (negative: the signal).

        Raises ProcessStartError where it can't be run. Ends it upon a kill or the timeout: then the exit
        code tells so, and the outcome is KILLED or TIMEOUT whatever the task returns.
        """
        ...

    async def run_command(
        self, argv: Sequence[str], *, env: Mapping[str, str], by: RunBy, on_stdout: LineFilter | None = None
    ) -> CommandEnd:
        """As run_process, wherever the task runner has it run. For the types that come with Farhand."""
        ...


class TaskType(Protocol):
    """One type of task, made without arguments.

    A built-in one is made once per worker, and its runs go on side by side; one of another package is made
    for each run, in a process of that run (foreign.py).
    """

    @property
    def type(self) -> str:
        """Its dotted name; a class attribute does."""
        ...

    def validate(self, properties: Mapping[str, Any]) -> Sequence[Violation]:
        """What is wrong with the properties; paths are relative to them."""
        ...

    async def run(self, context: TaskContext) -> Outcome:
        """Do the work."""
        ...


@runtime_checkable
class RendersLater(Protocol):
    """A type of whose properties some are handed to it as they were written: it renders them itself, when it knows
    more than the job's context says."""

    @property
    def later(self) -> frozenset[str]:
        """Their names."""
        ...


@runtime_checkable
class InstantTaskType(Protocol):
    """A type whose work is done by the time it is looked at: no process, no folder, no log.

    Runs of it are concluded a whole batch at a time, thousands per second.
    """

    type: ClassVar[str]

    def conclude(self, properties: Mapping[str, Any]) -> Outcome:
        """Check the properties and do the work, at once and without waiting."""
        ...
