"""Places of flows that bound how many of their executions run at a time: given, waited for, freed.

Each function runs inside of the transaction that its caller began, on a raw
connection. The order of locks is told in `places.sql`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from asyncpg import Connection, Record

from farhand.kernel.flow import Behavior
from farhand.scheduler.core.places import Limit
from farhand.scheduler.store.sql import SQL


class FlowName(NamedTuple):
    """Which flow, whatever its revision."""

    tenant: str
    namespace: str
    id: str


class HeldLimit(NamedTuple):
    """A flow's limit whose row is locked until the transaction ends."""

    key: int
    limit: Limit


async def hold_limit(connection: Connection, flow: FlowName, limit: Limit) -> HeldLimit | None:
    """The limit that counts for an execution of a revision that says `limit`, locked; None: there is none, and none
    comes to be before the transaction ends. What a newer revision says counts from here on for all."""
    name = "/".join(flow)
    if limit.most is None:
        await connection.execute(SQL["share_flow"], name)
        held = await _lock(connection, flow)
    elif (held := await _lock(connection, flow)) is None:
        await connection.execute(SQL["own_flow"], name)
        key = await connection.fetchval(SQL["make_limit"], *flow, limit.revision, limit.most, limit.behavior.value)
        if key is not None:
            await connection.execute(SQL["fill_places"], key, *flow)
        held = await _lock(connection, flow)
    if held is not None and limit != held.limit and limit.revision >= held.limit.revision:
        await connection.execute(SQL["change_limit"], held.key, limit.revision, limit.most, limit.behavior.value)
        held = HeldLimit(held.key, limit)
    return held


async def count_places(connection: Connection, limit_key: int) -> tuple[int, bool]:
    """How many places are taken, and whether anybody waits for one, of a limit that is held."""
    row = await connection.fetchrow(SQL["count_places"], limit_key)
    return row["taken"], row["waits"]


async def take_place(connection: Connection, limit_key: int, execution_key: int, *, waits: bool) -> None:
    """Give a new execution its place, or its place in the line."""
    await connection.execute(SQL["take_place"], limit_key, execution_key, waits)


async def executions_that_wait(connection: Connection, keys: Sequence[int]) -> set[int]:
    """Those of these locked executions that wait for a place. To be called after `take_due`."""
    return {row["execution_key"] for row in await connection.fetch(SQL["executions_that_wait"], keys)}


async def free_places(connection: Connection, keys: Sequence[int]) -> list[int]:
    """Executions have ended: their places go to those who wait longest. Answers who begins, and is due. The last
    locks that a transaction takes."""
    limits = [row["key"] for row in await connection.fetch(SQL["lock_limits_of"], keys)]
    if not limits:
        return []
    await connection.execute(SQL["free_places"], keys)
    return await give_places(connection, limits)


async def give_places(connection: Connection, limit_keys: Sequence[int]) -> list[int]:
    """Let begin who may, where these held limits leave places. Answers who does, and is due."""
    return [row["execution_key"] for row in await connection.fetch(SQL["give_places"], limit_keys)]


async def limits_waited_for(connection: Connection, after: int, limit: int) -> list[tuple[int, FlowName]]:
    """Flows with executions that wait, by key, from the one behind `after` on. Outside of a transaction."""
    rows = await connection.fetch(SQL["limits_waited_for"], after, limit)
    return [(row["key"], FlowName(row["tenant"], row["namespace"], row["flow_id"])) for row in rows]


async def places_left_over(connection: Connection, limit_key: int) -> list[int]:
    """Executions that have ended and have a place still, of a limit that is held."""
    return [row["execution_key"] for row in await connection.fetch(SQL["places_left_over"], limit_key)]


async def _lock(connection: Connection, flow: FlowName) -> HeldLimit | None:
    row = await connection.fetchrow(SQL["lock_limit"], *flow)
    return None if row is None else HeldLimit(row["key"], _limit(row))


def _limit(row: Record) -> Limit:
    return Limit(row["revision"], row["most"], Behavior(row["behavior"]))
