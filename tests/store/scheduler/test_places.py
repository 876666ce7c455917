"""Places of flows with `concurrency` on real PostgreSQL: raced for, waited for, freed, and never lost."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from farhand.kernel.errors import NotFound, Unavailable
from farhand.kernel.flow import Flow
from farhand.runtime.database import connect
from farhand.scheduler.loops.flow_source import FetchedFlow
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.loops.places import Places
from farhand.scheduler.store.executions import ask_kill
from tests.fixtures.scheduler_with_flows import a_flow, flow_of, noop
from tests.fixtures.stepping_stage import Stage, a_new_execution

PLAIN = a_flow(noop("only"))


def limited(most: int, behavior: str = "QUEUE", *, id: str = "flow") -> str:
    return a_flow(noop("only"), id=id, more=f"concurrency: {{limit: {most}, behavior: {behavior}}}\n")


class Line:
    """Executions of a flow as their places are."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    async def of(self, *, waits: bool) -> list[int]:
        rows = await self.stage.store.connection.fetch(
            "SELECT execution_key FROM scheduler.place WHERE waits = $1 ORDER BY id", waits
        )
        return [row["execution_key"] for row in rows]

    async def running(self) -> list[int]:
        return await self.of(waits=False)

    async def waiting(self) -> list[int]:
        return await self.of(waits=True)

    async def kill(self, key: int) -> None:
        await ask_kill(self.stage.store.connection, key)
        while await self.stage.state(key) != "KILLED":
            await self.stage.replica.step(key)


@pytest.fixture
def line(stage: Stage) -> Line:
    return Line(stage)


@pytest.fixture
async def others(fresh_database: str, stage: Stage) -> AsyncIterator[list[asyncpg.Connection]]:
    """Connections of other replicas to one database."""
    connections = [await connect(fresh_database, hot=True) for _ in range(4)]
    yield connections
    for each in connections:
        await each.close()


async def test_replicas_that_race_for_the_last_place_give_it_once(
    stage: Stage, line: Line, others: list[asyncpg.Connection]
) -> None:
    """The flow's row is made by one of them; FIFO is the order in which they had it."""

    async def creates(connection: asyncpg.Connection) -> list[int]:
        return [await a_new_execution(connection, limited(2)) for _ in range(5)]

    keys = {key for made in await asyncio.gather(*map(creates, others)) for key in made}
    running, waiting = await line.running(), await line.waiting()
    assert (len(running), len(waiting)) == (2, 18)
    assert {*running, *waiting} == keys
    assert await stage.due() == sorted(keys)  # those that wait, too: their step finds nothing to do
    await stage.replica.step(*keys)
    assert {await stage.state(key) for key in running} == {"RUNNING"}
    assert {await stage.state(key) for key in waiting} == {"CREATED"}
    assert await stage.due() == []


@pytest.mark.parametrize("rolled_back", [False, True])
async def test_a_place_that_is_not_committed_yet_is_waited_for(
    stage: Stage, line: Line, others: list[asyncpg.Connection], rolled_back: bool
) -> None:
    """And is free again where a replica dies with it."""
    first = await stage.execution(limited(2))
    one = others[0].transaction()
    await one.start()
    second = await a_new_execution(others[0], limited(2))
    coming = asyncio.create_task(a_new_execution(others[1], limited(2)))
    while not await others[2].fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
        assert not coming.done()
    await (one.rollback() if rolled_back else one.commit())
    third = await coming
    assert await line.running() == [first, third if rolled_back else second]
    assert await line.waiting() == ([] if rolled_back else [third])


@pytest.mark.parametrize(("behavior", "state"), [("FAIL", "FAILED"), ("CANCEL", "KILLED")])
async def test_what_finds_no_place_ends_at_once_where_the_flow_says_so(
    stage: Stage, line: Line, others: list[asyncpg.Connection], behavior: str, state: str
) -> None:
    keys = await asyncio.gather(*(a_new_execution(connection, limited(1, behavior)) for connection in others))
    [running] = await line.running()
    assert await stage.due() == [running]
    row = await stage.store.connection.fetchrow(
        "SELECT * FROM scheduler.execution WHERE key = $1", next(key for key in keys if key != running)
    )
    assert (row["state"], row["states"]) == (state, ["CREATED", state])
    assert row["ended_at"] == row["created_at"] and len(row["state_times"]) == 2
    assert row["message"] == (
        "Its flow allows 1 execution at a time (concurrency.limit), 1 runs, and its concurrency.behavior is "
        f"{behavior}."
    )
    await line.kill(running)
    assert await line.running() == []
    await stage.execution(limited(1, behavior))
    assert len(await line.running()) == 1


async def test_the_end_of_an_execution_lets_the_next_begin_in_the_same_transaction(stage: Stage, line: Line) -> None:
    first, second, third = [await stage.execution(limited(1)) for _ in range(3)]
    await stage.replica.step(first, second, third)
    await ask_kill(stage.store.connection, first)
    told: list[int] = []
    while first in await line.running():
        assert await line.waiting() == [second, third] and await stage.state(first) != "KILLED"
        told = (await stage.replica.step(first)).executions
    assert second in told  # who watches it
    assert (await line.running(), await line.waiting()) == ([second], [third])
    assert await stage.due() == [second]
    await stage.replica.step(second)
    assert await stage.state(second) == "RUNNING"


