"""Worker groups: rows in, rows out."""

from dataclasses import asdict
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.kernel.quotas import Quota
from farhand.registry.core.worker_group import GroupState, Refusal, WorkerGroup
from farhand.registry.store.near import nearest_first
from farhand.registry.store.tables import worker_group


async def get(connection: AsyncConnection, key: str) -> WorkerGroup | None:
    """The group with this key, empty for the default group; None where there is none."""
    return await _one(connection, worker_group.c.key == key)


async def get_by_uid(connection: AsyncConnection, uid: str) -> WorkerGroup | None:
    """The group with this uid; None where there is none."""
    return await _one(connection, worker_group.c.uid == uid)


async def page(
    connection: AsyncConnection, tenants: frozenset[str] | None, after: str | None, limit: int
) -> list[WorkerGroup]:
    """Groups by key, the default group first, from the one after ``after``.

    tenants: only the groups that one of them may use; None: all.
    """
    statement = sql.select(worker_group).order_by(worker_group.c.key).limit(limit)
    if tenants is not None:
        statement = statement.where(usable(tenants))
    if after is not None:
        statement = statement.where(worker_group.c.key > after)
    return [_group(row) for row in await connection.execute(statement)]


async def every(connection: AsyncConnection) -> list[WorkerGroup]:
    """All of them, by key."""
    return [_group(row) for row in await connection.execute(sql.select(worker_group).order_by(worker_group.c.key))]


async def keys_like(connection: AsyncConnection, key: str, tenants: frozenset[str] | None = None) -> list[str]:
    """Keys to look for near matches in; tenants: of the groups that one of them may use, None: of all."""
    statement = sql.select(worker_group.c.key)
    if tenants is not None:
        statement = statement.where(usable(tenants))
    return list((await connection.execute(nearest_first(statement, worker_group.c.key, key))).scalars())


async def insert(connection: AsyncConnection, new: WorkerGroup, revision: int) -> WorkerGroup:
    """Store a new group with this revision; gives it as stored."""
    values = {"uid": new.uid, "key": new.key, "revision": revision, **_values(new)}
    return _group((await connection.execute(sql.insert(worker_group).values(values).returning(worker_group))).one())


async def update(connection: AsyncConnection, changed: WorkerGroup, revision: int) -> WorkerGroup:
    """Store all but key and uid with this revision; gives the group as stored."""
    statement = (
        sql.update(worker_group)
        .where(worker_group.c.uid == changed.uid)
        .values(revision=revision, update_time=sql.func.now(), **_values(changed))
        .returning(worker_group)
    )
    return _group((await connection.execute(statement)).one())


async def delete(connection: AsyncConnection, uid: str) -> None:
    """Remove the row; nothing may name it any more."""
    await connection.execute(sql.delete(worker_group).where(worker_group.c.uid == uid))


async def allowing(connection: AsyncConnection, tenant: str) -> list[str]:
    """The keys of the groups whose allowed tenants name this one."""
    statement = sql.select(worker_group.c.key).where(worker_group.c.allowed_tenants.any_() == tenant)
    return list((await connection.execute(statement.order_by(worker_group.c.key))).scalars())


async def with_quota_of(connection: AsyncConnection, tenant: str) -> list[str]:
    """The keys of the groups that have a quota for this very tenant."""
    statement = sql.select(worker_group.c.key).where(worker_group.c.quotas.contains([{"tenant": tenant}]))
    return list((await connection.execute(statement.order_by(worker_group.c.key))).scalars())


def usable(tenants: frozenset[str]) -> sql.ColumnElement[bool]:
    """The condition that one of the tenants may use a group, as `Visibility.sees_group` says it."""
    if not tenants:
        return sql.false()
    named = sql.cast(sorted(tenants), ARRAY(sql.Text))
    return sql.or_(
        sql.func.cardinality(worker_group.c.allowed_tenants) == 0, worker_group.c.allowed_tenants.overlap(named)
    )


async def _one(connection: AsyncConnection, condition: sql.ColumnElement[bool]) -> WorkerGroup | None:
    row = (await connection.execute(sql.select(worker_group).where(condition))).one_or_none()
    return None if row is None else _group(row)


def _values(of: WorkerGroup) -> dict[str, Any]:
    return {
        "description": of.description,
        "allowed_tenants": list(of.allowed_tenants),
        "lease": of.lease,
        "paused": of.paused,
        "state": of.state,
        "force_deletion": of.force_deletion,
        "deleting_since": of.deleting_since,
        "refused_queued_jobs": of.refusal.queued_jobs if of.refusal else None,
        "refused_running_jobs": of.refusal.running_jobs if of.refusal else None,
        "quotas": [asdict(quota) for quota in of.quotas],
    }


def _group(row: sql.Row[Any]) -> WorkerGroup:
    refusal = None
    if row.refused_queued_jobs is not None:
        refusal = Refusal(row.refused_queued_jobs, row.refused_running_jobs)
    return WorkerGroup(
        key=row.key,
        uid=row.uid,
        description=row.description,
        allowed_tenants=tuple(row.allowed_tenants),
        lease=row.lease,
        paused=row.paused,
        state=GroupState(row.state),
        force_deletion=row.force_deletion,
        deleting_since=row.deleting_since,
        refusal=refusal,
        revision=row.revision,
        create_time=row.create_time,
        update_time=row.update_time,
        quotas=tuple(Quota(**quota) for quota in row.quotas),
    )
