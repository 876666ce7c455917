"""The default worker group that a tenant or a namespace declares must be there, stay, and allow the tenant."""

from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.kernel import names
from farhand.registry.core.references import check_default_group_use
from farhand.registry.store import worker_groups


async def check(connection: AsyncConnection, path: str, key: str | None, tenant: str) -> None:
    """Raises NotFound, GroupDeleting or InvalidArgument (at the path). None, for "inherited", is fine.

    Needs the lock of `changes`, or the group may go at the same moment.
    """
    if key is None:
        return
    group = await worker_groups.get(connection, key)
    if group is None:
        raise names.not_found("worker group", key, await worker_groups.keys_like(connection, key))
    check_default_group_use(path, group, tenant)
