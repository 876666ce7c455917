"""What the servicers need of the rest of the scheduler, each as narrow as its use."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from farhand.scheduler.core.declared import Declared
from farhand.scheduler.core.log import Append, Stored
from farhand.scheduler.core.record import JobRecord
from farhand.scheduler.core.submission import Answer, Submission


class Submissions(Protocol):
    """The queue's way in."""

    async def submit(self, submission: Submission) -> Answer:
        """Put the rows into their queues; they are durable when this answers. Raises RequestIdReused and
        Unavailable for the whole."""


class Kills(Protocol):
    """The end of a job, from outside."""

    async def kill(self, key: int, grace_ms: int) -> None:
        """End the job wherever it is; returns when the kill may be acknowledged (P9). Raises Unavailable."""


class JobReads(Protocol):
    """Jobs by key."""

    async def read(self, keys: Sequence[int], *, full: bool = False) -> dict[int, JobRecord]:
        """Those that are there, as they were at some moment after the call; `full` brings the task, the outputs
        and what else lists leave out. Raises Unavailable."""


class Watch(Protocol):
    """What changed among watched jobs."""

    async def changed(self, timeout: float) -> set[int]:
        """Those that may have changed since the last call; waits for one, at most so many seconds, and then
        answers all."""


class Changes(Protocol):
    """News of jobs. A hint to look now, never the guarantee."""

    def watch(self, keys: Iterable[int], *, logs: bool = False) -> AbstractContextManager[Watch]:
        """Watch these jobs, and their logs too where `logs` is set, until the block ends."""


class Declarations(Protocol):
    """The copy of the registry."""

    @property
    def declared(self) -> Declared:
        """What is known now."""

    async def catch_up(self) -> None:
        """Ask the registry itself. Raises Unavailable."""


class LogSink(Protocol):
    """Where log records go."""

    async def append(self, append: Append) -> Stored:
        """Store the records; they are durable when this answers. Raises LogGap, Unavailable."""
