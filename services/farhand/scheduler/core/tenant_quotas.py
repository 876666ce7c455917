"""What quotas allow (kernel.quotas), given what is there now.

Both bounds are kept where jobs move, under locks that the store takes, so that they are
exact with any number of replicas. `max_queued` is a matter of who comes: an enqueue asks
a `QueueRoom` for each job. `max_running` is a matter of who goes: a claim passes over the
lanes of a tenant that is at its `Limit`. What waits or runs already is never touched, and
an assignment that is lost always returns to its place.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from farhand.kernel.errors import QuotaExceeded
from farhand.kernel.names import group_label, shown
from farhand.kernel.quotas import EVERYONE, Quota, quota_of
from farhand.scheduler.core.matching import Limit

TenantInGroup = tuple[str, str]  # group uid, tenant


@dataclass(slots=True)
class Place:
    """What one tenant has in one group's queue, and how much that may be."""

    group_key: str
    limit: int
    queued: int


class QueueRoom:
    """Room in queues, for one transaction that holds the locks of these tenants' places in them."""

    def __init__(self, places: Mapping[TenantInGroup, Place]) -> None:
        self._places = dict(places)

    def __bool__(self) -> bool:
        """Whether there is a bound at all."""
        return bool(self._places)

    def take(self, group_uid: str, tenant: str) -> QuotaExceeded | None:
        """Take the next place in the group's queue for a job of the tenant; answers the refusal if there is none."""
        place = self._places.get((group_uid, tenant))
        if place is None:
            return None
        if place.queued < place.limit:
            place.queued += 1
            return None
        label = group_label(place.group_key)
        return QuotaExceeded(
            f"Tenant {shown(tenant)} has {_jobs(place.queued)} waiting in worker group {shown(label)}, and its quota "
            f"there allows {place.limit:,}. Try again once workers have taken some of them, or ask an administrator "
            "to raise the quota.",
            metadata={
                "worker_group": label,
                "tenant": tenant,
                "limit": str(place.limit),
                "queued": str(place.queued),
            },
        )


def limits_of(
    quotas: Sequence[Quota], lanes: Iterable[tuple[int, str]], running: Mapping[str, int]
) -> tuple[Limit, ...]:
    """The limits of a claim. `lanes`: id and tenant of each; `running`: by tenant, the jobs that workers have."""
    of_tenant: dict[str, set[int]] = {}
    for lane, tenant in lanes:
        of_tenant.setdefault(tenant, set()).add(lane)
    bounds = {tenant: quota_of(quotas, tenant).max_running for tenant in of_tenant}
    return tuple(
        Limit(frozenset(of_tenant[tenant]), bound - running.get(tenant, 0))
        for tenant, bound in bounds.items()
        if bound is not None
    )


def bound_running(quotas: Iterable[Quota]) -> bool:
    """Whether a line bounds what runs."""
    return any(quota.max_running is not None for quota in quotas)


def bound_queued(quotas: Iterable[Quota]) -> bool:
    """Whether a line bounds what waits."""
    return any(quota.max_queued is not None for quota in quotas)


@dataclass(frozen=True, slots=True)
class TenantFigures:
    """What one tenant has in a group, beside its quota there."""

    quota: Quota
    running: int = 0
    queued: int = 0

    @property
    def tenant(self) -> str:
        """Its id."""
        return self.quota.tenant

    @property
    def runs_all_it_may(self) -> bool:
        """Whether no more of its jobs are assigned now."""
        return self.quota.max_running is not None and self.running >= self.quota.max_running


def tenant_figures(quotas: Sequence[Quota], counts: Mapping[str, tuple[int, int]]) -> tuple[TenantFigures, ...]:
    """Of each tenant that is bound and has a line of its own, or jobs. `counts`: running and queued, by tenant."""
    if not quotas:
        return ()
    there = {tenant for tenant, count in counts.items() if any(count)}
    named = {quota.tenant for quota in quotas if quota.tenant != EVERYONE}
    found = (TenantFigures(quota_of(quotas, tenant), *counts.get(tenant, ())) for tenant in sorted(there | named))
    return tuple(each for each in found if each.quota != Quota(each.tenant) or each.tenant in named)


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count:,} jobs"
