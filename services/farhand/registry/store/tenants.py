"""Tenants: rows in, rows out."""

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.kernel.resolution import Fallback
from farhand.registry.core import plugin_defaults
from farhand.registry.core.tenant import CHANGEABLE, Tenant
from farhand.registry.store.naming import names_group
from farhand.registry.store.near import nearest_first
from farhand.registry.store.tables import tenant


async def get(connection: AsyncConnection, tenant_id: str) -> Tenant | None:
    """One tenant; None where there is none."""
    row = (await connection.execute(sql.select(tenant).where(tenant.c.id == tenant_id))).one_or_none()
    return None if row is None else _tenant(row)


async def page(
    connection: AsyncConnection, visible: frozenset[str] | None, after: str | None, limit: int
) -> list[Tenant]:
    """Tenants by id, from the one after ``after``; ``visible``: only these, None: all."""
    statement = sql.select(tenant).order_by(tenant.c.id).limit(limit)
    if visible is not None:
        statement = statement.where(tenant.c.id.in_(visible))
    if after is not None:
        statement = statement.where(tenant.c.id > after)
    return [_tenant(row) for row in await connection.execute(statement)]


async def every(connection: AsyncConnection) -> list[Tenant]:
    """All of them, by id."""
    return [_tenant(row) for row in await connection.execute(sql.select(tenant).order_by(tenant.c.id))]


async def ids_like(connection: AsyncConnection, tenant_id: str, visible: frozenset[str] | None) -> list[str]:
    """Ids to look for near matches in; ``visible``: only these, None: all."""
    statement = sql.select(tenant.c.id)
    if visible is not None:
        statement = statement.where(tenant.c.id.in_(visible))
    return list((await connection.execute(nearest_first(statement, tenant.c.id, tenant_id))).scalars())


async def missing(connection: AsyncConnection, wanted: Collection[str]) -> list[str]:
    """Those of the wanted ids that no tenant has, sorted."""
    statement = sql.select(tenant.c.id).where(tenant.c.id.in_(wanted))
    return sorted(set(wanted).difference((await connection.execute(statement)).scalars()))


async def insert(connection: AsyncConnection, new: Tenant, revision: int) -> Tenant:
    """Store a new tenant with this revision; gives it as stored."""
    statement = sql.insert(tenant).values(id=new.id, revision=revision, **_values(new)).returning(tenant)
    return _tenant((await connection.execute(statement)).one())


async def update(connection: AsyncConnection, changed: Tenant, revision: int) -> Tenant:
    """Store the changeable fields with this revision; gives the tenant as stored."""
    statement = (
        sql.update(tenant)
        .where(tenant.c.id == changed.id)
        .values(revision=revision, update_time=sql.func.now(), **_values(changed))
        .returning(tenant)
    )
    return _tenant((await connection.execute(statement)).one())


async def delete(connection: AsyncConnection, tenant_id: str) -> None:
    """Remove the row; nothing may name it any more."""
    await connection.execute(sql.delete(tenant).where(tenant.c.id == tenant_id))


async def naming_group(connection: AsyncConnection, key: str) -> Sequence[str]:
    """The ids of the tenants that name this group as their default or in their plugin defaults."""
    statement = sql.select(tenant.c.id).where(names_group(tenant, key)).order_by(tenant.c.id)
    return list((await connection.execute(statement)).scalars())


def _values(of: Tenant) -> dict[str, Any]:
    values = {field: getattr(of, field) for field in CHANGEABLE}
    return values | {"plugin_defaults": plugin_defaults.written(of.plugin_defaults)}


def _tenant(row: sql.Row[Any]) -> Tenant:
    return Tenant(
        id=row.id,
        description=row.description,
        default_worker_group=row.default_worker_group,
        default_fallback=None if row.default_fallback is None else Fallback(row.default_fallback),
        plugin_defaults=plugin_defaults.stored(row.plugin_defaults),
        revision=row.revision,
        create_time=row.create_time,
        update_time=row.update_time,
    )
