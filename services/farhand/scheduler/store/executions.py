"""Executions as they are moved: created, asked to end, locked, looked at, written.

Each function runs inside of the transaction that its caller began, unless it says
otherwise, on a raw connection. What the rules look at comes as values of the core;
beside it stands what only the shell needs. Reads for people are in
`execution_reads.py`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from asyncpg import Connection, Record

from farhand.scheduler.core.execution import Execution, ExecutionState
from farhand.scheduler.core.job import JobState
from farhand.scheduler.core.task_run import JobView, Run, RunId, RunState
from farhand.scheduler.store.groups import Ending, end_waiting
from farhand.scheduler.store.sql import SQL

# By their names: to call an enum takes several times longer, and a step reads thousands.
_RUN_STATES = {state.value: state for state in RunState}
_JOB_STATES = {state.value: state for state in JobState}


class NewExecution(NamedTuple):
    """An execution to create."""

    key: int
    flow_key: int
    tenant: str
    namespace: str
    flow_id: str
    flow_revision: int
    inputs: str  # JSON
    labels: str  # JSON
    trigger: str | None  # JSON
    restart_of: int | None
    replay_of: int | None
    traceparent: str | None
    parent_span: str | None
    ended: str | None = None  # the state in which it ends at once
    message: str | None = None  # and why
    trigger_key: int | None = None  # the trigger that started it,
    tick_at: datetime | None = None  # for which tick,
    backfill: int | None = None  # of which of its backfills; 0: of the calendar;
    evaluation_job_key: int | None = None  # or by which evaluation


@dataclass(frozen=True, slots=True)
class Locked:
    """An execution that is held for a step. `now` is the transaction's time."""

    key: int
    flow_key: int
    tenant: str
    namespace: str
    flow_id: str
    flow_revision: int
    inputs: Mapping[str, Any]
    labels: Mapping[str, str]
    trigger: Mapping[str, Any] | None
    traceparent: str | None
    parent_span: str | None
    created_at: datetime
    now: datetime
    execution: Execution


class Found(NamedTuple):
    """A task run as it was found: its key, its job's (None: it has none), that of the job that did its work before it
    was taken over, and when it started, as far as is known."""

    key: int
    job_key: int | None
    taken_job_key: int | None
    started_at: datetime | None
    run: Run


class RunRow(NamedTuple):
    """A task run to write. Group and fallback None: as they were."""

    key: int
    execution_key: int
    id: RunId
    state: str
    job_key: int | None
    branch: str | None
    reason: str | None
    message: str | None
    group_key: str | None
    group_level: str | None
    fallback: str | None
    fallback_level: str | None
    wait_limit: timedelta | None
    again_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    rounds: int | None
    rounds_over: bytes | None
    round_over: bool


class MovedRow(NamedTuple):
    """An execution to write. `states`: those that it went through, in order; empty: none."""

    key: int
    states: Sequence[str]
    message: str
    wake_at: datetime | None
    ended_at: datetime | None
    runs_over: int


class MarkedKill(NamedTuple):
    """A job that a worker has and that is to be ended."""

    key: int
    fence: int
    session_id: int


# ── flows ──


async def keep_flow(
    connection: Connection, tenant: str, namespace: str, flow_id: str, revision: int, digest: bytes, definition: str
) -> int:
    """The key of a flow's revision, kept here from now on, and held until the transaction ends."""
    name = (tenant, namespace, flow_id, revision, digest)
    while (key := await connection.fetchval(SQL["find_flow_revision"], *name)) is None:
        await connection.execute(SQL["keep_flow_revision"], *name, definition)
    return int(key)


async def read_definitions(connection: Connection, flow_keys: Sequence[int]) -> dict[int, tuple[str, str]]:
    """Tenant and definition of flow revisions, by key."""
    rows = await connection.fetch(SQL["read_definitions"], list(flow_keys))
    return {row["key"]: (row["tenant"], row["definition"]) for row in rows}


# ── creation and kills ──


async def recall_request(connection: Connection, tenant: str, request_id: str) -> tuple[bytes, int] | None:
    """The body's hash and the execution of a request id; None: it is new. In a transaction or not."""
    row = await connection.fetchrow(SQL["recall_execution_request"], tenant, request_id)
    return (row["body_hash"], row["execution_key"]) if row else None


