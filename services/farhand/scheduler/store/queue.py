"""The queue's moves: enqueue, claim, start, complete, give back.

Each function runs its statements in one transaction of the raw connection that it
is given (the hot loops own one each), or, where it says so, inside the caller's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from asyncpg import Connection, Record

from farhand.scheduler.store.groups import EncodeLog, end_waiting, not_available
from farhand.scheduler.store.sql import SQL

LaneName = tuple[str, str, str]  # group uid, tenant, task type


class NewJob(NamedTuple):
    """A job to enqueue. `fallback` is W, F or C; `task` a serialized Task."""

    group_uid: str
    tenant: str
    task_type: str
    fallback: str
    max_deliveries: int
    namespace: str | None
    traceparent: str | None
    task: bytes
    secrets_of: int | None = None  # the execution of whose secrets the task names some


class Claimed(NamedTuple):
    """A job that was assigned. `secrets`: those of its execution, once they were opened."""

    key: int
    fence: int
    session_id: int
    lane_id: int
    task: bytes
    traceparent: str | None
    created_at: datetime
    assigned_at: datetime
    killing: bool = False
    secrets_of: int | None = None
    secrets: Mapping[str, str] = MappingProxyType({})


class Completion(NamedTuple):
    """A result to record."""

    key: int
    fence: int
    worker_id: str
    state: str
    exit_code: int | None
    reason: str | None
    message: str | None
    run_us: int | None
    outputs: bytes | None
    log_end: int


class Recorded(NamedTuple):
    """What became of a result: RECORDED, DUPLICATE, STALE or UNKNOWN. `due`: with it, or with another that was
    recorded in the same moment, an execution is to be looked at; `trigger_due`: a trigger is."""

    status: str
    lane_id: int = 0
    ended_at: datetime | None = None
    due: bool = False
    trigger_due: bool = False


class Lanes:
    """The ids of lanes, remembered; a lane never changes and never goes away."""

    def __init__(self) -> None:
        self._ids: dict[LaneName, int] = {}

    def missing(self, names: set[LaneName]) -> set[LaneName]:
        """Those that `ids` would have to ask for."""
        return names - self._ids.keys()

    async def ids(self, connection: Connection, names: set[LaneName]) -> Mapping[LaneName, int]:
        """The id of each lane, made where it is new. Outside a transaction, or the lane may not outlive it."""
        missing = sorted(self.missing(names))
        if missing:
            columns = [list(column) for column in zip(*missing, strict=True)]
            await connection.execute(SQL["add_lanes"], *columns)
            for row in await connection.fetch(SQL["find_lanes"], *columns):
                self._ids[row["group_uid"], row["tenant"], row["task_type"]] = row["id"]
        return self._ids


async def allot_keys(connection: Connection, count: int) -> list[int]:
    """Keys for jobs, in rising order."""
    return sorted([row["key"] for row in await connection.fetch(SQL["allot_keys"], count)]) if count else []


async def insert_jobs(
    connection: Connection, keys: Sequence[int], lanes: Sequence[int], jobs: Sequence[NewJob], writer: str
) -> None:
    """Put jobs into the queue. Inside the enqueue's transaction, under the groups' locks."""
    await connection.execute(
        SQL["insert_jobs"],
        keys,
        lanes,
        [job.fallback for job in jobs],
        [job.max_deliveries for job in jobs],
        [job.namespace for job in jobs],
        [job.traceparent for job in jobs],
        [job.task for job in jobs],
        [job.secrets_of for job in jobs],
        writer,
    )


async def apply_fallbacks(
    connection: Connection,
    jobs: Sequence[tuple[int, int, NewJob]],
    group_keys: Mapping[str, str],
    writer: str,
    encode_log: EncodeLog,
) -> list[int]:
    """End those of the just inserted jobs, given as (lane, key, job), that may not wait and whose group is not
    available. Inside the enqueue's transaction: the group's lock keeps availability from changing (P11)."""
    picky = [entry for entry in jobs if entry[2].fallback != "W"]
    if not picky:
        return []
    groups = list({job.group_uid for _, _, job in picky})
    available = {row["uid"] for row in await connection.fetch(SQL["available_groups"], groups)}
    ended: list[int] = []
    for uid in groups:
        for fallback in ("F", "C") if uid not in available else ():
            places = [(lane, key) for lane, key, job in picky if job.group_uid == uid and job.fallback == fallback]
            ended += await end_waiting(connection, places, not_available(group_keys[uid], fallback, encode_log), writer)
    return ended


async def lock_for_claim(connection: Connection, group_uid: str) -> Record | None:
    """The group's row, locked for one claim; None where the group is gone. Inside the claim's transaction."""
    return await connection.fetchrow(SQL["lock_group_for_claim"], group_uid)


async def living_seats(connection: Connection, sessions: Mapping[int, int]) -> set[int]:
    """Of these sessions, id → epoch, those that may be given work; they are held until the transaction ends."""
    rows = await connection.fetch(SQL["live_seats"], list(sessions), list(sessions.values()))
    return {row["id"] for row in rows}


async def heads(connection: Connection, lanes: Sequence[int], count: int, size: int) -> list[Record]:
    """The oldest waiting jobs of these lanes, in queue order: lane_id, key, task, traceparent, created_at,
    secrets_of."""
    return list(await connection.fetch(SQL["heads"], lanes, count, size))


async def assign(connection: Connection, rows: Sequence[Record], sessions: Sequence[int], writer: str) -> list[Claimed]:
    """Give each job to the session beside it; in queue order. Inside the claim's transaction."""
    born = await connection.fetch(
        SQL["assign"], [row["lane_id"] for row in rows], [row["key"] for row in rows], sessions, writer
    )
    found = {row["key"]: row for row in born}
    return [
        Claimed(
            row["key"],
            found[row["key"]]["fence"],
            session,
            row["lane_id"],
            row["task"],
            row["traceparent"],
            row["created_at"],
            found[row["key"]]["assigned_at"],
            secrets_of=row["secrets_of"],
        )
        for row, session in zip(rows, sessions, strict=True)
        if row["key"] in found
    ]


