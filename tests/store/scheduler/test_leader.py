"""One replica leads at a time, and stops at once when it no longer does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest
from asyncpg.connection import LoggedQuery

from farhand.runtime.database import connect
from farhand.scheduler.loops import leader as module
from farhand.scheduler.loops.leader import LOCK, Leader
from tests.fixtures.scheduler_rows import Rows


class Work:
    """Work that lasts until it is cancelled."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()
        self.times = 0

    async def __call__(self) -> None:
        self.times += 1
        self.ended.clear()
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.begun.clear()
            self.ended.set()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK", 0.02)


@asynccontextmanager
async def leading(rows: Rows, work: Callable[[], Awaitable[None]]) -> AsyncIterator[Leader]:
    leader = Leader(lambda: connect(rows.url))
    running = asyncio.create_task(leader.run_while_leading(work))
    try:
        yield leader
    finally:
        running.cancel()
        await asyncio.wait([running])
        if not running.cancelled():
            running.result()


LOCKS = (
    "FROM pg_locks JOIN pg_database d ON d.oid = database WHERE locktype = 'advisory' AND datname = current_database()"
)


async def cut_the_leader(rows: Rows) -> None:
    assert await rows.connection.fetchval(f"SELECT pg_terminate_backend(pid) {LOCKS}")


async def test_one_leads_and_when_it_is_cut_off_its_work_ends_and_somebody_leads(rows: Rows) -> None:
    first, second = Work(), Work()
    async with leading(rows, first) as one:
        await first.begun.wait()
        async with leading(rows, second) as two:
            assert await rows.connection.fetchval(f"SELECT count(*) {LOCKS}") == 1
            assert (one.leads, two.leads, second.times) == (True, False, 0)
            await cut_the_leader(rows)
            await first.ended.wait()
            assert not one.leads
            again = [asyncio.create_task(work.begun.wait()) for work in (first, second)]
            await asyncio.wait(again, return_when=asyncio.FIRST_COMPLETED)
            assert one.leads != two.leads
            for task in again:
                task.cancel()
    assert first.ended.is_set()


async def test_when_the_leader_stops_another_leads(rows: Rows) -> None:
    first, second = Work(), Work()
    async with leading(rows, second) as two:
        await second.begun.wait()
        async with leading(rows, first) as one:
            assert (one.leads, two.leads) == (False, True)
    third = Work()
    async with leading(rows, third):
        await third.begun.wait()


async def test_a_lost_connection_ends_the_work_before_the_next_check(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK", 1000.0)
    work = Work()
    async with leading(rows, work) as leader:
        await work.begun.wait()
        await rows.cut_connections()
        await work.ended.wait()
        assert not leader.leads


async def test_a_lock_that_is_no_longer_held_ends_the_work(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a pooler that gives the connection to somebody else."""
    monkeypatch.setattr(module, "LOOK", 0.3)
    own: list[asyncpg.Connection] = []

    async def remembered() -> asyncpg.Connection:
        own.append(await connect(rows.url))
        return own[-1]

    work = Work()
    leader = Leader(remembered)
    once = asyncio.create_task(leader.once(work))
    await work.begun.wait()
    await own[0].execute("SELECT pg_advisory_unlock_all()")  # long before the next check
    await once
    assert work.ended.is_set()


async def test_a_check_that_finds_the_lock_leaves_the_work_alone(rows: Rows) -> None:
    checks = asyncio.Semaphore(0)

    def seen(query: LoggedQuery) -> None:
        if "pg_locks" in query.query:
            checks.release()

    async def watched() -> asyncpg.Connection:
        connection = await connect(rows.url)
        connection.add_query_logger(seen)
        return connection

    work = Work()
    running = asyncio.create_task(Leader(watched).run_while_leading(work))
    for _ in range(4):
        await checks.acquire()
    assert work.begun.is_set() and work.times == 1
    running.cancel()


async def test_the_leader_s_lock_is_its_own(rows: Rows) -> None:
    await rows.connection.execute("SELECT pg_advisory_lock($1)", LOCK + 1)
    work = Work()
    async with leading(rows, work):
        await work.begun.wait()


async def test_an_error_of_the_work_is_raised(rows: Rows) -> None:
    async def broken() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await Leader(lambda: connect(rows.url)).run_while_leading(broken)


async def test_work_that_the_database_refused_is_begun_anew(rows: Rows) -> None:
    work, refusals = Work(), [asyncpg.DiskFullError("no space left"), asyncpg.QueryCanceledError("by an operator")]

    async def refused() -> None:
        if refusals:  # as a group of loops raises it
            raise ExceptionGroup("the loops", [refusals.pop()])
        await work()

    async with leading(rows, refused):
        async with asyncio.timeout(20):
            await work.begun.wait()


async def test_a_database_that_is_away_is_waited_for(rows: Rows) -> None:
    tries = 0
    work = Work()

    async def flaky() -> asyncpg.Connection:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ConnectionRefusedError("refused")
        return await connect(rows.url)

    running = asyncio.create_task(Leader(flaky).run_while_leading(work))
    await work.begun.wait()
    running.cancel()
    assert tries == 3
