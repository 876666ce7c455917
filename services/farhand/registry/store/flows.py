"""Flows: rows in, rows out. Whoever writes holds the lock of `changes`, so nothing slips past a group's deletion."""

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.registry.core.flow import FlowRevision, full_name
from farhand.registry.core.triggered_flow import TriggeredFlow
from farhand.registry.store.near import nearest_first
from farhand.registry.store.tables import flow, flow_group, flow_revision

_LISTED = [
    *(column for column in flow_revision.c if column.name not in ("source", "definition", "save_time")),
    flow.c.deleted,
    flow.c.triggered,
    flow.c.create_time,
    flow_revision.c.save_time.label("update_time"),
]
_WHOLE = [*_LISTED, flow_revision.c.source, flow_revision.c.definition]
_OF_FLOW = sql.and_(
    flow_revision.c.tenant == flow.c.tenant,
    flow_revision.c.namespace == flow.c.namespace,
    flow_revision.c.id == flow.c.id,
)
_NEWEST = sql.and_(flow_revision.c.revision == flow.c.revision, sql.not_(flow.c.deleted))


async def newest(connection: AsyncConnection, tenant: str, namespace: str, flow_id: str) -> FlowRevision | None:
    """The newest revision; None where there is no flow, or it is deleted."""
    return await _one(connection, _named(tenant, namespace, flow_id), _NEWEST)


async def get(
    connection: AsyncConnection, tenant: str, namespace: str, flow_id: str, revision: int
) -> FlowRevision | None:
    """That revision, also of a deleted flow; None where there is none."""
    return await _one(connection, _named(tenant, namespace, flow_id), flow_revision.c.revision == revision)


async def unchanged(
    connection: AsyncConnection, tenant: str, namespace: str, flow_id: str, source: str
) -> FlowRevision | None:
    """The newest revision if that is its source."""
    named = _named(tenant, namespace, flow_id)
    return await _one(connection, named, _NEWEST, flow_revision.c.source == source)


async def page(
    connection: AsyncConnection, tenant: str, within: str, after: tuple[str, str] | None, limit: int
) -> list[FlowRevision]:
    """Newest revisions without source and definition, by namespace and id, from the one after ``after``.

    within: only of this namespace and those below it; empty: of all.
    """
    statement = sql.select(*_LISTED).join_from(flow, flow_revision, _OF_FLOW).where(flow.c.tenant == tenant, _NEWEST)
    if within:
        # "/" is the next byte after ".", so this is all that begins with the name and a dot.
        below = sql.and_(flow.c.namespace > f"{within}.", flow.c.namespace < f"{within}/")
        statement = statement.where(sql.or_(flow.c.namespace == within, below))
    if after is not None:
        statement = statement.where(sql.tuple_(flow.c.namespace, flow.c.id) > sql.tuple_(*after))
    statement = statement.order_by(flow.c.namespace, flow.c.id).limit(limit)
    return [_flow(row) for row in await connection.execute(statement)]


async def revisions(
    connection: AsyncConnection, tenant: str, namespace: str, flow_id: str, before: int | None, limit: int
) -> list[FlowRevision]:
    """Revisions without source and definition, newest first, from the one before ``before``; also of a deleted flow."""
    statement = sql.select(*_LISTED).join_from(flow, flow_revision, _OF_FLOW)
    statement = statement.where(_named(tenant, namespace, flow_id))
    if before is not None:
        statement = statement.where(flow_revision.c.revision < before)
    statement = statement.order_by(flow_revision.c.revision.desc()).limit(limit)
    return [_flow(row) for row in await connection.execute(statement)]


async def names_like(connection: AsyncConnection, tenant: str, name: str) -> list[str]:
    """Full names ("namespace/id") of the tenant's flows to look for near matches in."""
    column = flow.c.namespace + "/" + flow.c.id
    statement = sql.select(column).where(flow.c.tenant == tenant, sql.not_(flow.c.deleted))
    return list((await connection.execute(nearest_first(statement, column, name))).scalars())