async def assigned_to(connection: Connection, sessions: Sequence[int]) -> list[Claimed]:
    """What these sessions hold, by the database's word."""
    return [
        Claimed(
            row["key"],
            row["fence"],
            row["session_id"],
            row["lane_id"],
            row["task"],
            row["traceparent"],
            row["created_at"],
            row["assigned_at"],
            row["killing"],
            row["secrets_of"],
        )
        for row in await connection.fetch(SQL["assigned_to"], sessions)
    ]


async def mark_started(connection: Connection, refs: Sequence[tuple[int, int]]) -> list[int]:
    """Note that jobs, (key, fence), started. Answers the keys for which that was news."""
    rows = await connection.fetch(SQL["mark_started"], [key for key, _ in refs], [fence for _, fence in refs])
    return [row["key"] for row in rows]


async def complete(connection: Connection, results: Sequence[Completion], writer: str) -> list[Recorded]:
    """Record results, and say what became of each; in one transaction."""
    first: dict[tuple[int, int], Completion] = {}
    for result in results:
        first.setdefault((result.key, result.fence), result)
    unique = list(first.values())
    async with connection.transaction():
        rows = await connection.fetch(
            SQL["complete"],
            [r.key for r in unique],
            [r.fence for r in unique],
            [r.worker_id for r in unique],
            [r.state for r in unique],
            [r.exit_code for r in unique],
            [r.reason for r in unique],
            [r.message for r in unique],
            [r.run_us for r in unique],
            [r.outputs for r in unique],
            [r.log_end for r in unique],
            writer,
        )
        answers = {
            (row["key"], row["fence"]): Recorded(
                "RECORDED", row["lane_id"], row["ended_at"], row["due"], row["trigger_due"]
            )
            for row in rows
        }
        others = [ref for ref in first if ref not in answers]
        if others:
            rows = await connection.fetch(SQL["judge"], [key for key, _ in others], [fence for _, fence in others])
            answers |= {(row["key"], row["fence"]): Recorded(row["status"]) for row in rows}
    return [
        answers[result.key, result.fence] if first[result.key, result.fence] is result else Recorded("DUPLICATE")
        for result in results
    ]


@dataclass(frozen=True, slots=True)
class GivenBack:
    """An assignment that brought no result; the state that its job is in now."""

    key: int
    fence: int
    state: str


async def give_back(
    connection: Connection,
    session_id: int,
    *,
    reason: str,
    writer: str,
    encode_log: EncodeLog,
    keys: Sequence[int] | None = None,
    costing: Sequence[int] | None = None,
) -> list[GivenBack]:
    """End assignments of a session without a result: those of `keys`, or all. Each costs its job a delivery, or
    only those of `costing`. Inside a transaction that holds the group's row FOR UPDATE, before settle_group."""
    log = encode_log("The job's worker was lost more often than max_deliveries allows.")
    rows = await connection.fetch(SQL["give_back"], session_id, keys, costing, reason, log, writer)
    return [GivenBack(row["key"], row["fence"], row["state"]) for row in rows]
