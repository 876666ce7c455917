"""A job as its rows tell it: what every read of a job answers, free of how it is stored or sent."""

from dataclasses import dataclass
from datetime import datetime

from farhand.kernel.resolution import Fallback
from farhand.scheduler.core.job import FINAL, JobState


@dataclass(frozen=True, slots=True)
class Lost:
    """An assignment that brought no result."""

    fence: int
    worker: str
    assigned_at: datetime
    lost_at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job at one moment. Times are the database's, with its time zone."""

    key: int
    tenant: str
    task_type: str
    group_uid: str
    group_key: str  # "": the default group
    state: JobState
    fence: int  # of its last assignment, also of one that was lost; 0: never assigned
    worker: str  # of that assignment; "": never assigned
    lost: int  # deliveries that were lost
    created_at: datetime
    assigned_at: datetime | None  # None while it waits
    started_at: datetime | None
    ended_at: datetime | None
    kill_at: datetime | None
    exit_code: int | None
    reason: str  # why it did not succeed; ""
    message: str
    run_us: int | None  # how long the run took, by the worker's monotonic clock
    result_fence: int  # whose result was recorded; 0: it ended without one, or has not ended
    log_end: int  # how many log records that assignment wrote
    read_at: datetime  # the moment that this tells of
    # Left out (empty) where a read asked for less:
    namespace: str | None = None
    fallback: Fallback = Fallback.WAIT
    max_deliveries: int = 0
    task: bytes = b""  # farhand.api.types.v1.Task, serialized
    outputs: bytes | None = None  # google.protobuf.Struct, serialized

    @property
    def ended(self) -> bool:
        """Whether its state is final (P3)."""
        return self.state in FINAL
