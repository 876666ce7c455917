"""Namespaces: rows in, rows out."""

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.kernel.resolution import Fallback
from farhand.registry.core import plugin_defaults
from farhand.registry.core.namespace import CHANGEABLE, Namespace
from farhand.registry.store.naming import names_group
from farhand.registry.store.near import nearest_first
from farhand.registry.store.tables import namespace


async def get(connection: AsyncConnection, tenant: str, name: str) -> Namespace | None:
    """One namespace; None where there is none."""
    statement = sql.select(namespace).where(namespace.c.tenant == tenant, namespace.c.name == name)
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else _namespace(row)


async def among(connection: AsyncConnection, tenant: str, wanted: Collection[str]) -> dict[str, Namespace]:
    """Those of the wanted names that the tenant has, by name."""
    statement = sql.select(namespace).where(namespace.c.tenant == tenant, namespace.c.name.in_(wanted))
    return {row.name: _namespace(row) for row in await connection.execute(statement)}


async def page(connection: AsyncConnection, tenant: str, after: str | None, limit: int) -> list[Namespace]:
    """A tenant's namespaces by name, from the one after ``after``."""
    statement = sql.select(namespace).where(namespace.c.tenant == tenant).order_by(namespace.c.name).limit(limit)
    if after is not None:
        statement = statement.where(namespace.c.name > after)
    return [_namespace(row) for row in await connection.execute(statement)]


async def every(connection: AsyncConnection) -> list[Namespace]:
    """All of all tenants, by tenant and name."""
    statement = sql.select(namespace).order_by(namespace.c.tenant, namespace.c.name)
    return [_namespace(row) for row in await connection.execute(statement)]


async def names_like(connection: AsyncConnection, tenant: str, name: str) -> list[str]:
    """Names of the tenant's namespaces to look for near matches in."""
    statement = sql.select(namespace.c.name).where(namespace.c.tenant == tenant)
    return list((await connection.execute(nearest_first(statement, namespace.c.name, name))).scalars())


async def of_tenant(connection: AsyncConnection, tenant: str) -> list[str]:
    """The names of all of a tenant's namespaces."""
    statement = sql.select(namespace.c.name).where(namespace.c.tenant == tenant).order_by(namespace.c.name)
    return list((await connection.execute(statement)).scalars())


async def insert(connection: AsyncConnection, new: Namespace, revision: int) -> Namespace:
    """Store a new namespace with this revision; gives it as stored."""
    values = {"tenant": new.tenant, "name": new.name, "revision": revision, **_values(new)}
    return _namespace((await connection.execute(sql.insert(namespace).values(values).returning(namespace))).one())


async def update(connection: AsyncConnection, changed: Namespace, revision: int) -> Namespace:
    """Store the changeable fields with this revision; gives the namespace as stored."""
    statement = (
        sql.update(namespace)
        .where(namespace.c.tenant == changed.tenant, namespace.c.name == changed.name)
        .values(revision=revision, update_time=sql.func.now(), **_values(changed))
        .returning(namespace)
    )
    return _namespace((await connection.execute(statement)).one())


async def delete(connection: AsyncConnection, tenant: str, name: str) -> None:
    """Remove the row."""
    await connection.execute(sql.delete(namespace).where(namespace.c.tenant == tenant, namespace.c.name == name))


async def naming_group(connection: AsyncConnection, key: str) -> Sequence[str]:
    """The namespaces, as tenant/name, that name this group as their default or in their plugin defaults."""
    statement = (
        sql.select(namespace.c.tenant, namespace.c.name)
        .where(names_group(namespace, key))
        .order_by(namespace.c.tenant, namespace.c.name)
    )
    return [f"{row.tenant}/{row.name}" for row in await connection.execute(statement)]


def _values(of: Namespace) -> dict[str, Any]:
    values = {field: getattr(of, field) for field in CHANGEABLE}
    return values | {"plugin_defaults": plugin_defaults.written(of.plugin_defaults)}


def _namespace(row: sql.Row[Any]) -> Namespace:
    return Namespace(
        tenant=row.tenant,
        name=row.name,
        description=row.description,
        default_worker_group=row.default_worker_group,
        default_fallback=None if row.default_fallback is None else Fallback(row.default_fallback),
        plugin_defaults=plugin_defaults.stored(row.plugin_defaults),
        revision=row.revision,
        create_time=row.create_time,
        update_time=row.update_time,
    )
