"""The life of a job, as a table.

A job waits in its group's queue (CREATED), is given to a worker under a fence
(ASSIGNED), runs (RUNNING) and ends in one of four final states. An assignment
can be lost with its worker, which brings the job back to its old place in the
queue, or handed back unstarted, which costs it nothing. A kill of a job that a
worker has is KILLING until its end is known.

`step` is the rule; the statements of `queue.sql` do the same under row locks, and
tests/store/scheduler/test_job_guards.py compares the two, pair by pair. A pair
that is missing from the table is an `IllegalStep` and changes nothing; late and
doubled reports are rows of the table, not accidents.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from farhand.kernel.resolution import Fallback


class JobState(StrEnum):
    """Where a job is."""

    CREATED = "CREATED"  # in the queue
    ASSIGNED = "ASSIGNED"  # given to a worker, start not known
    RUNNING = "RUNNING"  # started
    KILLING = "KILLING"  # with a worker, and to be ended
    SUCCESS = "SUCCESS"  # did what was asked
    WARNING = "WARNING"  # ended well enough
    FAILED = "FAILED"  # failed, or was lost too often, or could not wait
    KILLED = "KILLED"  # ended because somebody asked

    __hash__ = str.__hash__  # an Enum's own is several times slower, and steps of executions ask for it all the time


FINAL = frozenset({JobState.SUCCESS, JobState.WARNING, JobState.FAILED, JobState.KILLED})
HELD = frozenset({JobState.ASSIGNED, JobState.RUNNING, JobState.KILLING})


@dataclass(frozen=True, slots=True)
class Job:
    """What the rules look at."""

    state: JobState = JobState.CREATED
    fence: int = 0  # of the live assignment, or of the one whose result was recorded; 0: none
    lost: int = 0  # deliveries that were lost
    max_deliveries: int = 3
    fallback: Fallback = Fallback.WAIT
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Assign:
    """A claim gives the job to a worker under a new fence."""

    fence: int


@dataclass(frozen=True, slots=True)
class Start:
    """The worker says that it started."""

    fence: int


@dataclass(frozen=True, slots=True)
class End:
    """The worker sends a result."""

    fence: int
    state: JobState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Lose:
    """The assignment is given up: lease over, worker stopped or fenced. Consumes a delivery."""

    fence: int


@dataclass(frozen=True, slots=True)
class Return:
    """The assignment was never received or never started. Consumes nothing."""

    fence: int


@dataclass(frozen=True, slots=True)
class Kill:
    """Somebody wants it ended."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Its group has no available worker."""


@dataclass(frozen=True, slots=True)
class Forbid:
    """Its group no longer allows its tenant."""


@dataclass(frozen=True, slots=True)
class Overdue:
    """It has waited for a worker as long as it may (workerGroup.timeout)."""


Event = Assign | Start | End | Lose | Return | Kill | Unavailable | Forbid | Overdue


class Verdict(StrEnum):
    """What became of the event."""

    DONE = "DONE"  # it changed the job
    UNCHANGED = "UNCHANGED"  # it was true already, or does not concern this state
    RECORDED = "RECORDED"  # a result: it is the job's
    DUPLICATE = "DUPLICATE"  # a result: recorded before
    STALE = "STALE"  # a result or report of a fence that is not the job's


class IllegalStep(Exception):
    """No row of the table fits; nothing was changed."""


Step = Callable[[Job, Event], tuple[Job, Verdict]]


def _assign(job: Job, event: Event) -> tuple[Job, Verdict]:
    assert isinstance(event, Assign)
    if event.fence <= job.fence:
        raise IllegalStep(f"fence {event.fence} does not grow from {job.fence} (P4)")
    return replace(job, state=JobState.ASSIGNED, fence=event.fence), Verdict.DONE


def _start(job: Job, event: Event) -> tuple[Job, Verdict]:
    assert isinstance(event, Start)
    if event.fence != job.fence:
        return job, Verdict.STALE
    if job.state is not JobState.ASSIGNED:
        return job, Verdict.UNCHANGED
    return replace(job, state=JobState.RUNNING), Verdict.DONE


def _end(job: Job, event: Event) -> tuple[Job, Verdict]:
    assert isinstance(event, End)
    if event.fence != job.fence:
        return job, Verdict.STALE
    state = JobState.KILLED if job.state is JobState.KILLING else event.state
    return replace(job, state=state, reason=event.reason), Verdict.RECORDED


