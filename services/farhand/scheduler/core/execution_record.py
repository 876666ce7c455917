"""An execution and its task runs as their rows tell it: what every read answers, free of how it is stored or sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from farhand.kernel.resolution import Fallback
from farhand.scheduler.core.execution import FINAL, ExecutionState
from farhand.scheduler.core.job import JobState
from farhand.scheduler.core.task_run import RunId, RunState


@dataclass(frozen=True, slots=True)
class ExecutionRecord:
    """One execution at one moment. Times are the database's, with its time zone."""

    key: int
    flow_key: int
    tenant: str
    namespace: str
    flow_id: str
    flow_revision: int
    state: ExecutionState
    labels: Mapping[str, str]
    traceparent: str  # of its span; empty: not traced
    created_at: datetime
    ended_at: datetime | None
    kill_at: datetime | None
    message: str
    restart_of: int | None = None
    replay_of: int | None = None
    restarts: Sequence[int] = ()  # keys, newest first
    replays: Sequence[int] = ()
    trigger_id: str = ""  # of the trigger that started it; empty: none did, or it is no more
    # Left out (empty) where a read asked for less:
    inputs: str = ""  # JSON
    history: Sequence[tuple[ExecutionState, datetime]] = ()

    @property
    def ended(self) -> bool:
        """Whether its state is final."""
        return self.state in FINAL


@dataclass(frozen=True, slots=True)
class TaskRunRecord:
    """One task run at one moment, with what its job says of it."""

    key: int
    id: RunId
    state: RunState  # as people see it: RUNNING while a worker has the job
    job_key: int | None
    branch: str
    reason: str
    message: str
    group_key: str
    group_level: str
    fallback: Fallback | None
    fallback_level: str
    worker: str
    lost: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    taken_from: int | None = None  # the execution that ran it, and its job; None: this one
    rounds: int | None = None  # of a ForEach that knows them


def shown_state(state: RunState, job: JobState | None, *, assigned: bool) -> RunState:
    """A task run's state as people see it. `job`: its job's, None: it has none; `assigned`: a worker has or had it.

    The row of a task run that is with a worker says CREATED, since a start is not worth a step; and that of one
    whose job has just ended still does.
    """
    if state is not RunState.CREATED or job is None:
        return state
    if job is JobState.KILLING:
        return RunState.KILLING
    return RunState.RUNNING if assigned else RunState.CREATED
