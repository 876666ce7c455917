"""Executions, read: by key, in pages; their task runs with what their jobs say, and their outputs.

Each function reads with one statement, hence from one snapshot, save that what other executions have to do with
these (the line in which they wait, their restarts) is looked up afterwards. Nothing here writes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, case, false, func, literal, null, or_, select, true, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.kernel.resolution import Fallback
from farhand.scheduler.core.execution import ExecutionState
from farhand.scheduler.core.execution_record import ExecutionRecord, TaskRunRecord, shown_state
from farhand.scheduler.core.job import JobState
from farhand.scheduler.core.places import Limit, why_waiting
from farhand.scheduler.core.task_run import RunId, RunState
from farhand.scheduler.store.tables import (
    done,
    execution,
    flow_limit,
    flow_revision,
    job,
    live,
    lost_delivery,
    place,
    queue,
    session,
    task_run,
    trigger,
)

# A page that filters looks at this many executions, then hands over what it found and where to go on: the cost of a
# page stays bounded however rare that is what is looked for.
_LOOKED_AT = 5_000
_REPEATS = 100  # restarts, and replays, that one execution tells of
# Keys grow with time, save for what the creations of one moment overtake each other.
_OVERTAKING = timedelta(minutes=1)

_FOR_STEPS = frozenset({"rounds_over", "loop_values", "round_over"})  # of a task run: large, and of no use here

_BRIEF = [
    execution.c.key,
    execution.c.flow_key,
    execution.c.tenant,
    execution.c.namespace,
    execution.c.flow_id,
    execution.c.flow_revision,
    execution.c.state,
    execution.c.labels,
    func.coalesce(execution.c.traceparent, "").label("traceparent"),
    execution.c.created_at,
    execution.c.ended_at,
    execution.c.kill_at,
    func.coalesce(execution.c.message, "").label("message"),
    execution.c.restart_of,
    execution.c.replay_of,
]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which executions a list asks for; empty or None: any."""

    tenant: str
    namespace: str = ""  # this one and those below it; with a flow_id: this one
    flow_id: str = ""
    states: frozenset[ExecutionState] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    created_after: datetime | None = None  # at or after
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class ExecutionPage:
    """Executions, newest first, and the key below which the next page begins; None: this is the last."""

    records: list[ExecutionRecord]
    next_before: int | None


async def read_execution(connection: AsyncConnection, key: int) -> ExecutionRecord | None:
    """An execution with its inputs and its history; None: it is not there."""
    columns = [*_BRIEF, execution.c.inputs, execution.c.states, execution.c.state_times]
    row = (await connection.execute(select(*columns).where(execution.c.key == key))).mappings().one_or_none()
    if row is None:
        return None
    [record] = await _with_others(connection, [_record(row)])
    return record


async def list_executions(connection: AsyncConnection, wanted: Wanted, before: int | None, size: int) -> ExecutionPage:
    """A page, newest first, with keys below `before`. It may hold fewer than `size` and still have a successor."""
    page = await _page(connection, wanted, before, size)
    return ExecutionPage(await _with_others(connection, page.records), page.next_before)


async def _page(connection: AsyncConnection, wanted: Wanted, before: int | None, size: int) -> ExecutionPage:
    place = [execution.c.tenant == wanted.tenant]
    if wanted.flow_id:
        place += [execution.c.namespace == wanted.namespace, execution.c.flow_id == wanted.flow_id]
    if before is not None:
        place.append(execution.c.key < before)
    filters = _filters(wanted)
    window = max(_LOOKED_AT, size + 1) if filters else size + 1
    newest = select(*_BRIEF).where(*place).order_by(execution.c.key.desc()).limit(window)
    if not filters:
        records = [_record(row) for row in (await connection.execute(newest)).mappings()]
        return ExecutionPage(records[:size], records[size - 1].key if len(records) > size else None)
    looked_at = select(newest.subquery("newest")).cte("looked_at")
    matching = select(looked_at, true().label("matches")).where(*(condition(looked_at.c) for condition in filters))
    last = select(looked_at, false()).where(
        looked_at.c.key == select(func.min(looked_at.c.key)).having(func.count() == window).scalar_subquery()
    )
    first = matching.order_by(looked_at.c.key.desc()).limit(size + 1).subquery("first")
    rows = (await connection.execute(union_all(select(first), last))).mappings().all()
    records = sorted((_record(row) for row in rows if row["matches"]), key=lambda record: -record.key)
    if len(records) > size:
        return ExecutionPage(records[:size], records[size - 1].key)
    end = next((row for row in rows if not row["matches"]), None)
    if end is None or (wanted.created_after is not None and end["created_at"] < wanted.created_after - _OVERTAKING):
        return ExecutionPage(records, None)
    return ExecutionPage(records, end["key"])


