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

CHANGEABLE = ("description", "allowed_tenants", "lease", "paused")
DEFAULT_LEASE = timedelta(seconds=60)
LONGEST_LEASE = timedelta(days=7)
MOST_ALLOWED_TENANTS = 1000


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


def check(group: WorkerGroup, lease_floor: timedelta, fields: Collection[str] = CHANGEABLE) -> list[Violation]:
    """All that is wrong with the given fields of a group, by their paths in a request."""
    violations: list[Violation] = []
    if "description" in fields:
        violations += names.check_text("worker_group.description", group.description)
    if "allowed_tenants" in fields:
        violations += _check_allowed_tenants(group.allowed_tenants)
    if "lease" in fields:
        violations += _check_lease(group.lease, lease_floor)
    return violations


def normalized(group: WorkerGroup) -> WorkerGroup:
    """Its allowed tenants are a set: sorted, each once."""
    return replace(group, allowed_tenants=tuple(sorted(set(group.allowed_tenants))))


def _check_allowed_tenants(tenants: tuple[str, ...]) -> list[Violation]:
    path = "worker_group.allowed_tenants"
    if len(tenants) > MOST_ALLOWED_TENANTS:
        return [Violation(path, f"names {len(tenants)} tenants; at most {MOST_ALLOWED_TENANTS} are allowed")]
    return [
        violation
        for index, tenant in enumerate(tenants)
        for violation in names.check_tenant(f"{path}[{index}]", tenant)
    ]


def _check_lease(lease: timedelta, floor: timedelta) -> list[Violation]:
    if lease % timedelta(milliseconds=1):
        return [Violation("worker_group.lease", "must be a whole number of milliseconds")]
    if floor <= lease <= LONGEST_LEASE:
        return []
    allowed = f"{format_duration(floor.total_seconds())} to {format_duration(LONGEST_LEASE.total_seconds())}"
    given = f"{lease.total_seconds():g}s"
    return [Violation("worker_group.lease", f"is {given}; it must be from {allowed}")]
