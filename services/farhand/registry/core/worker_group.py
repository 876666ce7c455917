"""A worker group: a set of workers that can be named as the place for a job.

Its key is for people, its uid for everything that must not be inherited by a
group made anew under the same key. The default group has the empty key. How a
group goes away is `deletion.py`.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from farhand.kernel import names
from farhand.kernel.durations import format_duration
from farhand.kernel.errors import Violation
from farhand.kernel.quotas import EVERYONE, HIGHEST, Quota

CHANGEABLE = ("description", "allowed_tenants", "lease", "paused", "quotas")
DEFAULT_LEASE = timedelta(seconds=60)
LONGEST_LEASE = timedelta(days=7)
MOST_ALLOWED_TENANTS = 1000
MOST_QUOTAS = 1000


class GroupState(StrEnum):
    """Where a group is in its life."""

    ACTIVE = "ACTIVE"  # it takes jobs
    DELETING = "DELETING"  # its deletion was asked for; the scheduler has not answered


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the scheduler refused the last deletion: jobs of the group that were still there."""

    queued_jobs: int
    running_jobs: int


@dataclass(frozen=True, slots=True)
class WorkerGroup:
    """A worker group. With revision 0 and no times it is what a request asks for, not stored yet."""

    key: str  # empty: the default group
    uid: str
    description: str = ""
    allowed_tenants: tuple[str, ...] = ()  # sorted, each once; empty: every tenant
    lease: timedelta = DEFAULT_LEASE  # whole milliseconds
    paused: bool = False
    state: GroupState = GroupState.ACTIVE
    force_deletion: bool = False  # in DELETING: whether its jobs are to be killed
    deleting_since: int | None = None  # in DELETING: the revision that it had before
    refusal: Refusal | None = None  # of its last deletion, while it is ACTIVE
    revision: int = 0  # of its last change; its etag
    create_time: datetime | None = None
    update_time: datetime | None = None
    quotas: tuple[Quota, ...] = ()  # by tenant, each once

    @property
    def named_in_quotas(self) -> tuple[str, ...]:
        """The tenants that have a quota of their own."""
        return tuple(quota.tenant for quota in self.quotas if quota.tenant != EVERYONE)


def check(group: WorkerGroup, lease_floor: timedelta, fields: Collection[str] = CHANGEABLE) -> list[Violation]:
    """All that is wrong with the given fields of a group, by their paths in a request."""
    violations: list[Violation] = []
    if "description" in fields:
        violations += names.check_text("worker_group.description", group.description)
    if "allowed_tenants" in fields:
        violations += _check_allowed_tenants(group.allowed_tenants)
    if "lease" in fields:
        violations += _check_lease(group.lease, lease_floor)
    if "quotas" in fields:
        violations += _check_quotas(group.quotas)
    return violations


def normalized(group: WorkerGroup) -> WorkerGroup:
    """Its allowed tenants are a set: sorted, each once; and its quotas are sorted by tenant."""
    return replace(
        group,
        allowed_tenants=tuple(sorted(set(group.allowed_tenants))),
        quotas=tuple(sorted(group.quotas, key=lambda quota: quota.tenant)),
    )


def _check_allowed_tenants(tenants: tuple[str, ...]) -> list[Violation]:
    path = "worker_group.allowed_tenants"
    if len(tenants) > MOST_ALLOWED_TENANTS:
        return [Violation(path, f"names {len(tenants)} tenants; at most {MOST_ALLOWED_TENANTS} are allowed")]
    return [
        violation
        for index, tenant in enumerate(tenants)
        for violation in names.check_tenant(f"{path}[{index}]", tenant)
    ]


def _check_quotas(quotas: tuple[Quota, ...]) -> list[Violation]:
    path = "worker_group.quotas"
    if len(quotas) > MOST_QUOTAS:
        return [Violation(path, f"has {len(quotas)} lines; at most {MOST_QUOTAS} are allowed")]
    violations: list[Violation] = []
    first: dict[str, int] = {}
    for index, quota in enumerate(quotas):
        where = f"{path}[{index}]"
        if quota.tenant != EVERYONE:
            violations += names.check_tenant(f"{where}.tenant", quota.tenant)
        elif quota.max_running is None and quota.max_queued is None:
            violations.append(Violation(where, "bounds nothing; set max_running or max_queued, or leave the line out"))
        if (other := first.setdefault(quota.tenant, index)) != index:
            description = f"{names.shown(quota.tenant)} has a line already, {path}[{other}]"
            violations.append(Violation(f"{where}.tenant", description))
        for field, number in ("max_running", quota.max_running), ("max_queued", quota.max_queued):
            if number is not None and not 0 <= number <= HIGHEST:
                violations.append(Violation(f"{where}.{field}", f"is {number}; it must be from 0 to {HIGHEST:,}"))
    return violations


def _check_lease(lease: timedelta, floor: timedelta) -> list[Violation]:
    if lease % timedelta(milliseconds=1):
        return [Violation("worker_group.lease", "must be a whole number of milliseconds")]
    if floor <= lease <= LONGEST_LEASE:
        return []
    allowed = f"{format_duration(floor.total_seconds())} to {format_duration(LONGEST_LEASE.total_seconds())}"
    given = f"{lease.total_seconds():g}s"
    return [Violation("worker_group.lease", f"is {given}; it must be from {allowed}")]
