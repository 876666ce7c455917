"""The worker groups that a tenant or a namespace declares as its default or names in its plugin defaults.

They must be there, stay, and allow the tenant. Each check needs the lock of
`changes`, or the group may go at the same moment.
"""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.kernel import names
from farhand.kernel.flow import PluginDefault
from farhand.registry.core import plugin_defaults
from farhand.registry.core.references import check_default_group_use
from farhand.registry.store import worker_groups


async def check(connection: AsyncConnection, path: str, key: str | None, tenant: str) -> None:
    """Raises NotFound, GroupDeleting or InvalidArgument (at the path). None, for "inherited", is fine."""
    if key is None:
        return
    group = await worker_groups.get(connection, key)
    if group is None:
        raise names.not_found("worker group", key, await worker_groups.keys_like(connection, key))
    check_default_group_use(path, group, tenant)


async def check_named(
    connection: AsyncConnection,
    path: str,
    defaults: Sequence[PluginDefault],
    tenant: str,
    before: Sequence[PluginDefault] = (),
) -> None:
    """The same for the groups that plugin defaults name; not for those that the defaults before named already."""
    known = {key for _, key in plugin_defaults.groups(path, before)}
    for where, key in plugin_defaults.groups(path, defaults):
        if key not in known:
            await check(connection, where, key, tenant)
            known.add(key)