_Condition = Callable[[Any], ColumnElement[bool]]


def _filters(wanted: Wanted) -> list[_Condition]:
    filters: list[_Condition] = []
    if wanted.namespace and not wanted.flow_id:
        name = wanted.namespace
        filters.append(lambda c: or_(c.namespace == name, c.namespace.startswith(name + ".", autoescape=True)))
    if wanted.states:
        filters.append(lambda c: c.state.in_([state.value for state in sorted(wanted.states)]))
    if wanted.labels:
        filters.append(lambda c: c.labels.contains(dict(wanted.labels)))
    if wanted.created_after is not None:
        filters.append(lambda c: c.created_at >= wanted.created_after)
    if wanted.created_before is not None:
        filters.append(lambda c: c.created_at < wanted.created_before)
    return filters


async def _with_others(connection: AsyncConnection, records: Sequence[ExecutionRecord]) -> list[ExecutionRecord]:
    return await _with_triggers(connection, await _with_repeats(connection, await _in_line(connection, records)))


async def _with_triggers(connection: AsyncConnection, records: Sequence[ExecutionRecord]) -> list[ExecutionRecord]:
    rows = await connection.execute(
        select(execution.c.key, trigger.c.trigger_id)
        .select_from(execution.join(trigger, trigger.c.key == execution.c.trigger_key))
        .where(execution.c.key.in_([record.key for record in records]))
    )
    ids: dict[int, str] = {row.key: row.trigger_id for row in rows}
    return [replace(record, trigger_id=ids.get(record.key, "")) for record in records]


async def _with_repeats(connection: AsyncConnection, records: Sequence[ExecutionRecord]) -> list[ExecutionRecord]:
    """These executions; those that have ended tell of their restarts and replays."""
    ended = [record.key for record in records if record.ended]
    if not ended:
        return list(records)
    found = []
    for column in (execution.c.restart_of, execution.c.replay_of):
        newest = func.row_number().over(partition_by=column, order_by=execution.c.key.desc()).label("place")
        numbered = select(column.label("of"), execution.c.key, newest).where(column.in_(ended)).subquery("numbered")
        found.append(
            select(numbered.c.of, numbered.c.key, literal(column.name).label("column"))
            .where(numbered.c.place <= _REPEATS)
            .order_by(numbered.c.key.desc())
        )
    again: dict[str, dict[int, list[int]]] = {"restart_of": {}, "replay_of": {}}
    for row in await connection.execute(union_all(*found)):
        again[row.column].setdefault(row.of, []).append(row.key)
    return [
        replace(
            record,
            restarts=tuple(again["restart_of"].get(record.key, ())),
            replays=tuple(again["replay_of"].get(record.key, ())),
        )
        for record in records
    ]


async def _in_line(connection: AsyncConnection, records: Sequence[ExecutionRecord]) -> list[ExecutionRecord]:
    """These executions; those that wait for their turn say so, and how many wait before them."""
    new = [record.key for record in records if record.state is ExecutionState.CREATED]
    if not new:
        return list(records)
    lines = select(place.c.limit_key).where(place.c.execution_key.in_(new), place.c.waits).distinct().subquery("lines")
    numbered = (
        select(
            place.c.execution_key,
            place.c.limit_key,
            (func.row_number().over(partition_by=place.c.limit_key, order_by=place.c.id) - 1).label("before"),
        )
        .where(place.c.waits, place.c.limit_key.in_(select(lines.c.limit_key)))
        .subquery("numbered")
    )
    rows = await connection.execute(
        select(numbered.c.execution_key, numbered.c.before, flow_limit.c.revision, flow_limit.c.most)
        .join_from(numbered, flow_limit, flow_limit.c.key == numbered.c.limit_key)
        .where(numbered.c.execution_key.in_(new))
    )
    why = {row.execution_key: why_waiting(Limit(row.revision, row.most), row.before) for row in rows}
    return [replace(record, message=why[record.key]) if record.key in why else record for record in records]