def _end_again(job: Job, event: Event) -> tuple[Job, Verdict]:
    assert isinstance(event, End)
    return job, Verdict.DUPLICATE if event.fence == job.fence else Verdict.STALE


def _give_up(job: Job, lost: int) -> tuple[Job, Verdict]:
    job = replace(job, fence=0, lost=lost)
    if job.state is JobState.KILLING:
        return replace(job, state=JobState.KILLED, reason="KILLED"), Verdict.DONE
    if lost >= job.max_deliveries:
        return replace(job, state=JobState.FAILED, reason="WORKER_LOST"), Verdict.DONE
    return replace(job, state=JobState.CREATED), Verdict.DONE


def _lose(job: Job, event: Event) -> tuple[Job, Verdict]:
    assert isinstance(event, Lose)
    return _give_up(job, job.lost + 1) if event.fence == job.fence else (job, Verdict.STALE)


def _return(job: Job, event: Event) -> tuple[Job, Verdict]:
    assert isinstance(event, Return)
    return _give_up(job, job.lost) if event.fence == job.fence else (job, Verdict.STALE)


def _kill_waiting(job: Job, _: Event) -> tuple[Job, Verdict]:
    return replace(job, state=JobState.KILLED, reason="KILLED"), Verdict.DONE


def _kill_held(job: Job, _: Event) -> tuple[Job, Verdict]:
    return replace(job, state=JobState.KILLING), Verdict.DONE


def _unavailable(job: Job, _: Event) -> tuple[Job, Verdict]:
    match job.fallback:
        case Fallback.WAIT:
            return job, Verdict.UNCHANGED
        case Fallback.FAIL:
            return replace(job, state=JobState.FAILED, reason="GROUP_NOT_AVAILABLE"), Verdict.DONE
        case Fallback.CANCEL:
            return replace(job, state=JobState.KILLED, reason="GROUP_NOT_AVAILABLE"), Verdict.DONE


def _forbid(job: Job, _: Event) -> tuple[Job, Verdict]:
    return replace(job, state=JobState.FAILED, reason="TENANT_NOT_ALLOWED"), Verdict.DONE


def _overdue(job: Job, _: Event) -> tuple[Job, Verdict]:
    return replace(job, state=JobState.FAILED, reason="GROUP_WAIT_TIMEOUT"), Verdict.DONE


def _keep(job: Job, _: Event) -> tuple[Job, Verdict]:
    return job, Verdict.UNCHANGED


def _stale(job: Job, _: Event) -> tuple[Job, Verdict]:
    return job, Verdict.STALE


TABLE: dict[tuple[JobState, type], Step] = {
    (JobState.CREATED, Assign): _assign,
    (JobState.CREATED, Start): _stale,
    (JobState.CREATED, End): _stale,
    (JobState.CREATED, Lose): _stale,
    (JobState.CREATED, Return): _stale,
    (JobState.CREATED, Kill): _kill_waiting,
    (JobState.CREATED, Unavailable): _unavailable,
    (JobState.CREATED, Forbid): _forbid,
    (JobState.CREATED, Overdue): _overdue,
    **{(state, Start): _start for state in HELD},
    **{(state, End): _end for state in HELD},
    **{(state, Lose): _lose for state in HELD},
    **{(state, Return): _return for state in HELD},
    (JobState.ASSIGNED, Kill): _kill_held,
    (JobState.RUNNING, Kill): _kill_held,
    (JobState.KILLING, Kill): _keep,
    **{(state, Unavailable): _keep for state in HELD},
    **{(state, Forbid): _keep for state in HELD},  # "running ones finish"
    **{(state, Overdue): _keep for state in HELD},  # a claim was faster
    **{(state, Start): _stale for state in FINAL},
    **{(state, End): _end_again for state in FINAL},
    **{(state, Lose): _stale for state in FINAL},
    **{(state, Return): _stale for state in FINAL},
    **{(state, event): _keep for state in FINAL for event in (Kill, Unavailable, Forbid, Overdue)},  # P3
}


def step(job: Job, event: Event) -> tuple[Job, Verdict]:
    """The job after the event, and what became of the event. Raises IllegalStep."""
    rule = TABLE.get((job.state, type(event)))
    if rule is None:
        raise IllegalStep(f"{type(event).__name__} does not fit a job that is {job.state}")
    return rule(job, event)
