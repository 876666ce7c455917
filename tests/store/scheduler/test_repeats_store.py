"""What a restart takes over, on real PostgreSQL: it outlives the execution that ran it, and is taken whole or not."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from farhand.kernel.errors import NotFound
from farhand.runtime.database import connect
from farhand.scheduler.loops.execution_requests import ExecutionRequest
from farhand.scheduler.loops.flow_source import FetchedFlow
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.loops.repeats import Repeats, Restart
from farhand.scheduler.loops.secret_inputs import NO_SECRETS
from farhand.scheduler.loops.upkeep import Upkeep
from farhand.scheduler.store.repeats import hold_old
from farhand.scheduler.store.upkeep import forget_task_runs
from tests.fixtures.scheduler_with_flows import a_flow, flow_of, noop
from tests.fixtures.stepping_stage import Stage

SOURCE = a_flow(noop("first") + noop("second"))
DAY = 24 * 3600.0


class Again:
    """Restarts, for a registry and listeners that are played."""

    def __init__(self, stage: Stage, pool: asyncpg.Pool) -> None:
        self.stage = stage
        self.due: list[int] = []
        self.repeats = Repeats(pool, self, self, NO_SECRETS)
        self.session = 0

    async def get(self, tenant: str, namespace: str, flow_id: str, revision: int) -> FetchedFlow:
        return FetchedFlow(1, flow_of(SOURCE).to_json())

    def execution_due(self, key: int) -> None:
        self.due.append(key)

    async def run(self, key: int, *states: str) -> None:
        """One task after another ends so."""
        if not self.session:
            self.session = (await self.stage.store.a_session("g", worker="w")).id
        for state in states:
            await self.stage.replica.step(key)
            [job] = await self.stage.store.claim("g", self.session)
            await self.stage.store.result(job.key, job.fence, "w", state)
        await self.stage.replica.step(key)

    async def failed(self) -> int:
        key = await self.stage.execution(SOURCE)
        await self.run(key, "SUCCESS", "FAILED")
        assert await self.stage.state(key) == "FAILED"
        return key

    async def restart(self, key: int, request: str = "") -> int:
        return await self.repeats.restart(Restart(ExecutionRequest("main", request, {}, lambda _: b"body"), key, ""))

    async def age(self, key: int) -> None:
        """It and its jobs were 40 days ago."""
        for statement in (
            "UPDATE scheduler.execution SET created_at = now() - interval '40 d', ended_at = now() - interval '40 d' "
            "WHERE key = $1",
            "UPDATE scheduler.done SET ended_at = now() - interval '40 d' "
            "WHERE key IN (SELECT job_key FROM scheduler.task_run WHERE execution_key = $1)",
            "UPDATE scheduler.job SET created_at = now() - interval '40 d' "
            "WHERE key IN (SELECT job_key FROM scheduler.task_run WHERE execution_key = $1)",
        ):
            await self.stage.store.connection.execute(statement, key)

    async def ended_jobs(self) -> list[int]:
        rows = await self.stage.store.connection.fetch("SELECT key FROM scheduler.done ORDER BY key")
        return [row["key"] for row in rows]


@pytest.fixture
async def again(stage: Stage) -> AsyncIterator[Again]:
    async def dial(*_: object, **__: object) -> asyncpg.Connection:
        return await connect(stage.url, hot=True)

    async with asyncpg.create_pool(stage.url, min_size=0, max_size=5, connect=dial) as pool:
        yield Again(stage, pool)


@pytest.fixture
async def upkeep(stage: Stage) -> AsyncIterator[Upkeep]:
    connection = HotConnection(stage.url)
    yield Upkeep(connection, replica="here", retention=30 * DAY, pause=0)
    await connection.close()


async def test_what_was_taken_over_is_forgotten_with_the_last_that_names_it(
    stage: Stage, again: Again, upkeep: Upkeep
) -> None:
    old = await again.failed()
    new = await again.restart(old)
    [first, _] = await stage.jobs(old)
    await again.run(new, "SUCCESS")
    assert (await stage.state(new), await stage.runs(new)) == (
        "SUCCESS",
        [("first", 1, "SUCCESS"), ("second", 1, "SUCCESS")],
    )
    [own] = await stage.jobs(new)
    await again.age(old)
    await upkeep.once()
    assert await stage.store.connection.fetchval("SELECT count(*) FROM scheduler.execution WHERE key = $1", old) == 0
    assert await again.ended_jobs() == [first, own]
    with pytest.raises(NotFound):
        await again.restart(old)
    await again.age(new)
    await upkeep.once()
    assert await again.ended_jobs() == []
    assert await stage.store.connection.fetchval("SELECT count(*) FROM scheduler.task_run") == 0


async def test_upkeep_waits_for_a_restart_and_leaves_it_what_it_took(stage: Stage, again: Again) -> None:
    old = await again.failed()
    [first, _] = await stage.jobs(old)
    restarting, forgetting = await stage.another(), await stage.another()
    transaction = restarting.connection.transaction()
    await transaction.start()
    assert await hold_old(restarting.connection, old)
    forgets = asyncio.create_task(forget_task_runs(forgetting.connection, old, limit=100))
    while not await stage.store.connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
        assert not forgets.done()
    await restarting.connection.execute(
        """INSERT INTO scheduler.task_run (key, execution_key, task_id, attempt, state, created_at, taken_from,
                                           taken_job_key)
           VALUES (nextval('scheduler.task_run_key'), $1 + 1, 'first', 1, 'SUCCESS', now(), $1, $2)""",
        old,
        first,
    )
    await transaction.commit()
    assert await forgets == 2
    assert await again.ended_jobs() == [first]


async def test_nothing_is_taken_from_one_that_is_being_forgotten(stage: Stage, again: Again) -> None:
    old = await again.failed()
    assert await forget_task_runs(stage.store.connection, old, limit=1) == 1
    with pytest.raises(NotFound, match="was cleared away"):
        await again.restart(old)
    assert again.due == []


async def test_replicas_that_get_one_request_make_one_restart(stage: Stage, again: Again) -> None:
    old = await again.failed()
    keys = await asyncio.gather(*(again.restart(old, "same") for _ in range(5)))
    assert len(set(keys)) == 1
    count = "SELECT count(*) FROM scheduler.execution WHERE restart_of = $1"
    assert await stage.store.connection.fetchval(count, old) == 1
    assert await stage.runs(keys[0]) == [("first", 1, "SUCCESS")]
