"""What a caller may see: tenancy, applied to everything that is read."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from farhand.kernel.quotas import EVERYONE
from farhand.registry.core.worker import Worker
from farhand.registry.core.worker_group import WorkerGroup


@dataclass(frozen=True, slots=True)
class Visibility:
    """The tenants that a caller acts for; None: all of them, and everything else too."""

    tenants: frozenset[str] | None

    def sees_tenant(self, tenant: str) -> bool:
        """Whether it acts for the tenant."""
        return self.tenants is None or tenant in self.tenants

    def sees_group(self, group: WorkerGroup) -> bool:
        """Whether a tenant of its own may use the group."""
        if self.tenants is None:
            return True
        return bool(self.tenants if not group.allowed_tenants else self.tenants.intersection(group.allowed_tenants))

    def of_group(self, group: WorkerGroup) -> WorkerGroup:
        """The group without the names and quotas of other tenants."""
        return replace(
            group,
            allowed_tenants=self._own(group.allowed_tenants),
            quotas=tuple(quota for quota in group.quotas if quota.tenant == EVERYONE or self.sees_tenant(quota.tenant)),
        )

    def of_worker(self, worker: Worker) -> Worker:
        """The worker without the names of other tenants."""
        return replace(worker, tenants=self._own(worker.tenants))

    def _own(self, tenants: Iterable[str]) -> tuple[str, ...]:
        return tuple(tenant for tenant in tenants if self.sees_tenant(tenant))
