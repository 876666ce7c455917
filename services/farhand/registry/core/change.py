"""What a watcher is told: one changed resource per revision, or all of them at one revision."""

from collections.abc import Sequence
from dataclasses import dataclass

from farhand.registry.core.namespace import Namespace
from farhand.registry.core.tenant import Tenant
from farhand.registry.core.triggered_flow import TriggeredFlow
from farhand.registry.core.worker_group import WorkerGroup

REMEMBERED = 10_000  # the newest changes that the log keeps; further back there is the snapshot

Resource = Tenant | Namespace | WorkerGroup | TriggeredFlow


@dataclass(frozen=True, slots=True)
class Put:
    """The resource as it is from this revision on."""

    resource: Resource


@dataclass(frozen=True, slots=True)
class Removed:
    """The resource as it last was; it is gone from this revision on."""

    resource: Resource


@dataclass(frozen=True, slots=True)
class Change:
    """One revision: the one before it plus 1."""

    revision: int
    step: Put | Removed


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is declared at one revision."""

    revision: int
    tenants: Sequence[Tenant]
    namespaces: Sequence[Namespace]
    worker_groups: Sequence[WorkerGroup]
    triggered_flows: Sequence[TriggeredFlow]