async def read_task_runs(connection: AsyncConnection, key: int) -> list[TaskRunRecord]:
    """The task runs of an execution in the order of their creation, each as its job says that it is."""
    work = func.coalesce(task_run.c.job_key, task_run.c.taken_job_key)
    last = (  # the assignment that a waiting job had, or that a job ended without a result had
        select(lost_delivery.c.session_id)
        .where(lost_delivery.c.key == work, live.c.key.is_(None), func.coalesce(done.c.fence, 0) == 0)
        .order_by(lost_delivery.c.fence.desc())
        .limit(1)
        .lateral("last")
    )
    job_state = case(
        (work.is_(None), null()),
        (done.c.key.is_not(None), done.c.state),
        (live.c.key.is_(None), literal(JobState.CREATED.value)),
        (live.c.kill_at.is_not(None), literal(JobState.KILLING.value)),
        (live.c.started_at.is_not(None), literal(JobState.RUNNING.value)),
        else_=literal(JobState.ASSIGNED.value),
    )
    columns: list[Any] = [
        *(column for column in task_run.c if column.name not in _FOR_STEPS),
        work.label("work"),
        job_state.label("job_state"),
        func.coalesce(live.c.assigned_at, done.c.assigned_at).is_not(None).label("assigned"),
        func.coalesce(session.c.worker_id, "").label("worker"),
        func.coalesce(live.c.lost, done.c.lost, queue.c.lost, 0).label("lost"),
        func.coalesce(live.c.started_at, done.c.started_at).label("job_started_at"),
    ]
    rows = await connection.execute(
        select(*columns)
        .select_from(
            task_run.outerjoin(live, live.c.key == work)
            .outerjoin(done, done.c.key == work)
            .outerjoin(job, job.c.key == work)
            .outerjoin(queue, and_(queue.c.lane_id == job.c.lane_id, queue.c.key == job.c.key))
            .outerjoin(last, true())
            .outerjoin(session, session.c.id == func.coalesce(live.c.session_id, done.c.session_id, last.c.session_id))
        )
        .where(task_run.c.execution_key == key)
        .order_by(task_run.c.created_at, task_run.c.key)
    )
    return [_task_run(row) for row in rows.mappings()]


async def read_run_outputs(connection: AsyncConnection, key: int, most: int) -> dict[int, bytes | None]:
    """By key of the task run: its job's outputs, serialized; the oldest first, no more than `most` bytes, and None
    for what goes beyond. A task run without outputs is not in it."""
    sized = (
        select(
            task_run.c.key,
            done.c.outputs,
            func.sum(func.octet_length(done.c.outputs))
            .over(order_by=(task_run.c.created_at, task_run.c.key))
            .label("sum"),
        )
        .select_from(task_run.join(done, done.c.key == func.coalesce(task_run.c.job_key, task_run.c.taken_job_key)))
        .where(task_run.c.execution_key == key, done.c.outputs.is_not(None))
        .subquery("sized")
    )
    rows = await connection.execute(select(sized.c.key, case((sized.c.sum <= most, sized.c.outputs)).label("outputs")))
    return {row.key: row.outputs for row in rows}


async def read_definition(connection: AsyncConnection, flow_key: int) -> str | None:
    """The definition of a flow's revision; None: it is not there."""
    definition: str | None = await connection.scalar(
        select(flow_revision.c.definition).where(flow_revision.c.key == flow_key)
    )
    return definition


async def read_execution_of_job(connection: AsyncConnection, job_key: int) -> int | None:
    """The execution that a job works for, or, where that is forgotten, one that took it over; None: it is an ad-hoc
    job."""
    key: int | None = await connection.scalar(
        select(task_run.c.execution_key)
        .where(or_(task_run.c.job_key == job_key, task_run.c.taken_job_key == job_key))
        .order_by(task_run.c.key)
        .limit(1)
    )
    return key


def _record(row: Mapping[Any, Any]) -> ExecutionRecord:
    values = {name: row[name] for name in _RECORD if name in row}
    values["state"] = ExecutionState(row["state"])
    if "states" in row:
        values["history"] = tuple(
            (ExecutionState(state), at) for state, at in zip(row["states"], row["state_times"], strict=True)
        )
    return ExecutionRecord(**values)


_RECORD = [entry.name for entry in fields(ExecutionRecord)]


def _task_run(row: Mapping[Any, Any]) -> TaskRunRecord:
    state = RunState(row["state"])
    job_state = JobState(row["job_state"]) if row["job_state"] else None
    fallback = Fallback(row["fallback"]) if row["fallback"] else None
    return TaskRunRecord(
        row["key"],
        RunId(row["task_id"], row["iteration"], row["attempt"]),
        shown_state(state, job_state, assigned=row["assigned"]),
        row["work"],
        row["branch"] or "",
        row["reason"] or "",
        row["message"] or "",
        row["group_key"] or "",
        row["group_level"] or "",
        fallback,
        row["fallback_level"] or "",
        row["worker"],
        row["lost"],
        row["created_at"],
        row["started_at"] or row["job_started_at"],
        row["ended_at"],
        row["taken_from"],
        row["rounds"],
    )