async def test_one_that_is_killed_while_it_waits_leaves_the_line_and_begins_nothing(stage: Stage, line: Line) -> None:
    first, second, third = [await stage.execution(limited(1)) for _ in range(3)]
    await stage.replica.step(first, second, third)
    await ask_kill(stage.store.connection, second)
    await stage.replica.step(second)
    assert (await stage.state(second), await stage.runs(second)) == ("KILLED", [])
    assert (await line.running(), await line.waiting()) == ([first], [third])
    message = await stage.store.connection.fetchval("SELECT message FROM scheduler.execution WHERE key = $1", second)
    assert message == "A kill was asked for while it waited for its turn."


async def test_replicas_that_end_executions_at_once_give_each_place_once(
    stage: Stage, line: Line, others: list[asyncpg.Connection]
) -> None:
    """Also while others come: never more run than may, and in the end all have."""
    keys = [await stage.execution(limited(3)) for _ in range(12)]
    replicas = [stage.replica, await stage.another(), await stage.another()]
    most = 0

    async def ends(index: int) -> None:
        nonlocal most
        replica = replicas[index]
        while running := await replica.connection.fetch("SELECT execution_key FROM scheduler.place WHERE NOT waits"):
            most = max(most, len(running))
            for row in running:
                await ask_kill(replica.connection, row["execution_key"])
            await replica.step(*(row["execution_key"] for row in running))

    async def comes() -> None:
        keys.extend([await a_new_execution(others[0], limited(3)) for _ in range(6)])

    async with asyncio.timeout(30):
        await asyncio.gather(ends(0), ends(1), ends(2), comes())
        await ends(0)  # of what came when the others saw nobody
    assert most == 3
    assert [await stage.state(key) for key in keys] == ["KILLED"] * 18
    assert (await line.running(), await line.waiting()) == ([], [])


async def test_a_newer_revision_counts_at_once_for_all(stage: Stage, line: Line) -> None:
    keys = [await stage.execution(limited(1)) for _ in range(4)]
    late = await stage.execution(limited(3), revision=2)
    assert (await line.running(), await line.waiting()) == (keys[:3], [keys[3], late])
    older = await stage.execution(limited(1))
    assert await line.waiting() == [keys[3], late, older]  # what an older revision says counts no more
    free = await stage.execution(PLAIN, revision=3)
    assert await line.running() == [*keys, late, older, free]
    bound = await stage.execution(limited(1), revision=4)
    assert await line.waiting() == [bound]


async def test_what_ran_before_the_flow_had_a_limit_counts(
    stage: Stage, line: Line, others: list[asyncpg.Connection]
) -> None:
    """One is created and another ends, neither committed, while the first of a revision with a limit comes."""
    ending, running = await stage.execution(PLAIN), await stage.execution(PLAIN)
    await stage.replica.step(ending, running)
    one, two, three = others[:3]
    creating, stepping = one.transaction(), two.transaction()
    await creating.start()
    created = await a_new_execution(one, PLAIN)
    await stepping.start()
    await two.execute("UPDATE scheduler.execution SET state = 'FAILED', ended_at = now() WHERE key = $1", ending)
    waits = asyncio.create_task(a_new_execution(three, limited(2), 2))
    while not await others[3].fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"):
        assert not waits.done()
    await creating.commit()
    while not await others[3].fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
        assert not waits.done()
    await stepping.commit()
    key = await waits
    assert (await line.running(), await line.waiting()) == ([running, created], [key])


async def test_flows_do_not_wait_for_each_other(stage: Stage, line: Line, others: list[asyncpg.Connection]) -> None:
    async with others[0].transaction():
        first = await a_new_execution(others[0], limited(1))
        second = await a_new_execution(others[1], limited(1, id="other"))
        plain = [await a_new_execution(others[2], a_flow(noop("only"), id="plain")) for _ in range(2)]
    assert await line.running() == sorted([first, second]) and len(plain) == 2


class Flows:
    """The registry's newest revision; None: it is deleted."""

    def __init__(self) -> None:
        self.newest: tuple[int, Flow] | None = (1, flow_of(limited(1)))
        self.away = False

    async def get(self, tenant: str, namespace: str, flow_id: str, revision: int) -> FetchedFlow:
        if self.away:
            raise Unavailable("The registry is away.")
        if self.newest is None:
            raise NotFound("There is no such flow.")
        return FetchedFlow(self.newest[0], self.newest[1].to_json())


async def test_a_limit_that_was_raised_is_found_by_the_poll(stage: Stage, line: Line, fresh_database: str) -> None:
    keys = [await stage.execution(limited(1)) for _ in range(4)]
    flows, connection, begun = Flows(), HotConnection(fresh_database), 0

    def on_begin() -> None:
        nonlocal begun
        begun += 1

    places = Places(connection, flows, on_begin)
    try:
        await places.once()
        assert await line.running() == keys[:1]
        flows.newest = (2, flow_of(limited(3)))
        flows.away = True
        with pytest.raises(Unavailable):
            await places.once()
        flows.away = False
        await places.once()
        assert (await line.running(), begun) == (keys[:3], 1)
        flows.newest = None
        await places.once()
        assert (await line.running(), begun) == (keys[:3], 1)
        # A scheduler of a release that knows no places ends one.
        await stage.store.connection.execute(
            "UPDATE scheduler.execution SET state = 'SUCCESS', ended_at = now() WHERE key = $1", keys[1]
        )
        await places.once()
        assert (await line.running(), begun) == ([keys[0], keys[2], keys[3]], 2)
    finally:
        await connection.close()
