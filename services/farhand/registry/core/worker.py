"""A row of the roll: a worker as a scheduler last reported it.

The roll is not declared by anyone, so it has no revision, no etag, and no place in
the change log. Reports may come late, twice, and from several schedulers; the pair
(epoch, sequence) says which of two is newer.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from farhand.kernel import names
from farhand.kernel.errors import Violation

MOST_REPORTS = 1000
_MOST_NAMES = 1000
_LARGEST_COUNT = 2**31 - 1


class WorkerState(StrEnum):
    """Where a worker is in its life."""

    CONNECTED = "CONNECTED"  # it holds a stream and takes jobs
    DRAINING = "DRAINING"  # it finishes what it has
    DISCONNECTED = "DISCONNECTED"  # its stream is gone, its lease runs
    LOST = "LOST"  # its lease ran out
    STOPPED = "STOPPED"  # it said goodbye


PRESENT = (WorkerState.CONNECTED, WorkerState.DRAINING, WorkerState.DISCONNECTED)


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker, as told; state None is one that this version does not know."""

    id: str
    worker_group: str  # the key; empty: the default group
    worker_group_uid: str
    state: WorkerState | None
    host: str = ""
    version: str = ""
    slots: int = 0
    busy_slots: int = 0
    task_types: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()  # empty: every tenant
    start_time: datetime | None = None
    heartbeat_time: datetime | None = None
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A worker's row with its order in time: the larger (epoch, sequence) is newer."""

    worker: Worker
    epoch: int
    sequence: int


def check(path: str, report: Report) -> list[Violation]:
    """All that is wrong with one report; path is its own, e.g. reports[3]."""
    worker, of = report.worker, f"{path}.worker"
    violations = names.check_worker_id(f"{of}.id", worker.id)
    if worker.worker_group:
        violations += names.check_group_key(f"{of}.worker_group", worker.worker_group)
    if not worker.worker_group_uid:
        violations.append(Violation(f"{of}.worker_group_uid", "must not be empty"))
    if worker.state is None:
        violations.append(Violation(f"{of}.state", f"must be one of {', '.join(WorkerState)}"))
    for name, value in (
        ("worker_group_uid", worker.worker_group_uid),
        ("host", worker.host),
        ("version", worker.version),
        ("subject", worker.subject),
    ):
        violations += names.check_text(f"{of}.{name}", value)
    for name, values in (("task_types", worker.task_types), ("tenants", worker.tenants)):
        violations += _check_names(f"{of}.{name}", values)
    for name, number in (("worker.slots", worker.slots), ("worker.busy_slots", worker.busy_slots)):
        if not 0 <= number <= _LARGEST_COUNT:
            violations.append(Violation(f"{path}.{name}", "must not be negative"))
    for name, number in (("epoch", report.epoch), ("sequence", report.sequence)):
        if number < 0:
            violations.append(Violation(f"{path}.{name}", "must not be negative"))
    return violations


def _check_names(path: str, values: tuple[str, ...]) -> list[Violation]:
    if len(values) > _MOST_NAMES:
        return [Violation(path, f"has {len(values)} entries; at most {_MOST_NAMES} are allowed")]
    return [v for index, value in enumerate(values) for v in names.check_text(f"{path}[{index}]", value, 200)]


def newest(reports: Iterable[Report]) -> list[Report]:
    """One report for each worker, the newest, sorted by id so that two writers never deadlock."""
    by_id: dict[str, Report] = {}
    for report in reports:
        known = by_id.get(report.worker.id)
        if known is None or (report.epoch, report.sequence) > (known.epoch, known.sequence):
            by_id[report.worker.id] = report
    return [by_id[worker_id] for worker_id in sorted(by_id)]
