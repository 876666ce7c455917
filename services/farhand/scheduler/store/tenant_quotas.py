"""Quotas in the database: the lines of a group, the locks under which they are kept, and what there is.

A group without lines asks for none of this.
"""

import functools
import json
from collections.abc import Collection, Iterable, Mapping, Sequence

from asyncpg import Connection, Record

from farhand.kernel.quotas import Quota, quota_of
from farhand.scheduler.core.matching import Limit
from farhand.scheduler.core.tenant_quotas import Place, QueueRoom, TenantInGroup, bound_running, limits_of
from farhand.scheduler.store.groups import Lane
from farhand.scheduler.store.sql import SQL


@functools.lru_cache(1024)
def read_quotas(written: str) -> tuple[Quota, ...]:
    """The lines of a group's row."""
    return tuple(Quota(**line) for line in json.loads(written))


def write_quotas(quotas: Iterable[Quota]) -> str:
    """The lines, as they stand in a group's row."""
    lines = ({"tenant": q.tenant, "max_running": q.max_running, "max_queued": q.max_queued} for q in quotas)
    return json.dumps(list(lines))


async def queue_room(
    connection: Connection, groups: Mapping[str, Record], wanted: Collection[TenantInGroup]
) -> QueueRoom:
    """The room that is left in these queues, until the transaction ends. Inside of an enqueue's transaction, once it
    has locked all of its groups, given as rows of lock_groups_for_enqueue by uid; others are passed over."""
    limits: dict[TenantInGroup, int] = {}
    for uid, tenant in sorted(wanted):
        quotas = read_quotas(groups[uid]["quotas"]) if uid in groups else ()
        if quotas and (limit := quota_of(quotas, tenant).max_queued) is not None:
            limits[uid, tenant] = limit
    if not limits:
        return QueueRoom({})
    columns = [list(column) for column in zip(*limits, strict=True)]
    await connection.execute(SQL["lock_places_in_queues"], *columns)
    rows = await connection.fetch(SQL["queued_of_tenants"], *columns)
    queued = {(row["group_uid"], row["tenant"]): row["queued"] for row in rows}
    return QueueRoom(
        {name: Place(groups[name[0]]["key"], limit, queued.get(name, 0)) for name, limit in limits.items()}
    )


async def known_requests(connection: Connection, requests: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of the requests, (tenant, request id), that were answered before; they are remembered until the
    transaction ends. Once that has the locks of the queues' places, so that nobody answers one meanwhile."""
    if not requests:
        return set()
    columns = [list(column) for column in zip(*requests, strict=True)]
    return {(row["tenant"], row["request_id"]) for row in await connection.fetch(SQL["known_requests"], *columns)}


async def running_limits(connection: Connection, group: Record, uid: str, lanes: Sequence[Lane]) -> tuple[Limit, ...]:
    """How many more jobs of the tenants that are bound may go to workers. Inside of a claim's transaction: `group` is
    the row that it has locked."""
    quotas = read_quotas(group["quotas"])
    if not bound_running(quotas):
        return ()
    rows = await connection.fetch(SQL["running_of_tenants"], uid)
    running = {row["tenant"]: row["running"] for row in rows}
    return limits_of(quotas, [(lane.id, lane.tenant) for lane in lanes], running)
