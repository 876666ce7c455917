"""What a worker group's lock guards: which of its waiting jobs may still wait (P10, P11).

`settle_group` runs inside a transaction that holds the group's row FOR UPDATE,
after whatever changed: a worker that left, a pause, a lost assignment that came
back, a tenant that is no longer allowed. So a fallback and a permission are decided
with the change, and no enqueue or claim can slip between.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from asyncpg import Connection

from farhand.kernel.names import group_label
from farhand.scheduler.store.sql import SQL

EncodeLog = Callable[[str], bytes]  # one SYSTEM line, as a log chunk


@dataclass(frozen=True, slots=True)
class Lane:
    """One (worker group, tenant, task type)."""

    id: int
    tenant: str
    task_type: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How waiting jobs are ended; `log` is a log chunk with the error line, or None."""

    state: str
    reason: str
    message: str
    log: bytes | None
    asked: bool = False  # somebody asked for it: it counts as a kill


async def end_waiting(
    connection: Connection, places: Sequence[tuple[int, int]], ending: Ending, writer: str
) -> list[int]:
    """End jobs, given as (lane, key), that still wait. Answers the keys of those that did."""
    if not places:
        return []
    rows = await connection.fetch(
        SQL["end_waiting"],
        [lane for lane, _ in places],
        [key for _, key in places],
        ending.state,
        ending.reason,
        ending.message,
        ending.log,
        ending.asked,
        writer,
    )
    return [row["key"] for row in rows]


async def lanes_of(connection: Connection, group_uid: str) -> list[Lane]:
    """Every lane of a group."""
    rows = await connection.fetch(SQL["lanes_of_group"], group_uid)
    return [Lane(row["id"], row["tenant"], row["task_type"]) for row in rows]


async def settle_group(connection: Connection, uid: str, writer: str, encode_log: EncodeLog) -> list[int]:
    """End the group's jobs that may no longer wait. The caller holds the group's row FOR UPDATE in an open
    transaction. Answers the keys of the jobs that ended."""
    group = await connection.fetchrow(SQL["lock_group_for_change"], uid)
    if group is None:
        return []
    ended: list[int] = []
    if group["allowed_tenants"]:
        while rows := await connection.fetch(SQL["waiting_forbidden"], uid, group["allowed_tenants"]):
            tenant = rows[0]["tenant"]
            message = (
                f"Worker group {group_label(group['key'])} no longer allows tenant {tenant}. "
                "Allow it again, or submit to another group."
            )
            places = [(row["lane_id"], row["key"]) for row in rows if row["tenant"] == tenant]
            ending = Ending("FAILED", "TENANT_NOT_ALLOWED", message, encode_log(message))
            ended += await end_waiting(connection, places, ending, writer)
    if not await connection.fetch(SQL["available_groups"], [uid]):
        while rows := await connection.fetch(SQL["waiting_that_may_not"], uid):
            for fallback in ("F", "C"):
                places = [(row["lane_id"], row["key"]) for row in rows if row["fallback"] == fallback]
                ended += await end_waiting(
                    connection, places, not_available(group["key"], fallback, encode_log), writer
                )
    return ended


def not_available(group_key: str, fallback: str, encode_log: EncodeLog) -> Ending:
    """How a job ends whose group is not available: `fallback` is F (FAIL) or C (CANCEL)."""
    message = f"Worker group {group_label(group_key)} has no available worker, and the job's fallback is "
    if fallback == "F":
        message += "FAIL."
        return Ending("FAILED", "GROUP_NOT_AVAILABLE", message, encode_log(message))
    return Ending("KILLED", "GROUP_NOT_AVAILABLE", message + "CANCEL.", None)