async def remember_request(
    connection: Connection, tenant: str, request_id: str, body_hash: bytes, execution_key: int
) -> bool:
    """Whether the id was new; now it is this execution's."""
    found = await connection.fetchval(SQL["remember_execution_request"], tenant, request_id, body_hash, execution_key)
    return found is not None


async def allot_execution_key(connection: Connection) -> int:
    """A key for an execution. In a transaction or not."""
    key: int = await connection.fetchval(SQL["allot_execution_key"])
    return key


async def create_execution(connection: Connection, execution: NewExecution) -> None:
    """Make it, due at once unless it has ended."""
    await connection.execute(SQL["create_execution"], *execution)


async def ask_kill(connection: Connection, key: int) -> None:
    """Note that an execution is to be ended, unless it has. By itself or in a transaction."""
    await connection.execute(SQL["ask_execution_kill"], key)


async def read_kill(connection: Connection, key: int) -> tuple[str, list[int]] | None:
    """An execution's state, and its jobs that workers have and whose kill they have not confirmed; None: it is not
    there. In a transaction or not."""
    row = await connection.fetchrow(SQL["kill_of_execution"], key)
    return (row["state"], row["unconfirmed"]) if row else None


# ── a step ──


async def executions_due(connection: Connection, limit: int) -> list[int]:
    """Keys of executions that are to be looked at now. Outside of a transaction."""
    return [row["execution_key"] for row in await connection.fetch(SQL["executions_due"], limit)]


async def next_timer(connection: Connection) -> float | None:
    """Seconds until the next execution is due that is not yet; None: there is none. Outside of a transaction."""
    seconds: float | None = await connection.fetchval(SQL["next_timer"])
    return seconds


async def lock_executions(connection: Connection, keys: Sequence[int]) -> list[Locked]:
    """Those of these that nobody else moves now, held until the transaction ends, by key."""
    return [_locked(row) for row in await connection.fetch(SQL["lock_executions"], sorted(keys))]


async def take_due(connection: Connection, keys: Sequence[int]) -> None:
    """Take away what says that these locked executions are to be looked at; to be called before the look."""
    await connection.execute(SQL["take_due"], keys)


async def read_runs(connection: Connection, keys: Sequence[int]) -> dict[int, list[Found]]:
    """All task runs of these executions whose rounds are not over, in the order of their creation; those that have not
    ended with their jobs, as they are."""
    runs: dict[int, list[Found]] = {key: [] for key in keys}
    for row in await connection.fetch(SQL["runs_of_executions"], keys):
        runs[row["execution_key"]].append(_found(row))
    return runs


async def read_runs_over(connection: Connection, wanted: Sequence[tuple[int, str]]) -> dict[int, list[Found]]:
    """By execution: the task runs of rounds that are over, of these executions and tasks."""
    runs: dict[int, list[Found]] = {key: [] for key, _ in wanted}
    for row in await connection.fetch(SQL["runs_of_rounds_over"], *_columns(wanted)):
        runs[row["execution_key"]].append(_found(row))
    return runs


async def read_round_values(connection: Connection, rounds: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Any]:
    """The values of rounds, given as the key of the loop's task run and the number."""
    rows = await connection.fetch(SQL["values_of_rounds"], *_columns(rounds))
    return {(row["key"], row["number"]): json.loads(row["value"]) for row in rows}


async def put_loop_values(connection: Connection, loops: Sequence[tuple[int, Sequence[Any]]]) -> None:
    """Keep what loops go over, by the keys of their task runs."""
    rows = [(key, [json.dumps(value, ensure_ascii=False) for value in values]) for key, values in loops]
    await connection.executemany(SQL["put_loop_values"], rows)


async def mark_rounds_over(connection: Connection, keys: Sequence[int]) -> None:
    """These task runs are read by steps no more."""
    if keys:
        await connection.execute(SQL["mark_rounds_over"], list(keys))


async def read_output_sizes(connection: Connection, job_keys: Sequence[int]) -> dict[int, int]:
    """How many bytes the outputs of these jobs are, serialized, where there are any."""
    return {row["key"]: row["size"] for row in await connection.fetch(SQL["output_sizes_of_jobs"], list(job_keys))}


async def read_outputs(connection: Connection, job_keys: Sequence[int]) -> dict[int, bytes]:
    """The outputs of these jobs, serialized, where there are any."""
    return {row["key"]: row["outputs"] for row in await connection.fetch(SQL["outputs_of_jobs"], list(job_keys))}


