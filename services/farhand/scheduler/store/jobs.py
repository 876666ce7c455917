"""Jobs, read: by their keys, in pages, and their lost assignments.

A job's state is where its row is: in `queue`, in `live` or in `done`. Each function
reads states with one statement, hence from one snapshot, in which exactly one of
the three has it. Nothing here writes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    FromClause,
    Select,
    Table,
    and_,
    bindparam,
    case,
    false,
    func,
    literal,
    null,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.kernel.resolution import Fallback
from farhand.scheduler.core.job import FINAL, HELD, JobState
from farhand.scheduler.core.record import JobRecord, Lost
from farhand.scheduler.store.tables import done, job, lane, live, lost_delivery, queue, session, worker_group

_FALLBACKS = {"W": Fallback.WAIT, "F": Fallback.FAIL, "C": Fallback.CANCEL}

# A page that looks for ended jobs in some states looks at this many jobs, then hands over what it found and
# where to go on: the cost of a page stays bounded however rare the state is.
_LOOKED_AT = 5_000

_ABOVE_ALL = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Page:
    """Jobs, newest first, and the key below which the next page begins; None: this is the last."""

    records: list[JobRecord]
    next_before: int | None


def _state() -> ColumnElement[str]:
    return case(
        (done.c.key.is_not(None), done.c.state),
        (live.c.key.is_(None), literal(JobState.CREATED.value)),
        (live.c.kill_at.is_not(None), literal(JobState.KILLING.value)),
        (live.c.started_at.is_not(None), literal(JobState.RUNNING.value)),
        else_=literal(JobState.ASSIGNED.value),
    )


def _records(keys: FromClause, *, full: bool) -> Select[Any]:
    """The columns of a JobRecord for each key of a relation with a column `key`."""
    last = (  # the assignment that a waiting job had, or that a job ended without a result had
        select(lost_delivery.c.fence, lost_delivery.c.session_id, lost_delivery.c.assigned_at)
        .where(lost_delivery.c.key == job.c.key, live.c.key.is_(None), func.coalesce(done.c.fence, 0) == 0)
        .order_by(lost_delivery.c.fence.desc())
        .limit(1)
        .lateral("last")
    )
    waits = and_(live.c.key.is_(None), done.c.key.is_(None))
    columns: list[ColumnElement[Any]] = [
        job.c.key,
        lane.c.tenant,
        lane.c.task_type,
        lane.c.group_uid,
        worker_group.c.key.label("group_key"),
        _state().label("state"),
        func.coalesce(live.c.fence, func.nullif(done.c.fence, 0), last.c.fence, 0).label("fence"),
        func.coalesce(session.c.worker_id, "").label("worker"),
        func.coalesce(live.c.lost, done.c.lost, queue.c.lost, 0).label("lost"),
        job.c.created_at,
        case((waits, null()), else_=func.coalesce(live.c.assigned_at, done.c.assigned_at, last.c.assigned_at)).label(
            "assigned_at"
        ),
        func.coalesce(live.c.started_at, done.c.started_at).label("started_at"),
        done.c.ended_at,
        func.coalesce(live.c.kill_at, done.c.kill_at).label("kill_at"),
        done.c.exit_code,
        func.coalesce(done.c.reason, "").label("reason"),
        func.coalesce(done.c.message, "").label("message"),
        done.c.run_us,
        func.coalesce(done.c.fence, 0).label("result_fence"),
        func.coalesce(done.c.log_end, 0).label("log_end"),
        func.statement_timestamp().label("read_at"),
    ]
    if full:
        columns += [job.c.namespace, job.c.fallback, job.c.max_deliveries, job.c.task, done.c.outputs]
    return select(*columns).select_from(
        keys.join(job, job.c.key == keys.c.key)
        .join(lane, lane.c.id == job.c.lane_id)
        .join(worker_group, worker_group.c.uid == lane.c.group_uid)
        .outerjoin(queue, and_(queue.c.lane_id == job.c.lane_id, queue.c.key == job.c.key))
        .outerjoin(live, live.c.key == job.c.key)
        .outerjoin(done, done.c.key == job.c.key)
        .outerjoin(last, true())
        .outerjoin(session, session.c.id == func.coalesce(live.c.session_id, done.c.session_id, last.c.session_id))
    )


def _record(row: Mapping[str, Any]) -> JobRecord:
    values = {**row, "state": JobState(row["state"])}
    if "fallback" in values:
        values["fallback"] = _FALLBACKS[values["fallback"]]
    return JobRecord(**values)


_GIVEN = func.unnest(bindparam("keys", type_=ARRAY(BigInteger))).table_valued("key", name="given").render_derived()
_BY_KEYS = {full: _records(_GIVEN, full=full) for full in (False, True)}


async def read_jobs(connection: AsyncConnection, keys: Sequence[int], *, full: bool) -> dict[int, JobRecord]:
    """Those of the jobs that are there. `full` brings the task, the outputs and what else lists leave out."""
    rows = (await connection.execute(_BY_KEYS[full], {"keys": list(keys)})).mappings()
    return {row["key"]: _record(row) for row in rows}


_BEFORE = bindparam("before", type_=BigInteger)
_WINDOW = bindparam("window", type_=BigInteger)


def _newest(source: Table, lanes: FromClause) -> Select[Any]:
    # In the order of the index by lane, and told by its own two columns: with `lane_id = …` the planner may
    # walk the primary key instead, through the jobs of all other lanes.
    below = (
        select(source.c.lane_id, source.c.key)
        .where(tuple_(source.c.lane_id, source.c.key) < tuple_(lanes.c.id, _BEFORE))
        .order_by(source.c.lane_id.desc(), source.c.key.desc())
        .limit(_WINDOW)
        .lateral("below")
    )
    return select(below.c.key).select_from(lanes.join(below, below.c.lane_id == lanes.c.id))


def _newest_held(lanes: FromClause) -> Select[Any]:
    # `live` is no longer than all slots together, and has no index by lane.
    return select(live.c.key).where(live.c.lane_id.in_(select(lanes.c.id)), live.c.key < _BEFORE)


async def list_jobs(
    connection: AsyncConnection,
    tenant: str,
    group_uid: str | None,
    states: frozenset[JobState],
    before: int | None,
    size: int,
) -> Page:
    """A page of a tenant's jobs, newest first: those of one group or of all, in one of the states or (empty) in
    any, with a key below `before`. It may hold fewer than `size` and still have a successor.

    Each lane is read backwards from `before` along an index, so that the cost does not grow with the number of
    jobs, neither of this tenant nor of others."""
    mine = select(lane.c.id).where(lane.c.tenant == tenant)
    if group_uid is not None:
        mine = mine.where(lane.c.group_uid == group_uid)
    lanes = mine.subquery("lanes")
    if not states or states & FINAL:
        sources = [_newest(job, lanes)]
    else:
        sources = [_newest(queue, lanes)] if JobState.CREATED in states else []
        sources += [_newest_held(lanes)] if states & HELD else []
    window = size + 1 if states <= {JobState.CREATED} else max(_LOOKED_AT, size + 1)
    found = await connection.execute(
        _page_keys(union_all(*sources).subquery("candidates"), states),
        {"before": before or _ABOVE_ALL, "window": window, "size": size + 1},
    )
    keys: list[int] = []
    last_looked_at: int | None = None
    for row in found:
        if row.matches:
            keys.append(row.key)
        else:
            last_looked_at = row.key
    keys.sort(reverse=True)
    records = await read_jobs(connection, keys[:size], full=False)
    # A job may have moved on since its key was read.
    page = [records[key] for key in keys[:size] if key in records and (not states or records[key].state in states)]
    return Page(page, keys[size - 1] if len(keys) > size else last_looked_at)


def _page_keys(candidates: FromClause, states: frozenset[JobState]) -> CompoundSelect[Any]:
    """The newest keys in one of the states; and, where not all candidates were looked at, the last that was."""
    looked_at = select(candidates.c.key).order_by(candidates.c.key.desc()).limit(_WINDOW).cte("looked_at")
    matching = select(looked_at.c.key, true().label("matches"))
    if states:
        matching = matching.select_from(
            looked_at.outerjoin(live, live.c.key == looked_at.c.key).outerjoin(done, done.c.key == looked_at.c.key)
        ).where(_state().in_(sorted(states)))
    matching = matching.order_by(looked_at.c.key.desc()).limit(bindparam("size", type_=BigInteger))
    last = select(func.min(looked_at.c.key), false()).having(func.count() == _WINDOW)
    return union_all(select(matching.subquery("matching")), last)


async def read_lost(connection: AsyncConnection, key: int) -> list[Lost]:
    """The assignments of a job that brought no result, oldest first."""
    rows = await connection.execute(
        select(
            lost_delivery.c.fence,
            func.coalesce(session.c.worker_id, ""),
            lost_delivery.c.assigned_at,
            lost_delivery.c.lost_at,
            lost_delivery.c.reason,
        )
        .select_from(lost_delivery.outerjoin(session, session.c.id == lost_delivery.c.session_id))
        .where(lost_delivery.c.key == key)
        .order_by(lost_delivery.c.fence)
    )
    return [Lost(*row) for row in rows]
