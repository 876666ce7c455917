"""Why a job is where it is, in one word and in a sentence that says what to do.

`explain` looks at facts that were read together and answers the first reason that
applies, the one that would still hold if all those after it were mended: the
group itself, whether it may run at all, whether there is a worker, whether one of
those fits, and only then whether one has room (semantics.md, 6).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from farhand.kernel.durations import format_duration
from farhand.kernel.names import group_label, shown
from farhand.scheduler.core.job import JobState
from farhand.scheduler.core.record import JobRecord
from farhand.scheduler.core.tenant_quotas import TenantFigures

EXACT_POSITIONS = 10_000  # a place in the queue is counted this far, and is one more than this beyond


class WaitReason(StrEnum):
    """Why a job waits."""

    NOT_WAITING = "NOT_WAITING"  # it is with a worker, or has ended
    GROUP_UNKNOWN = "GROUP_UNKNOWN"  # its group is gone or going
    TENANT_NOT_ALLOWED = "TENANT_NOT_ALLOWED"  # its group no longer allows its tenant
    GROUP_PAUSED = "GROUP_PAUSED"
    NO_WORKER = "NO_WORKER"  # no available worker
    NO_WORKER_FOR_TYPE = "NO_WORKER_FOR_TYPE"  # none of those knows its task type
    NO_WORKER_FOR_TENANT = "NO_WORKER_FOR_TENANT"  # none of those is admitted to its tenant
    QUOTA_REACHED = "QUOTA_REACHED"  # its tenant has as many jobs with workers of its group as it may
    SLOTS_BUSY = "SLOTS_BUSY"  # no slot that could take it is free
    NEXT = "NEXT"  # nothing stands in its way


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """What runs and waits in one worker group. Active workers are those whose last heartbeat is under 15 seconds
    old and that do not drain, whether the group is paused or not."""

    uid: str
    key: str
    active_workers: int
    slots: int  # of the active workers
    queued: int
    running: int
    ended: int
    oldest_wait: float | None  # seconds; None: none waits
    paused: bool
    allowed_tenants: frozenset[str] = frozenset()  # empty: every tenant
    deleting: bool = False
    gone: bool = False
    tenants: tuple[TenantFigures, ...] = ()  # those that a quota binds, with a line of their own or jobs; by id

    def of_tenant(self, tenant: str) -> TenantFigures | None:
        """A tenant's; None: no quota binds it."""
        return next((each for each in self.tenants if each.tenant == tenant), None)


@dataclass(frozen=True, slots=True)
class ActiveWorker:
    """An active worker of the job's group."""

    id: str
    connected: bool  # whether it holds a stream just now
    task_types: frozenset[str]
    tenants: frozenset[str] | None  # that its credential admits; None: every tenant
    slots: int
    held: int  # jobs that it has


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer."""

    reason: WaitReason
    message: str


def explain(
    job: JobRecord, figures: GroupFigures, workers: Sequence[ActiveWorker], position: int, before_of_tenant: int = 0
) -> Explanation:
    """Say why the job is where it is. `position`: its place among those of its group that wait, from 1;
    `before_of_tenant`: how many of its tenant's wait before it, where a quota binds that."""
    if job.state is not JobState.CREATED:
        return Explanation(WaitReason.NOT_WAITING, _where(job))
    label = group_label(job.group_key)
    group = f"worker group {shown(label)}"
    start_one = f"Start one with: farhand server worker{' --worker-group ' + job.group_key if job.group_key else ''}"
    if figures.gone or figures.deleting:
        return Explanation(
            WaitReason.GROUP_UNKNOWN,
            f"Its {group} {'was deleted' if figures.gone else 'is being deleted'}, so it is about to end. Submit it "
            "again to another group.",
        )
    if figures.allowed_tenants and job.tenant not in figures.allowed_tenants:
        return Explanation(
            WaitReason.TENANT_NOT_ALLOWED,
            f"Its {group} no longer allows tenant {shown(job.tenant)}, so it is about to end FAILED. Submit it to "
            "another group, or ask an administrator to allow the tenant again.",
        )
    if figures.paused:
        return Explanation(
            WaitReason.GROUP_PAUSED,
            f"Its {group} is paused: nothing of it is assigned. Resume it with: "
            f"farhand worker-group update {label} --no-paused",
        )
    if not workers:
        return Explanation(WaitReason.NO_WORKER, f"Its {group} has no active worker. {start_one}")
    knowing = [worker for worker in workers if job.task_type in worker.task_types]
    if not knowing:
        return Explanation(
            WaitReason.NO_WORKER_FOR_TYPE,
            f"None of the {_count(len(workers), 'active worker')} of its {group} can run tasks of type "
            f"{shown(job.task_type, 200)}. Check the type's spelling, or start a worker that has it installed.",
        )
    fitting = [worker for worker in knowing if worker.tenants is None or job.tenant in worker.tenants]
    if not fitting:
        return Explanation(
            WaitReason.NO_WORKER_FOR_TENANT,
            f"None of the {_count(len(knowing), 'active worker')} of its {group} that know its task type has a "
            f"credential that admits tenant {shown(job.tenant)}. Start a worker with a token that does.",
        )
    own = figures.of_tenant(job.tenant)
    if own is not None and own.runs_all_it_may:
        return Explanation(WaitReason.QUOTA_REACHED, _quota_reached(group, own, before_of_tenant))
    if any(worker.connected and worker.held < worker.slots for worker in fitting):
        return Explanation(
            WaitReason.NEXT,
            f"Nothing stands in its way: a worker of its {group} has a free slot. It is number {_place(position)} in "
            "the queue and about to be assigned.",
        )
    return Explanation(WaitReason.SLOTS_BUSY, _busy(group, start_one, fitting, figures, position))


def _quota_reached(group: str, own: TenantFigures, before: int) -> str:
    waiting = "none of its jobs waits" if not before else f"{_place(before)} of its jobs wait"
    if before == 1:
        waiting = "1 of its jobs waits"
    return (
        f"Its tenant {shown(own.tenant)} runs {own.running:,} of {own.quota.max_running:,} jobs in its {group}, as "
        f"many as the quota there allows, and {waiting} before it. It goes on when they end. Wait, or ask an "
        "administrator to raise the quota."
    )


def _busy(group: str, start_one: str, fitting: Sequence[ActiveWorker], figures: GroupFigures, position: int) -> str:
    slots = sum(worker.slots for worker in fitting if worker.connected)
    away = sum(not worker.connected for worker in fitting)
    text = f"No slot of its {group} is free: {_count(slots, 'slot')} that could take it, all busy"
    if away:
        text += f" (and {_count(away, 'worker')} not connected just now)"
    text += f". It is number {_place(position)} in the queue"
    if figures.oldest_wait is not None:
        text += f", whose head has waited {format_duration(figures.oldest_wait)}"
    return f"{text}. Wait, or add workers. {start_one}"


def _where(job: JobRecord) -> str:
    match job.state:
        case JobState.ASSIGNED:
            return f"It was given to worker {shown(job.worker)}, which has not yet said that it started."
        case JobState.RUNNING:
            return f"It runs on worker {shown(job.worker)}."
        case JobState.KILLING:
            return f"A kill was asked for; worker {shown(job.worker)} has not yet said that it ended."
    text = f"It ended {job.state}"
    if job.reason and job.reason != job.state:
        text += f" ({job.reason})"
    return f"{text}: {job.message}" if job.message else f"{text}."


def _place(position: int) -> str:
    return f"{position:,}" if position <= EXACT_POSITIONS else f"over {EXACT_POSITIONS:,}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
