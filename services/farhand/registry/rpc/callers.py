"""What the caller of an RPC may see."""

from farhand.registry.core.visibility import Visibility
from farhand.runtime.security import Role, identity


def visibility(context: object) -> Visibility:
    """Admins and services see everything; a client what its tenants may."""
    caller = identity(context)
    sees_all = caller.local or caller.role in (Role.ADMIN, Role.SERVICE)
    return Visibility(None if sees_all else caller.tenants)
