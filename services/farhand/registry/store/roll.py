"""The roll of workers: reported rows in, rows out. It needs no lock: the newer report of a worker wins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.registry.core.worker import Report, Worker, WorkerState
from farhand.registry.store.near import nearest_first
from farhand.registry.store.tables import worker, worker_group
from farhand.registry.store.worker_groups import usable

_FIELDS = [column for column in worker.c if column.name not in ("epoch", "sequence")]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which workers to list."""

    group: str | None  # the key; None: all groups
    states: Sequence[WorkerState]
    tenants: frozenset[str] | None  # only those in groups that one of the tenants may use; None: all


async def get(connection: AsyncConnection, worker_id: str, tenants: frozenset[str] | None) -> Worker | None:
    """One worker, of a group that one of the tenants may use (None: of any); None where there is none."""
    statement = sql.select(*_FIELDS).where(worker.c.id == worker_id, *_seen_by(tenants))
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else _worker(row)


async def page(connection: AsyncConnection, wanted: Filter, after: str | None, limit: int) -> list[Worker]:
    """Workers by id, from the one after ``after``."""
    statement = sql.select(*_FIELDS).where(worker.c.state.in_(wanted.states), *_seen_by(wanted.tenants))
    if wanted.group is not None:
        statement = statement.where(worker.c.worker_group == wanted.group)
    if after is not None:
        statement = statement.where(worker.c.id > after)
    return [_worker(row) for row in await connection.execute(statement.order_by(worker.c.id).limit(limit))]


async def ids_like(connection: AsyncConnection, worker_id: str, tenants: frozenset[str] | None) -> list[str]:
    """Ids to look for near matches in; tenants as above."""
    statement = nearest_first(sql.select(worker.c.id).where(*_seen_by(tenants)), worker.c.id, worker_id)
    return list((await connection.execute(statement)).scalars())


async def task_types(connection: AsyncConnection, tenants: frozenset[str] | None) -> frozenset[str]:
    """The task types that workers ever told; tenants as above."""
    statement = sql.select(sql.func.unnest(worker.c.task_types)).where(*_seen_by(tenants)).distinct()
    return frozenset((await connection.execute(statement)).scalars())


async def put(connection: AsyncConnection, reports: Sequence[Report]) -> None:
    """Store reports, each only where it is newer than what is known. Sorted by id, each id once."""
    if not reports:
        return
    insert = postgresql.insert(worker)
    new = insert.excluded
    statement = insert.on_conflict_do_update(
        index_elements=[worker.c.id],
        set_={column.name: new[column.name] for column in worker.c if not column.primary_key},
        where=sql.tuple_(new.epoch, new.sequence) > sql.tuple_(worker.c.epoch, worker.c.sequence),
    )
    await connection.execute(statement, [_values(report) for report in reports])


def _seen_by(tenants: frozenset[str] | None) -> list[sql.ColumnElement[bool]]:
    if tenants is None:
        return []
    # A worker that admits none of the tenants is none of theirs: without the other tenants' names,
    # which they may not see, its list would be empty and say "every tenant".
    admitted = [sql.func.cardinality(worker.c.tenants) == 0]
    if tenants:
        admitted.append(worker.c.tenants.overlap(sql.cast(sorted(tenants), ARRAY(sql.Text))))
    usable_groups = sql.select(worker_group.c.uid).where(usable(tenants))
    return [worker.c.worker_group_uid.in_(usable_groups), sql.or_(*admitted)]


def _values(report: Report) -> dict[str, Any]:
    of = report.worker
    values = {column.name: getattr(of, column.name) for column in _FIELDS}
    lists = {"task_types": list(of.task_types), "tenants": list(of.tenants)}
    return values | lists | {"epoch": report.epoch, "sequence": report.sequence}


def _worker(row: sql.Row[Any]) -> Worker:
    values = dict(row._mapping)
    values["state"] = WorkerState(row.state)
    values["task_types"] = tuple(row.task_types)
    values["tenants"] = tuple(row.tenants)
    return Worker(**values)
