"""Triggers as they are looked at, and as flows make them.

Each function runs inside of the transaction that its caller began, unless it says
otherwise, on a raw connection. Reads for people are in `trigger_reads.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from asyncpg import Connection, Record

from farhand.scheduler.core.declared import TriggeredFlow
from farhand.scheduler.core.trigger import Backfill, BackfillState, DisabledBy, State
from farhand.scheduler.store.sql import SQL


@dataclass(frozen=True, slots=True)
class LockedTrigger:
    """A trigger that is held for a look. `now` is the transaction's time."""

    key: int
    tenant: str
    namespace: str
    flow_id: str
    trigger_id: str
    type: str
    flow_key: int
    flow_revision: int
    plan: str
    state: State
    job_key: int | None  # its evaluation
    job_stale: bool  # of what it is no more
    last_job_key: int | None  # the evaluation before
    remembered: str | None  # JSON: the state that evaluations keep
    execution_key: int | None
    backfill_inputs: str | None
    backfill_labels: str | None
    now: datetime


class MovedTrigger(NamedTuple):
    """What became of a trigger. `execution_key` and `result` None: as they were."""

    key: int
    state: State
    job_key: int | None
    execution_key: int | None
    result: str | None
    message: str | None


class KnownTrigger(NamedTuple):
    """A trigger that a flow has already."""

    key: int
    id: str
    type: str
    plan: str
    state: State


# ── what flows say ──


async def claim_triggered_flows(connection: Connection, limit: int, seconds: float) -> list[TriggeredFlow]:
    """Flows whose triggers are to be looked at; nobody else gets them for so long. By itself."""
    rows = await connection.fetch(SQL["claim_triggered_flows"], limit, seconds)
    return [TriggeredFlow(row["tenant"], row["namespace"], row["flow_id"], row["revision"]) for row in rows]


async def next_triggered_flow(connection: Connection) -> float | None:
    """Seconds until a flow is to be looked at; None: there is none. By itself."""
    seconds: float | None = await connection.fetchval(SQL["next_triggered_flow"])
    return seconds


async def lock_triggered_flow(connection: Connection, flow: TriggeredFlow) -> datetime | None:
    """The transaction's time, if that is still the flow's newest revision."""
    now: datetime | None = await connection.fetchval(SQL["lock_triggered_flow"], *_name(flow), flow.revision)
    return now


async def looked_at(connection: Connection, flow: TriggeredFlow) -> None:
    """The triggers of the locked flow are what it says."""
    await connection.execute(SQL["triggered_flow_looked_at"], *_name(flow))


async def put_off_flow(connection: Connection, flow: TriggeredFlow, seconds: float) -> None:
    """The revision can't be had now. By itself."""
    await connection.execute(SQL["put_off_triggered_flow"], *_name(flow), flow.revision, seconds)


async def lock_triggers_of(connection: Connection, flow: TriggeredFlow) -> list[KnownTrigger]:
    """The triggers that the flow has here, held until the transaction ends."""
    rows = await connection.fetch(SQL["lock_triggers_of_flow"], *_name(flow))
    return [KnownTrigger(row["key"], row["trigger_id"], row["type"], row["plan"], state_of(row)) for row in rows]


async def remove_triggers(connection: Connection, keys: Sequence[int]) -> None:
    """They are no more."""
    if keys:
        await connection.execute(SQL["remove_triggers"], sorted(keys))


async def make_trigger(
    connection: Connection, flow: TriggeredFlow, flow_key: int, id: str, type: str, plan: str, state: State
) -> int:
    """A new one; answers its key."""
    key: int = await connection.fetchval(
        SQL["make_trigger"], *_name(flow), id, type, flow_key, plan, state.disabled_by, state.next_at
    )
    return key


async def renew_trigger(connection: Connection, key: int, flow_key: int, plan: str, state: State) -> None:
    """A locked one is as this revision says."""
    await connection.execute(SQL["renew_trigger"], key, flow_key, plan, state.disabled_by, state.next_at)


# ── a look ──


async def triggers_due(connection: Connection, limit: int) -> list[int]:
    """Keys of triggers that are to be looked at now. By itself."""
    return [row["trigger_key"] for row in await connection.fetch(SQL["triggers_due"], limit)]


async def next_trigger(connection: Connection) -> float | None:
    """Seconds until the next trigger is due that is not yet; None: there is none. By itself."""
    seconds: float | None = await connection.fetchval(SQL["next_trigger"])
    return seconds


async def lock_triggers(connection: Connection, keys: Sequence[int]) -> list[LockedTrigger]:
    """Those of these that nobody else looks at now, held until the transaction ends, by key."""
    return [_locked(row) for row in await connection.fetch(SQL["lock_triggers"], sorted(keys))]


async def lock_trigger(connection: Connection, key: int) -> LockedTrigger | None:
    """One, held until the transaction ends; waits for who looks at it. None: it is gone."""
    row = await connection.fetchrow(SQL["lock_trigger"], key)
    return None if row is None else _locked(row)


async def note_backfill(connection: Connection, key: int, backfill: Backfill, inputs: str, labels: str) -> None:
    """What a new backfill of a locked trigger is; where it is, `move_triggers` says. JSON."""
    await connection.execute(SQL["begin_backfill"], key, backfill.number, backfill.start, backfill.end, inputs, labels)


