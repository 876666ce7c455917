"""The life of a task run, as a table.

A task run is one attempt of one task of an execution. A leaf's does its work as a
job: while the job waits, is held and runs, the task run stays CREATED, and where it
really is is read from the job. Flow control (Parallel, If, ForEach …) has no job: its
run is RUNNING as long as anything inside of it is. A failed attempt that another one
will follow is RETRYING until that one begins.

A task inside of a ForEach has a task run for each round: "2/0" is the first round of
the inner loop in the third round of the outer one.

The rules of execution_step.py make no move that is not in TABLE, and a test looks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from farhand.scheduler.core.job import JobState


class RunState(StrEnum):
    """Where a task run is."""

    CREATED = "CREATED"  # its job waits or runs, or could not be queued yet
    RUNNING = "RUNNING"  # flow control: what is inside runs
    KILLING = "KILLING"  # to be ended, and its end is not known yet
    RETRYING = "RETRYING"  # the attempt failed, and another follows
    SUCCESS = "SUCCESS"  # did what was asked
    WARNING = "WARNING"  # ended well enough; also a failure that its task allows
    FAILED = "FAILED"  # failed
    KILLED = "KILLED"  # killed or cancelled
    SKIPPED = "SKIPPED"  # its task is disabled

    __hash__ = str.__hash__  # an Enum's own is several times slower, and steps ask for it all the time


_S = RunState

FINAL = frozenset({_S.SUCCESS, _S.WARNING, _S.FAILED, _S.KILLED, _S.SKIPPED})

FIRST = frozenset({_S.CREATED, _S.RUNNING, _S.SKIPPED})
"""The states in which a task run is made."""

TABLE: dict[RunState, frozenset[RunState]] = {
    _S.CREATED: frozenset({_S.RUNNING, _S.KILLING, _S.RETRYING, _S.SUCCESS, _S.WARNING, _S.FAILED, _S.KILLED}),
    _S.RUNNING: frozenset({_S.KILLING, _S.SUCCESS, _S.WARNING, _S.FAILED, _S.KILLED}),
    # A job that had ended before the kill reached it keeps its end.
    _S.KILLING: frozenset({_S.SUCCESS, _S.WARNING, _S.FAILED, _S.KILLED}),
    # The next attempt began; a kill came first; no attempt follows after all, since what is inherited changed.
    _S.RETRYING: frozenset({_S.FAILED, _S.KILLED, _S.WARNING}),
    **{state: frozenset() for state in FINAL},
}
"""What may follow what."""


class RunId(NamedTuple):
    """Which task run of an execution: unique, so that a step done twice begins nothing twice."""

    task_id: str
    iteration: str = ""  # the rounds of the loops around it, the outermost first, from 0: "2/0"; empty: no loop
    attempt: int = 1


def into_round(iteration: str, number: int) -> str:
    """The iteration of what is inside of a round of a loop that has this iteration itself."""
    return f"{iteration}/{number}" if iteration else str(number)


@dataclass(frozen=True, slots=True)
class JobView:
    """What a task run's job is at the moment, in whatever table it stands."""

    state: JobState = JobState.CREATED
    reason: str = ""  # why it ended so, e.g. GROUP_NOT_AVAILABLE
    message: str = ""  # the same for a person
    waiting_since: datetime | None = None  # CREATED: since when it has been in the queue, this time


@dataclass(frozen=True, slots=True)
class Refused:
    """A task run that can't begin, as preparation.py or the queue found out. Its task run ends FAILED by this."""

    reason: str
    message: str
    ask_registry: bool = False  # by our copy; to be told only after copy.catch_up() and another look


@dataclass(frozen=True, slots=True)
class Run:
    """What the rules look at. Times are the database's."""

    id: RunId
    created_at: datetime
    state: RunState = RunState.CREATED
    ended_at: datetime | None = None  # also set while RETRYING: when the attempt failed
    branch: str | None = None  # If, Switch: which of its `children` runs; None: not decided, or neither
    rounds: int | None = None  # ForEach: how many it has; None: not known yet, or no ForEach
    rounds_over: int = 0  # ForEach: bit n is set when nothing of round n needs to be looked at any more
    over: bool = False  # it belongs to such a round, and is loaded no more
    job: JobView | None = None  # a leaf's; None: flow control, or not queued
    wait_limit: timedelta | None = None  # how long its job may wait in the queue (workerGroup.timeout)
    again_at: datetime | None = None  # CREATED without a job: when to try again
    refused: Refused | None = None  # found when it began; never kept, since the same transaction ends the run
    reason: str = ""
    message: str = ""

    def open_rounds(self) -> Iterator[int]:
        """The rounds of a ForEach that are not over, in order; from some on they have not begun."""
        left = ((1 << (self.rounds or 0)) - 1) & ~self.rounds_over
        while left:
            lowest = left & -left
            yield lowest.bit_length() - 1
            left ^= lowest
