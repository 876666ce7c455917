"""What the scheduler says to a worker, before it has a wire form. rpc/frames.py gives it one."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from farhand.scheduler.store.queue import Claimed


@dataclass(frozen=True, slots=True)
class Assignments:
    """Jobs to run; `tenants` are those of the jobs, beside them."""

    jobs: Sequence[Claimed]
    tenants: Sequence[str]


@dataclass(frozen=True, slots=True)
class ResultAcks:
    """(key, fence, status) of results; the status is RECORDED, DUPLICATE, STALE or UNKNOWN."""

    verdicts: Sequence[tuple[int, int, str]]


@dataclass(frozen=True, slots=True)
class HeartbeatAck:
    """A heartbeat is recorded; lease and interval in seconds."""

    sequence: int
    lease: float
    interval: float


@dataclass(frozen=True, slots=True)
class Cancels:
    """(key, fence, grace in ms) of jobs to end."""

    jobs: Sequence[tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class Drain:
    """Take nothing new."""


@dataclass(frozen=True, slots=True)
class InventoryRequest:
    """Tell what you hold."""


@dataclass(frozen=True, slots=True)
class DrainAck:
    """Nothing follows (P8)."""


class GoAwayReason(StrEnum):
    """Why a stream ends; the names of the proto's values."""

    SUPERSEDED = "SUPERSEDED"
    SHUTDOWN = "SHUTDOWN"
    GROUP_DELETED = "GROUP_DELETED"
    PROTOCOL_ERROR = "PROTOCOL_ERROR"
    LEASE_EXPIRED = "LEASE_EXPIRED"
    SLOW_CONSUMER = "SLOW_CONSUMER"
    REBALANCE = "REBALANCE"


@dataclass(frozen=True, slots=True)
class GoAway:
    """The stream ends, or will once the worker has another; `retry_delay` in seconds."""

    reason: GoAwayReason
    message: str
    retry_delay: float = 0.0


Frame = Assignments | ResultAcks | HeartbeatAck | Cancels | Drain | DrainAck | InventoryRequest | GoAway