async def take_triggers_due(connection: Connection, keys: Sequence[int]) -> dict[int, set[str]]:
    """Take away what says when these locked triggers are to be looked at; to be called before the look. Answers, by
    trigger, how executions of it ended since the last look."""
    ended: dict[int, set[str]] = {}
    for row in await connection.fetch(SQL["take_triggers_due"], list(keys)):
        ended.setdefault(row["trigger_key"], set()).add(row["ended"])
    return ended


async def forget_trigger_due(connection: Connection, keys: Sequence[int]) -> None:
    """Take away what says so of those of these that are gone."""
    await connection.execute(SQL["forget_trigger_due"], list(keys))


async def move_triggers(connection: Connection, rows: Sequence[MovedTrigger]) -> None:
    """Write what became of triggers."""
    if rows:
        flat = [
            (
                row.key,
                row.state.disabled_by,
                row.state.next_at,
                row.state.last_at,
                row.state.asked_at,
                row.job_key,
                row.execution_key,
                row.result,
                row.message,
                *_backfill_columns(row.state.backfill),
            )
            for row in rows
        ]
        await connection.execute(SQL["move_triggers"], *(list(column) for column in zip(*flat, strict=True)))


async def read_evaluations(connection: Connection, keys: Sequence[int]) -> dict[int, Record]:
    """Where these jobs are, by key: state (None: nowhere), reason, message, outputs (serialized)."""
    return {row["key"]: row for row in await connection.fetch(SQL["evaluations"], list(keys))} if keys else {}


async def executions_that_run(connection: Connection, keys: Sequence[int]) -> set[int]:
    """Those of these executions that have not ended."""
    return {row["key"] for row in await connection.fetch(SQL["executions_that_run"], list(keys))} if keys else set()


async def move_evaluations(connection: Connection, rows: Sequence[tuple[int, int | None, str | None]]) -> None:
    """Of triggers (key): the evaluation that ended, None: none did; the state that it left, JSON, None: as it was."""
    if rows:
        await connection.execute(SQL["move_evaluations"], *(list(column) for column in zip(*rows, strict=True)))


async def evaluations_to_forget(connection: Connection, keys: Sequence[int]) -> list[int]:
    """Those of these jobs that nobody needs any more."""
    return [row["key"] for row in await connection.fetch(SQL["evaluations_to_forget"], list(keys))] if keys else []


async def any_orphaned_evaluations(connection: Connection) -> bool:
    """Whether there are evaluations of triggers that are no more. By itself."""
    found: bool = await connection.fetchval(SQL["any_orphaned_evaluations"])
    return found


async def take_orphaned_evaluations(connection: Connection, limit: int) -> list[int]:
    """Evaluations of triggers that are no more; whoever takes them ends them in the same transaction."""
    return [row["job_key"] for row in await connection.fetch(SQL["take_orphaned_evaluations"], limit)]


async def add_triggers_due(connection: Connection, times: Sequence[tuple[int, datetime]]) -> None:
    """Triggers are to be looked at, each from its time on."""
    if times:
        columns = (list(column) for column in zip(*times, strict=True))
        await connection.execute(SQL["add_triggers_due"], *columns)


async def allot_execution_keys(connection: Connection, count: int) -> list[int]:
    """Keys for executions, rising."""
    rows = await connection.fetch(SQL["allot_execution_keys"], count) if count else []
    return sorted([row["key"] for row in rows])


async def put_off_trigger(connection: Connection, key: int, seconds: float) -> None:
    """What is due of a trigger is due only after so many seconds. By itself."""
    await connection.execute(SQL["put_off_trigger"], key, seconds)


def state_of(row: Record) -> State:
    """What a trigger's row says that it is about to do."""
    backfill = None
    if row["backfill"]:
        backfill = Backfill(
            row["backfill"],
            row["backfill_start"],
            row["backfill_end"],
            row["backfill_next"],
            BackfillState(row["backfill_state"]),
            row["backfill_fired"],
            row["backfill_at"],
        )
    disabled_by = DisabledBy(row["disabled_by"]) if row["disabled_by"] else None
    return State(disabled_by, row["next_at"], row["last_at"], row["asked_at"], backfill)


def _name(flow: TriggeredFlow) -> tuple[str, str, str]:
    return flow.tenant, flow.namespace, flow.id


def _backfill_columns(backfill: Backfill | None) -> tuple[datetime | None, datetime | None, str | None, int]:
    if backfill is None:
        return None, None, None, 0
    return backfill.next_at, backfill.again_at, backfill.state, backfill.fired


def _locked(row: Record) -> LockedTrigger:
    return LockedTrigger(
        row["key"],
        row["tenant"],
        row["namespace"],
        row["flow_id"],
        row["trigger_id"],
        row["type"],
        row["flow_key"],
        row["flow_revision"],
        row["plan"],
        state_of(row),
        row["job_key"],
        row["job_stale"],
        row["last_job_key"],
        row["remembered"],
        row["execution_key"],
        row["backfill_inputs"],
        row["backfill_labels"],
        row["now"],
    )
