"""The lock of everything declared, and the log of its changes.

A change: `lock`, then read what it depends on (in later statements, which see what
was committed before the lock was had), write the resource with the next revision,
and `record` it, all in one transaction. So revisions have no gaps, and their order
is the order of commits.
"""

from collections.abc import Sequence

import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.registry.core.change import REMEMBERED, Change, Put, Removed
from farhand.registry.core.worker_group import WorkerGroup
from farhand.registry.store import documents
from farhand.registry.store.tables import change, revision

CHANNEL = "farhand_registry"


async def lock(connection: AsyncConnection) -> int:
    """Wait for the lock, hold it until the transaction ends; gives the newest revision."""
    statement = sql.select(revision.c.revision).with_for_update()
    return int((await connection.execute(statement)).scalar_one())


async def current(connection: AsyncConnection) -> int:
    """The newest revision."""
    return int((await connection.execute(sql.select(revision.c.revision))).scalar_one())


async def record(connection: AsyncConnection, new: Change) -> None:
    """Write a change into the log, forget the oldest, and wake the watchers when the transaction commits.

    Needs the lock; the change's revision is the newest one plus 1.
    """
    moved = await connection.execute(
        sql.update(revision).where(revision.c.revision == new.revision - 1).values(revision=new.revision)
    )
    if moved.rowcount != 1:
        raise AssertionError(f"revision {new.revision} is not the next one")
    await connection.execute(
        sql.insert(change).values(
            revision=new.revision,
            kind=documents.kind(type(new.step.resource)),
            removed=isinstance(new.step, Removed),
            resource=documents.write(new.step.resource),
        )
    )
    await connection.execute(sql.delete(change).where(change.c.revision <= new.revision - REMEMBERED))
    await connection.execute(sql.select(sql.func.pg_notify(CHANNEL, str(new.revision))))


async def after(connection: AsyncConnection, known: int, limit: int) -> Sequence[Change] | None:
    """The changes that follow a revision, in order; None when the log does not reach back so far.

    The transaction is one of `Transactions.reading`, and ``known`` at most `current`.
    """
    statement = sql.select(change).where(change.c.revision > known).order_by(change.c.revision).limit(limit)
    rows = (await connection.execute(statement)).all()
    first = rows[0].revision if rows else await current(connection) + 1
    if first != known + 1:
        return None
    return [_change(row) for row in rows]


async def removed_uid(connection: AsyncConnection, uid: str) -> bool:
    """Whether the log remembers that the worker group with this uid was removed."""
    statement = sql.select(change.c.revision).where(
        change.c.removed,
        change.c.kind == documents.kind(WorkerGroup),
        change.c.resource["uid"].astext == uid,
    )
    return (await connection.execute(statement)).one_or_none() is not None


def _change(row: sql.Row[tuple[object, ...]]) -> Change:
    resource = documents.read_any(row.kind, row.resource)
    return Change(row.revision, Removed(resource) if row.removed else Put(resource))