async def save(connection: AsyncConnection, new: FlowRevision, groups: Collection[str]) -> FlowRevision:
    """Store the next revision, which names these worker groups; gives it as stored.

    Creates the flow where there is none, and brings a deleted one back.
    """
    name = {"tenant": new.tenant, "namespace": new.namespace, "id": new.id}
    place = postgresql.insert(flow).values(**name, revision=1, deleted=False, triggered=new.triggered)
    moved = place.on_conflict_do_update(
        index_elements=[flow.c.tenant, flow.c.namespace, flow.c.id],
        set_={"revision": flow.c.revision + 1, "deleted": False, "triggered": new.triggered},
    )
    number = (await connection.execute(moved.returning(flow.c.revision))).scalar_one()
    values = {field: getattr(new, field) for field in ("source", "definition", "description", "saved_by")}
    values |= {"labels": dict(new.labels), "revision": number}
    await connection.execute(sql.insert(flow_revision).values(**name, **values))
    await _forget_groups(connection, new.tenant, new.namespace, new.id)
    if groups:
        await connection.execute(sql.insert(flow_group), [{**name, "worker_group": group} for group in sorted(groups)])
    stored = await get(connection, new.tenant, new.namespace, new.id, number)
    assert stored is not None
    return stored


async def delete(connection: AsyncConnection, tenant: str, namespace: str, flow_id: str) -> None:
    """Take a flow off the lists; its revisions stay."""
    await connection.execute(
        sql.update(flow).where(_named(tenant, namespace, flow_id)).values(deleted=True, triggered=False)
    )
    await _forget_groups(connection, tenant, namespace, flow_id)


async def triggered(connection: AsyncConnection) -> list[TriggeredFlow]:
    """All flows that have triggers."""
    columns = (flow.c.tenant, flow.c.namespace, flow.c.id, flow.c.revision.label("flow_revision"))
    found = await connection.execute(sql.select(*columns).where(flow.c.triggered))
    return [TriggeredFlow(**row._mapping) for row in found]


async def of_tenant(connection: AsyncConnection, tenant: str) -> Sequence[str]:
    """The full names of a tenant's flows."""
    statement = sql.select(flow.c.namespace, flow.c.id).where(flow.c.tenant == tenant, sql.not_(flow.c.deleted))
    found = await connection.execute(statement.order_by(flow.c.namespace, flow.c.id))
    return [full_name(row.namespace, row.id) for row in found]


async def forget_tenant(connection: AsyncConnection, tenant: str) -> None:
    """Remove the revisions of a tenant whose flows are all deleted; their numbers stay taken."""
    await connection.execute(sql.delete(flow_revision).where(flow_revision.c.tenant == tenant))


async def naming_group(connection: AsyncConnection, key: str) -> Sequence[str]:
    """The flows, as tenant/namespace/id, whose newest revision names this group."""
    statement = (
        sql.select(flow_group.c.tenant, flow_group.c.namespace, flow_group.c.id)
        .where(flow_group.c.worker_group == key)
        .order_by(flow_group.c.tenant, flow_group.c.namespace, flow_group.c.id)
    )
    return [f"{row.tenant}/{full_name(row.namespace, row.id)}" for row in await connection.execute(statement)]


async def _forget_groups(connection: AsyncConnection, tenant: str, namespace: str, flow_id: str) -> None:
    await connection.execute(
        sql.delete(flow_group).where(
            flow_group.c.tenant == tenant, flow_group.c.namespace == namespace, flow_group.c.id == flow_id
        )
    )


def _named(tenant: str, namespace: str, flow_id: str) -> sql.ColumnElement[bool]:
    return sql.and_(flow.c.tenant == tenant, flow.c.namespace == namespace, flow.c.id == flow_id)


async def _one(connection: AsyncConnection, *conditions: sql.ColumnElement[bool]) -> FlowRevision | None:
    statement = sql.select(*_WHOLE).join_from(flow, flow_revision, _OF_FLOW).where(*conditions)
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else _flow(row)


def _flow(row: sql.Row[Any]) -> FlowRevision:
    return FlowRevision(**row._mapping)
