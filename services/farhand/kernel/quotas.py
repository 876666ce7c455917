"""Quotas: what one tenant may have in a worker group at once, so that it can't starve the others there.

A group declares lines. A tenant is bound by its own line; one that has none, by the
line of `EVERYONE`, each such tenant for itself. A line that leaves a number out does
not bound it, so a named line without numbers frees its tenant from `EVERYONE`'s.
"""

from collections.abc import Iterable
from dataclasses import dataclass

EVERYONE = "*"  # each tenant that has no line of its own; no tenant's id looks like that
HIGHEST = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Quota:
    """One line. None: no bound."""

    tenant: str
    max_running: int | None = None  # jobs that are with workers
    max_queued: int | None = None  # jobs that wait


def quota_of(quotas: Iterable[Quota], tenant: str) -> Quota:
    """What binds a tenant; it bounds nothing where no line does."""
    everyone: Quota | None = None
    for line in quotas:
        if line.tenant == tenant:
            return line
        if line.tenant == EVERYONE:
            everyone = line
    return Quota(tenant, everyone.max_running, everyone.max_queued) if everyone else Quota(tenant)
