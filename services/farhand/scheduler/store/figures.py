"""What runs and waits in each worker group, and what stands between a job and its start.

Counts come from `tally`, which the loops keep exact in the transactions that move
jobs: no table of jobs is counted here, so an answer costs the same however many
there are. The age of the oldest comes from the head of each lane.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Float, Select, Text, and_, bindparam, cast, extract, func, literal, select, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.kernel.quotas import Quota
from farhand.scheduler.core.explain import EXACT_POSITIONS, ActiveWorker, GroupFigures
from farhand.scheduler.core.lease import AVAILABLE_WITHIN
from farhand.scheduler.core.session import SessionState
from farhand.scheduler.core.tenant_quotas import tenant_figures
from farhand.scheduler.store.tables import job, lane, live, queue, session, tally, worker_group

_ACTIVE = [SessionState.CONNECTED.value, SessionState.DISCONNECTED.value]


def _active() -> ColumnElement[bool]:
    """The session's worker is available, the pause of its group apart (semantics.md, 3)."""
    return and_(
        # As constants, so that the index of the sessions that live serves it.
        session.c.state.in_(bindparam("active", _ACTIVE, expanding=True, literal_execute=True)),
        session.c.draining.is_(False),
        session.c.heartbeat_at > func.now() - timedelta(seconds=AVAILABLE_WITHIN),
    )


def _figures() -> Select[Any]:
    workers = (
        select(func.count().label("active"), func.coalesce(func.sum(session.c.slots), 0).label("slots"))
        .where(session.c.group_uid == worker_group.c.uid, _active())
        .lateral("workers")
    )
    counts = (
        select(
            *(
                func.coalesce(func.sum(column), 0).label(column.name)
                for column in (tally.c.queued, tally.c.live, tally.c.ended)
            )
        )
        .select_from(lane.join(tally, tally.c.lane_id == lane.c.id))
        .where(lane.c.group_uid == worker_group.c.uid)
        .lateral("counts")
    )
    head = select(queue.c.key).where(queue.c.lane_id == lane.c.id).order_by(queue.c.key).limit(1).lateral("head")
    oldest = (
        select(func.min(job.c.created_at).label("created_at"))
        .select_from(lane.join(head, true()).join(job, job.c.key == head.c.key))
        .where(lane.c.group_uid == worker_group.c.uid)
        .lateral("oldest")
    )
    return select(
        worker_group.c.uid,
        worker_group.c.key,
        workers.c.active,
        workers.c.slots,
        counts.c.queued,
        counts.c.live,
        counts.c.ended,
        cast(extract("epoch", func.statement_timestamp() - oldest.c.created_at), Float).label("oldest_wait"),
        worker_group.c.paused,
        worker_group.c.allowed_tenants,
        worker_group.c.deleting,
        worker_group.c.gone,
        worker_group.c.quotas,
    ).select_from(worker_group.join(workers, true()).join(counts, true()).join(oldest, true()))


_OF_ALL = _figures().where(worker_group.c.gone.is_(False)).order_by(worker_group.c.key.collate("C"))
_OF_SOME = _figures().where(worker_group.c.uid == func.any(bindparam("uids", type_=ARRAY(Text))))


_BY_TENANT = (
    select(
        lane.c.group_uid,
        lane.c.tenant,
        func.sum(tally.c.live).label("live"),
        func.sum(tally.c.queued).label("queued"),
    )
    .select_from(lane.join(tally, tally.c.lane_id == lane.c.id))
    .where(lane.c.group_uid == func.any(bindparam("uids", type_=ARRAY(Text))))
    .group_by(lane.c.group_uid, lane.c.tenant)
)


async def read_figures(connection: AsyncConnection, uids: Iterable[str] | None = None) -> list[GroupFigures]:
    """Of the groups with these uids, also where they are gone; without uids, of all that are there, by key."""
    if uids is None:
        rows = await connection.execute(_OF_ALL)
    else:
        rows = await connection.execute(_OF_SOME, {"uids": list(uids)})
    rows = rows.all()
    quotas = {row.uid: [Quota(**line) for line in row.quotas] for row in rows if row.quotas}
    counts = await _tenant_counts(connection, list(quotas)) if quotas else {}
    return [
        GroupFigures(
            uid=row.uid,
            key=row.key,
            active_workers=row.active,
            slots=int(row.slots),
            queued=int(row.queued),
            running=int(row.live),
            ended=int(row.ended),
            oldest_wait=None if row.oldest_wait is None else max(0.0, row.oldest_wait),
            paused=row.paused,
            allowed_tenants=frozenset(row.allowed_tenants),
            deleting=row.deleting,
            gone=row.gone,
            tenants=tenant_figures(quotas.get(row.uid, ()), counts.get(row.uid, {})),
        )
        for row in rows
    ]


async def _tenant_counts(connection: AsyncConnection, uids: list[str]) -> dict[str, dict[str, tuple[int, int]]]:
    """What runs and what waits, by group and tenant."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for row in await connection.execute(_BY_TENANT, {"uids": uids}):
        found.setdefault(row.group_uid, {})[row.tenant] = (int(row.live), int(row.queued))
    return found


async def read_active_workers(connection: AsyncConnection, group_uid: str) -> list[ActiveWorker]:
    """The active workers of a group, and how many jobs each has, by id."""
    held = select(func.count().label("held")).where(live.c.session_id == session.c.id).lateral("held")
    rows = await connection.execute(
        select(
            session.c.worker_id,
            session.c.state,
            session.c.task_types,
            session.c.tenants,
            session.c.slots,
            held.c.held,
        )
        .select_from(session.join(held, true()))
        .where(session.c.group_uid == group_uid, _active())
        .order_by(session.c.worker_id)
    )
    return [
        ActiveWorker(
            id=row.worker_id,
            connected=row.state == SessionState.CONNECTED,
            task_types=frozenset(row.task_types),
            tenants=None if row.tenants is None else frozenset(row.tenants),
            slots=row.slots,
            held=row.held,
        )
        for row in rows
    ]


async def read_position(connection: AsyncConnection, group_uid: str, key: int, *, tenant: str | None = None) -> int:
    """The place of a waiting job among those of its group, or of a tenant there, from 1; one more than
    EXACT_POSITIONS beyond that."""
    before = (
        select(literal(1).label("one"))
        .where(queue.c.lane_id == lane.c.id, queue.c.key < key)
        .limit(EXACT_POSITIONS)
        .lateral("before")
    )
    counted = (
        select(before.c.one)
        .select_from(lane.join(before, true()))
        .where(lane.c.group_uid == group_uid, true() if tenant is None else lane.c.tenant == tenant)
        .limit(EXACT_POSITIONS)
        .subquery("counted")
    )
    return 1 + (await connection.scalar(select(func.count()).select_from(counted)) or 0)
