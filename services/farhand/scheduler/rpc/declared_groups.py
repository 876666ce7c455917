"""Worker groups as a caller names them and may see them."""

from collections.abc import Iterable

from farhand.kernel.errors import NotFound
from farhand.kernel.names import group_key, group_label, not_found
from farhand.runtime.security import Identity
from farhand.scheduler.core.declared import Group
from farhand.scheduler.rpc.ports import Declarations


class DeclaredGroups:
    """Finds groups in the copy of the registry."""

    def __init__(self, declarations: Declarations) -> None:
        self._declarations = declarations

    async def find(self, group_id: str, caller: Identity) -> Group:
        """The group of that key; "_default" or empty: the default group. The registry itself is asked before the
        answer is no. Raises NotFound with near matches, Unavailable."""
        try:
            return self._known(group_id, caller)
        except NotFound:
            await self._declarations.catch_up()
            return self._known(group_id, caller)

    def _known(self, group_id: str, caller: Identity) -> Group:
        groups = self._declarations.declared.groups
        group = groups.get(group_key(group_id))
        if group is not None and may_see(caller, group.allowed_tenants):
            return group
        seen = [other.key for other in groups.values() if may_see(caller, other.allowed_tenants)]
        raise not_found("worker group", group_label(group_key(group_id)), seen, "See: farhand worker-group list")


def may_see(caller: Identity, allowed_tenants: Iterable[str]) -> bool:
    """Whether the caller's tenants may use a group that allows these; none: it allows every tenant."""
    allowed = frozenset(allowed_tenants)
    return caller.tenants is None or not allowed or not allowed.isdisjoint(caller.tenants)