async def allot_run_keys(connection: Connection, count: int) -> list[int]:
    """Keys for task runs, rising."""
    return sorted([row["key"] for row in await connection.fetch(SQL["allot_task_run_keys"], count)]) if count else []


async def insert_runs(connection: Connection, rows: Sequence[RunRow]) -> None:
    """Write new task runs."""
    if rows:
        flat = [(r.key, r.execution_key, *r.id, *r[3:]) for r in rows]
        await connection.execute(SQL["insert_task_runs"], *_columns(flat))


async def update_runs(connection: Connection, rows: Sequence[RunRow]) -> None:
    """Write what became of task runs."""
    if rows:
        flat = [(r.key, *r[3:14], r.started_at, r.ended_at, r.rounds, r.rounds_over) for r in rows]
        await connection.execute(SQL["update_task_runs"], *_columns(flat))


async def move_executions(connection: Connection, rows: Sequence[MovedRow]) -> None:
    """Write what became of executions."""
    if rows:
        flat = [
            (r.key, r.states[-1] if r.states else "", ",".join(r.states), r.message, r.wake_at, r.ended_at, r.runs_over)
            for r in rows
        ]
        await connection.execute(SQL["move_executions"], *_columns(flat))


async def add_due(connection: Connection, times: Sequence[tuple[int, datetime]]) -> None:
    """Executions are to be looked at, each from its time on."""
    if times:
        await connection.execute(SQL["add_due"], *_columns(times))


async def put_off(connection: Connection, key: int, seconds: float) -> None:
    """What is due of an execution is due only after so many seconds."""
    await connection.execute(SQL["put_off"], key, seconds)


async def kill_jobs(
    connection: Connection, keys: Sequence[int], grace_ms: int, ending: Ending, writer: str
) -> tuple[list[int], list[MarkedKill]]:
    """End jobs wherever they are: the keys of those that waited and have ended, and those that workers have.

    A job may move between the queue and a worker between two statements, never out of both but by its end; so
    this looks until it has found each.
    """
    ended: list[int] = []
    marked: list[MarkedKill] = []
    places = [(row["lane_id"], row["key"]) for row in await connection.fetch(SQL["places_of_jobs"], sorted(keys))]
    while places:
        found = await end_waiting(connection, places, ending, writer)
        ended += found
        left = {key for _, key in places} - set(found)
        held = [MarkedKill(*row) for row in await connection.fetch(SQL["mark_all_killing"], sorted(left), grace_ms)]
        marked += held
        left -= {job.key for job in held}
        left -= {row["key"] for row in await connection.fetch(SQL["jobs_that_ended"], sorted(left))}
        places = [place for place in places if place[1] in left]
    return ended, marked


def _locked(row: Record) -> Locked:
    execution = Execution(
        ExecutionState(row["state"]), row["kill_at"], row["message"] or "", row["wake_at"], runs_over=row["runs_over"]
    )
    return Locked(
        row["key"],
        row["flow_key"],
        row["tenant"],
        row["namespace"],
        row["flow_id"],
        row["flow_revision"],
        json.loads(row["inputs"]),
        json.loads(row["labels"]),
        json.loads(row["trigger"]) if row["trigger"] else None,
        row["traceparent"],
        row["parent_span"],
        row["created_at"],
        row["now"],
        execution,
    )


def _found(row: Record) -> Found:
    job = None
    if row["job_key"] is not None and row["state"] in ("CREATED", "KILLING"):  # never of a round that is over
        job = JobView(
            _JOB_STATES[row["job_state"]], row["job_reason"] or "", row["job_message"] or "", row["waiting_since"]
        )
    run = Run(
        RunId(row["task_id"], row["iteration"], row["attempt"]),
        row["created_at"],
        _RUN_STATES[row["state"]],
        row["ended_at"],
        row["branch"],
        row["rounds"],
        int.from_bytes(row["rounds_over"] or b"", "little"),
        row["round_over"],
        job,
        row["wait_limit"],
        row["again_at"],
        None,
        row["reason"] or "",
        row["message"] or "",
    )
    return Found(row["key"], row["job_key"], row["taken_job_key"], row["started_at"] or row["job_started_at"], run)


def _columns(rows: Sequence[Sequence[object]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]
