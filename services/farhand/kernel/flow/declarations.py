"""What is declared around a task: by its flow, the namespaces above it, and its tenant.

Everybody who resolves a worker group or merges plugin defaults walks over the same
list, nearest first, and `around` is the one place that makes it (semantics.md, 2).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from farhand.kernel.flow.model import Flow, PluginDefault
from farhand.kernel.names import ancestors, shown
from farhand.kernel.resolution import Fallback, Level

FLOW = "flow"


class Declares(Protocol):
    """A namespace or tenant, as the registry or the scheduler keeps it."""

    @property
    def default_worker_group(self) -> str | None:
        """A key; None: nothing; empty: the default group."""
        ...

    @property
    def default_fallback(self) -> Fallback | None:
        """None: nothing."""
        ...

    @property
    def plugin_defaults(self) -> Sequence[PluginDefault]:
        """In their order."""
        ...


@dataclass(frozen=True, slots=True)
class Declaration:
    """What one of them declares for all that is inside. `name` is as people read it: "namespace 'company.team'"."""

    name: str
    key: str | None = None
    fallback: Fallback | None = None
    timeout: str | None = None  # how long to wait for a worker; flows alone declare it
    plugin_defaults: Sequence[PluginDefault] = ()

    @property
    def level(self) -> Level:
        """Its place in the resolution of group and fallback."""
        return Level(self.name, self.key, self.fallback)


def around(
    tenant_id: str, tenant: Declares, namespace: str | None, find: Callable[[str], Declares | None]
) -> list[Declaration]:
    """The namespaces from the nearest outwards, then the tenant.

    `namespace` None or empty: none. `find` answers a namespace by its name, None where nothing is declared.
    """
    inner = [(name, find(name)) for name in (ancestors(namespace) if namespace else [])]
    return [
        *(_declaration(f"namespace {shown(name)}", found) for name, found in inner if found is not None),
        _declaration(f"tenant {shown(tenant_id)}", tenant),
    ]


def of_flow(flow: Flow) -> Declaration:
    """The flow's own: it stands before those of `around`."""
    group = flow.worker_group
    if group is None:
        return Declaration(FLOW, plugin_defaults=flow.plugin_defaults)
    return Declaration(FLOW, group.key, group.fallback, group.timeout, flow.plugin_defaults)


def _declaration(name: str, found: Declares) -> Declaration:
    return Declaration(name, found.default_worker_group, found.default_fallback, None, found.plugin_defaults)
