"""The feed follows the log: by notices, by polling, through outages, and holds no more than its memory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sql

from farhand.kernel.errors import ShuttingDown, Unavailable
from farhand.registry.loops.feed import Feed, Listen
from farhand.registry.store.notices import Notices
from farhand.registry.store.transactions import Transactions
from farhand.runtime import database
from tests.fixtures.registry_store import change_up_to, declare_tenant


@asynccontextmanager
async def deaf(wake: Callable[[], None]) -> AsyncIterator[Callable[[], bool]]:
    """Never a notice."""
    yield lambda: True


@asynccontextmanager
async def following(feed: Feed) -> AsyncIterator[None]:
    running = asyncio.create_task(feed.run())
    try:
        yield
    finally:
        feed.close()
        async with asyncio.timeout(10):
            await running


def a_feed(transactions: Transactions, listen: Listen = deaf, **settings: Any) -> Feed:
    return Feed(transactions, listen, **settings)


async def test_the_first_look_knows_the_revision_and_no_past(transactions: Transactions) -> None:
    await declare_tenant(transactions, "a")
    feed = a_feed(transactions)
    await feed.once()
    assert feed.latest == 3
    assert feed.after(3) == ()
    assert feed.after(2) is None


async def test_what_is_new_is_kept_for_every_watcher_that_keeps_up(transactions: Transactions) -> None:
    feed = a_feed(transactions)
    await feed.once()
    made = [await declare_tenant(transactions, name) for name in ("a", "b", "c")]
    await feed.once()
    assert feed.after(2) == tuple(made)
    assert feed.after(4) == tuple(made[2:])
    assert feed.after(5) == ()
    assert feed.after(99) == ()


async def test_two_looks_at_the_same_time_keep_each_change_once(transactions: Transactions) -> None:
    feed = a_feed(transactions)
    await feed.once()
    made = await declare_tenant(transactions, "a")
    await asyncio.gather(*(feed.once() for _ in range(4)))
    assert feed.after(2) == (made,)


async def test_a_watcher_that_fell_behind_the_memory_must_read_the_log(transactions: Transactions) -> None:
    feed = a_feed(transactions, memory=2)
    await feed.once()
    made = [await declare_tenant(transactions, name) for name in ("a", "b", "c")]
    await feed.once()
    assert feed.after(2) is None
    assert feed.after(3) == tuple(made[1:])


async def test_many_changes_at_once_are_all_followed(transactions: Transactions) -> None:
    feed = a_feed(transactions, memory=2000)
    await feed.once()
    await change_up_to(transactions, 1300)
    await feed.once()
    assert feed.latest == 1300
    first = feed.after(2)
    assert first is not None and [change.revision for change in first] == list(range(3, 503))


async def test_a_database_that_went_back_in_time_is_followed_from_where_it_is(transactions: Transactions) -> None:
    feed = a_feed(transactions)
    await feed.once()
    for name in ("a", "b"):
        await declare_tenant(transactions, name)
    await feed.once()
    async with transactions.changing() as connection:
        await connection.execute(sql.text("UPDATE registry.revision SET revision = 3"))
        await connection.execute(sql.text("DELETE FROM registry.change WHERE revision > 3"))
    await feed.once()
    assert feed.latest == 3
    assert feed.after(2) is None


async def test_a_notice_wakes_it_long_before_the_poll(transactions: Transactions, fresh_database: str) -> None:
    feed = a_feed(transactions, Notices(fresh_database).listening, poll=3600)
    async with following(feed):
        assert await feed.beyond(1, within=10)
        waiting = asyncio.create_task(feed.beyond(2, within=10))
        await declare_tenant(transactions, "a")
        assert await waiting


async def test_it_rests_until_the_next_notice(
    transactions: Transactions, fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = a_feed(transactions, Notices(fresh_database).listening, poll=3600)
    looks = 0
    look = feed.once

    async def counted() -> None:
        nonlocal looks
        looks += 1
        await look()

    monkeypatch.setattr(feed, "once", counted)
    async with following(feed):
        assert await feed.beyond(1, within=10)
        await declare_tenant(transactions, "a")
        assert await feed.beyond(2, within=10)
        assert not await feed.beyond(3, within=0.2)
    assert looks <= 3


async def test_without_any_notice_the_poll_finds_it(transactions: Transactions) -> None:
    feed = a_feed(transactions, poll=0.02)
    async with following(feed):
        assert await feed.beyond(1, within=10)
        await declare_tenant(transactions, "a")
        assert await feed.beyond(2, within=10)


async def test_nothing_new_within_the_time_is_said(transactions: Transactions) -> None:
    feed = a_feed(transactions)
    await feed.once()
    assert not await feed.beyond(2, within=0.01)


async def test_every_waiter_hears_of_every_move(transactions: Transactions) -> None:
    feed = a_feed(transactions)
    await feed.once()
    async with asyncio.TaskGroup() as group:
        waiters = [group.create_task(feed.beyond(2, within=10)) for _ in range(50)]
        await declare_tenant(transactions, "a")
        await feed.once()
    assert all(waiter.result() for waiter in waiters)


async def test_a_lost_notice_connection_is_replaced_and_nobody_is_sent_away(
    transactions: Transactions, fresh_database: str
) -> None:
    connected: asyncio.Queue[int] = asyncio.Queue()
    notices = Notices(fresh_database)

    @asynccontextmanager
    async def counted(wake: Callable[[], None]) -> AsyncIterator[Callable[[], bool]]:
        async with notices.listening(wake) as still:
            connected.put_nowait(1)
            yield still

    feed = a_feed(transactions, counted, poll=3600)
    async with following(feed):
        await connected.get()
        assert await feed.beyond(1, within=10)
        waiting = asyncio.create_task(feed.beyond(2, within=10))
        await cut_listeners(fresh_database)
        async with asyncio.timeout(10):
            await connected.get()
        await declare_tenant(transactions, "a")
        assert await waiting


async def test_while_the_database_is_away_waiters_hear_so_and_then_it_goes_on(
    transactions: Transactions, fresh_database: str, database_server: str
) -> None:
    feed = a_feed(transactions, Notices(fresh_database).listening, poll=0.02)
    async with following(feed):
        assert await feed.beyond(1, within=10)
        waiting = asyncio.create_task(feed.beyond(99, within=20))
        operator = await database.connect(database_server)
        try:
            name = fresh_database.rpartition("/")[2].partition("?")[0]
            await operator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            await operator.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
            with pytest.raises(Unavailable) as first:
                await waiting
            with pytest.raises(Unavailable) as second:
                await feed.beyond(99, within=20)
            assert first.value is not second.value
            await operator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        finally:
            await operator.close()
        await declare_tenant(transactions, "a")
        async with asyncio.timeout(20):
            while True:
                try:
                    assert await feed.beyond(2, within=20)
                    break
                except Unavailable:
                    await asyncio.sleep(0)  # let it try again


async def test_an_error_of_our_own_ends_it(transactions: Transactions) -> None:
    @asynccontextmanager
    async def broken(wake: Callable[[], None]) -> AsyncIterator[Callable[[], bool]]:
        raise ZeroDivisionError
        yield lambda: True

    with pytest.raises(ZeroDivisionError):
        await a_feed(transactions, broken).run()


async def test_closing_sends_waiters_away_at_once(transactions: Transactions) -> None:
    feed = a_feed(transactions, poll=3600)
    async with following(feed):
        assert await feed.beyond(1, within=10)
        waiting = asyncio.create_task(feed.beyond(99, within=60))
        feed.close()
        with pytest.raises(ShuttingDown):
            await waiting
    with pytest.raises(ShuttingDown):
        await feed.beyond(2, within=1)


async def cut_listeners(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        cut = await connection.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND query ILIKE '%listen%' AND pid <> pg_backend_pid()"
        )
        assert len(cut) == 1
    finally:
        await connection.close()
