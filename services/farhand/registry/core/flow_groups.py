"""The worker groups that a flow names outright: whether it may, and which they were."""

from collections.abc import Iterable, Mapping

from farhand.kernel import names
from farhand.registry.core.worker_group import GroupState, WorkerGroup

_MOST_COMPARED = 1000  # names that are looked through for one that looks like another
_MOST_HINTS = 20  # keys of one flow that are compared at all


class FlowGroups:
    """Answers for each key why a flow of the tenant may not name it, and remembers the keys.

    Good for one reading of one flow (`read_flow`).
    """

    def __init__(self, tenant: str, groups: Iterable[WorkerGroup]) -> None:
        self._tenant = tenant
        self._groups: Mapping[str, WorkerGroup] = {group.key: group for group in groups}
        self._named: set[str] = set()
        self._hints = 0

    @property
    def named(self) -> frozenset[str]:
        """The keys that were asked for; the default group apart, which always is."""
        return frozenset(self._named)

    def why_not(self, key: str) -> str:
        """Empty: it may. "" is the default group."""
        if key:
            self._named.add(key)
        group = self._groups.get(key)
        label = names.shown(names.group_label(key))
        if group is None:
            return f"there is no worker group {label}.{self._hint(key)}"
        if not _allows(group, self._tenant):
            return f"the worker group {label} does not allow the tenant {names.shown(self._tenant)}.{self._hint(key)}"
        if group.state is GroupState.DELETING:
            return f"the worker group {label} is being deleted.{self._hint(key)}"
        return ""

    def _hint(self, key: str) -> str:
        self._hints += 1
        if self._hints > _MOST_HINTS:
            return ""
        usable = [
            other.key
            for other in self._groups.values()
            if _allows(other, self._tenant) and other.state is GroupState.ACTIVE
        ]
        usable.sort(key=lambda other: other[:2].casefold() != key[:2].casefold())
        near = names.near_matches(key, usable[:_MOST_COMPARED])
        return f" Did you mean {' or '.join(map(names.shown, near))}?" if near else ""


def _allows(group: WorkerGroup, tenant: str) -> bool:
    return not group.allowed_tenants or tenant in group.allowed_tenants
