"""The lock and the log: every change has its own revision, in the order of commits, without gaps."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest
import sqlalchemy as sql

from farhand.kernel.errors import Unavailable
from farhand.kernel.resolution import Fallback
from farhand.registry.core.change import Change, Put, Removed, Resource
from farhand.registry.core.namespace import Namespace
from farhand.registry.core.tenant import Tenant
from farhand.registry.core.worker_group import GroupState, Refusal, WorkerGroup
from farhand.registry.store import changes, documents, namespaces, snapshots, tenants, transactions, worker_groups
from farhand.registry.store.transactions import Transactions
from farhand.runtime import database
from tests.fixtures.registry_store import change_up_to, declare_tenant


async def logged(transactions: Transactions, known: int, limit: int = 100) -> list[Change] | None:
    async with transactions.reading() as connection:
        found = await changes.after(connection, known, limit)
    return None if found is None else list(found)


async def test_changes_are_read_back_in_order_as_they_were(transactions: Transactions) -> None:
    made = [await declare_tenant(transactions, name) for name in ("a", "b", "c")]
    assert [change.revision for change in made] == [3, 4, 5]
    assert await logged(transactions, 2) == made
    assert await logged(transactions, 3) == made[1:]
    assert await logged(transactions, 2, limit=1) == made[:1]
    assert await logged(transactions, 5) == []


async def test_the_log_says_when_it_does_not_reach_back(transactions: Transactions) -> None:
    assert await logged(transactions, 1) is None
    assert await logged(transactions, 2) == []
    await declare_tenant(transactions, "a")
    assert await logged(transactions, 1) is None


async def test_a_change_that_is_rolled_back_leaves_no_revision_behind(transactions: Transactions) -> None:
    with pytest.raises(ZeroDivisionError):
        async with transactions.changing() as connection:
            revision = await changes.lock(connection) + 1
            stored = await tenants.insert(connection, Tenant("gone"), revision)
            await changes.record(connection, Change(revision, Put(stored)))
            raise ZeroDivisionError
    assert (await declare_tenant(transactions, "kept")).revision == 3
    async with transactions.reading() as connection:
        assert await tenants.get(connection, "gone") is None


async def test_changes_at_the_same_time_follow_one_another_without_gaps(transactions: Transactions) -> None:
    made = await asyncio.gather(*(declare_tenant(transactions, f"t{number}") for number in range(25)))
    assert sorted(change.revision for change in made) == list(range(3, 28))
    log = await logged(transactions, 2)
    assert log == sorted(made, key=lambda change: change.revision)


async def test_who_has_the_lock_sees_what_the_one_before_committed(transactions: Transactions) -> None:
    async with transactions.changing() as first:
        revision = await changes.lock(first) + 1
        second = asyncio.create_task(declare_tenant(transactions, "second"))
        stored = await tenants.insert(first, Tenant("first"), revision)
        await changes.record(first, Change(revision, Put(stored)))
        assert not second.done()
    assert (await second).revision == revision + 1


async def test_a_revision_is_never_skipped_nor_used_twice(transactions: Transactions) -> None:
    for wrong in (2, 4):
        with pytest.raises(AssertionError, match="not the next"):
            async with transactions.changing() as connection:
                await changes.lock(connection)
                await changes.record(connection, Change(wrong, Put(Tenant("a"))))


async def test_the_log_keeps_the_newest_ten_thousand(transactions: Transactions) -> None:
    await change_up_to(transactions, 10_500)
    await declare_tenant(transactions, "newest")
    assert await logged(transactions, 500) is None
    assert await logged(transactions, 501, limit=2) == [Change(502, Put(Tenant("x"))), Change(503, Put(Tenant("x")))]
    async with transactions.reading() as connection:
        kept = await connection.execute(sql.text("SELECT count(*) FROM registry.change"))
        assert kept.scalar_one() == 10_000


async def test_a_notice_comes_with_the_commit_and_not_before(transactions: Transactions, fresh_database: str) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    listener = await asyncpg.connect(fresh_database)
    try:
        await listener.add_listener(changes.CHANNEL, lambda *notice: heard.put_nowait(notice[3]))
        with pytest.raises(ZeroDivisionError):
            async with transactions.changing() as connection:
                revision = await changes.lock(connection) + 1
                await changes.record(connection, Change(revision, Put(Tenant("a"))))
                raise ZeroDivisionError
        await declare_tenant(transactions, "b")
        assert await asyncio.wait_for(heard.get(), 5) == "3"
        assert heard.empty()
    finally:
        await listener.close()


async def test_a_snapshot_is_of_one_revision_whatever_happens_meanwhile(transactions: Transactions) -> None:
    async with transactions.reading() as connection:
        assert await changes.current(connection) == 2
        await declare_tenant(transactions, "late")
        snapshot = await snapshots.read(connection)
    assert snapshot.revision == 2
    assert [tenant.id for tenant in snapshot.tenants] == ["main"]


@pytest.mark.parametrize(
    "resource",
    [
        Tenant("a", "words", "", Fallback.CANCEL),
        Tenant("a"),
        Namespace("a", "b.c", default_worker_group="gpu"),
        WorkerGroup("gpu", "wg_a", "d", ("a", "b"), timedelta(milliseconds=1500), True, GroupState.DELETING, True, 4),
        WorkerGroup("gpu", "wg_a", refusal=Refusal(2, 3)),
    ],
)
async def test_every_resource_survives_the_log(transactions: Transactions, resource: Resource) -> None:
    async with transactions.changing() as connection:
        revision = await changes.lock(connection) + 1
        await changes.record(connection, Change(revision, Removed(resource)))
    assert await logged(transactions, 2) == [Change(3, Removed(resource))]


def test_a_document_of_another_release_is_read() -> None:
    assert documents.read(Tenant, {"id": "a", "colour": "red"}) == Tenant("a")


async def test_a_removed_group_is_remembered_by_its_uid(transactions: Transactions) -> None:
    gpu = WorkerGroup("gpu", "wg_a")
    async with transactions.changing() as connection:
        revision = await changes.lock(connection)
        await changes.record(connection, Change(revision + 1, Put(replace(gpu, uid="wg_b"))))
        await changes.record(connection, Change(revision + 2, Removed(gpu)))
    async with transactions.reading() as connection:
        assert await changes.removed_uid(connection, "wg_a")
        assert not await changes.removed_uid(connection, "wg_b")


async def test_a_lock_that_stays_taken_is_unavailable_and_not_waited_for_for_ever(
    transactions: Transactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farhand.registry.store.transactions._LOCK_TIMEOUT", "50ms")
    async with transactions.changing() as first:
        await changes.lock(first)
        with pytest.raises(sql.exc.DBAPIError) as error:
            async with transactions.changing() as second:
                await changes.lock(second)
    assert isinstance(meaning_of(error.value), Unavailable)


async def test_a_database_that_went_away_is_unavailable(transactions: Transactions, fresh_database: str) -> None:
    other = await database.connect(fresh_database)
    try:
        with pytest.raises(sql.exc.DBAPIError) as error:
            async with transactions.changing() as connection:
                await other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                await changes.lock(connection)
    finally:
        await other.close()
    assert isinstance(meaning_of(error.value), Unavailable)
    assert (await declare_tenant(transactions, "after")).revision == 3


def test_an_error_of_our_own_means_nothing_to_users() -> None:
    assert meaning_of(KeyError("x")) is None


def meaning_of(error: BaseException) -> object:
    return transactions.meaning(error)


async def test_the_database_itself_guards_references_and_the_default_group(transactions: Transactions) -> None:
    async def refused(statement: str) -> None:
        with pytest.raises(sql.exc.IntegrityError):
            async with transactions.changing() as connection:
                await connection.execute(sql.text(statement))

    async with transactions.changing() as connection:
        await worker_groups.insert(connection, WorkerGroup("gpu", "wg_a"), 3)
        await tenants.insert(connection, Tenant("acme", default_worker_group="gpu"), 4)
        await namespaces.insert(connection, Namespace("acme", "a"), 5)
    await refused("DELETE FROM registry.worker_group WHERE key = 'gpu'")
    await refused("DELETE FROM registry.tenant WHERE id = 'acme'")
    await refused("UPDATE registry.worker_group SET state = 'DELETING', deleting_since = 1 WHERE key = ''")
    await refused("UPDATE registry.worker_group SET key = '' WHERE key = 'gpu'")
