"""Each aggregate: rows in, rows out."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sql

from farhand.kernel.errors import RequestIdReused
from farhand.kernel.resolution import Fallback
from farhand.registry.core.namespace import Namespace
from farhand.registry.core.tenant import Tenant
from farhand.registry.core.worker import PRESENT, Report, Worker, WorkerState
from farhand.registry.core.worker_group import GroupState, Refusal, WorkerGroup
from farhand.registry.store import namespaces, requests, roll, tenants, worker_groups
from farhand.registry.store.roll import Filter
from farhand.registry.store.transactions import Transactions

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


async def test_a_tenant_is_stored_changed_and_removed(transactions: Transactions) -> None:
    async with transactions.changing() as connection:
        made = await tenants.insert(connection, Tenant("acme", "words", "", Fallback.FAIL), 3)
    assert made == Tenant("acme", "words", "", Fallback.FAIL, (), 3, made.create_time, made.create_time)
    assert made.create_time is not None
    async with transactions.changing() as connection:
        changed = await tenants.update(connection, replace(made, default_worker_group=None, default_fallback=None), 4)
    assert changed.update_time is not None and changed.update_time > made.create_time
    assert changed == replace(
        made, default_worker_group=None, default_fallback=None, revision=4, update_time=changed.update_time
    )
    async with transactions.changing() as connection:
        assert await tenants.get(connection, "acme") == changed
        await tenants.delete(connection, "acme")
        assert await tenants.get(connection, "acme") is None


async def test_a_group_is_stored_with_all_that_its_deletion_needs(transactions: Transactions) -> None:
    group = WorkerGroup("gpu", "wg_a", "words", ("acme", "main"), timedelta(milliseconds=1500), paused=True)
    async with transactions.changing() as connection:
        made = await worker_groups.insert(connection, group, 3)
    assert made == replace(group, revision=3, create_time=made.create_time, update_time=made.update_time)
    deleting = replace(made, state=GroupState.DELETING, force_deletion=True, deleting_since=3)
    refused = replace(made, refusal=Refusal(2**40, 0), lease=timedelta(days=7))
    for revision, changed in enumerate((deleting, refused), 4):
        async with transactions.changing() as connection:
            stored = await worker_groups.update(connection, changed, revision)
            assert stored == replace(changed, revision=revision, update_time=stored.update_time)
            assert await worker_groups.get(connection, "gpu") == stored
            assert await worker_groups.get_by_uid(connection, "wg_a") == stored


async def test_names_are_sorted_by_their_bytes_and_the_default_group_is_first(transactions: Transactions) -> None:
    async with transactions.changing() as connection:
        for number, key in enumerate(("b", "a", "B", "a-1", "A", "a1")):
            await worker_groups.insert(connection, WorkerGroup(key, f"wg_{number}"), 3)
    async with transactions.reading() as connection:
        first = [group.key for group in await worker_groups.page(connection, None, None, 4)]
        rest = [group.key for group in await worker_groups.page(connection, None, first[-1], 10)]
    assert (first, rest) == (["", "A", "B", "a"], ["a-1", "a1", "b"])


async def test_groups_are_found_by_the_tenants_that_may_use_them(transactions: Transactions) -> None:
    async with transactions.changing() as connection:
        await worker_groups.insert(connection, WorkerGroup("ours", "wg_1", allowed_tenants=("acme", "main")), 3)
        await worker_groups.insert(connection, WorkerGroup("theirs", "wg_2", allowed_tenants=("rival",)), 3)

    async def seen(*names: str) -> list[str]:
        async with transactions.reading() as connection:
            page = await worker_groups.page(connection, frozenset(names), None, 10)
            assert sorted(await worker_groups.keys_like(connection, "", frozenset(names))) == [g.key for g in page]
        return [group.key for group in page]

    assert await seen("acme") == ["", "ours"]
    assert await seen("rival", "main") == ["", "ours", "theirs"]
    assert await seen("stranger") == [""]
    assert await seen() == []
    async with transactions.reading() as connection:
        assert await worker_groups.allowing(connection, "main") == ["ours"]
        assert await worker_groups.allowing(connection, "mai") == []


async def test_who_names_a_group_as_its_default_is_found(transactions: Transactions) -> None:
    async with transactions.changing() as connection:
        await worker_groups.insert(connection, WorkerGroup("gpu", "wg_1"), 3)
        await tenants.insert(connection, Tenant("acme", default_worker_group="gpu"), 4)
        await tenants.insert(connection, Tenant("other", default_worker_group=""), 5)
        for name, key in (("a", "gpu"), ("a.b", None), ("c", "")):
            await namespaces.insert(connection, Namespace("acme", name, default_worker_group=key), 6)
        assert await tenants.naming_group(connection, "gpu") == ["acme"]
        assert await namespaces.naming_group(connection, "gpu") == ["acme/a"]
        assert await namespaces.of_tenant(connection, "acme") == ["a", "a.b", "c"]
        assert await tenants.missing(connection, ["acme", "nobody", "main", "anna"]) == ["anna", "nobody"]


async def test_an_answered_request_is_answered_the_same_for_a_day(transactions: Transactions) -> None:
    asked = Tenant("acme", "words")
    async with transactions.changing() as connection:
        made = await tenants.insert(connection, asked, 3)
        assert await requests.answered(connection, "id", asked) is None
        await requests.remember(connection, "id", asked, made)
        await requests.remember(connection, "", asked, made)
    async with transactions.changing() as connection:
        assert await requests.answered(connection, "id", asked) == made
        assert await requests.answered(connection, "", asked) is None
        assert await requests.answered(connection, "id", Namespace("acme", "a")) is None
        with pytest.raises(RequestIdReused):
            await requests.answered(connection, "id", replace(asked, description="other"))
        await connection.execute(sql.text("UPDATE registry.request SET create_time = now() - interval '24 hours'"))
        assert await requests.answered(connection, "id", asked) is None
        await requests.remember(connection, "id", asked, made)  # the old one has made room
        assert await requests.answered(connection, "id", asked) == made


def a_worker(worker_id: str, **changed: object) -> Worker:
    worker = Worker(
        worker_id, "", "wg_d", WorkerState.CONNECTED, "host", "0.1.0", 4, 1, ("a", "b"), (), NOON, NOON, "subject"
    )
    return replace(worker, **changed)  # type: ignore[arg-type]


async def put(transactions: Transactions, *reports: Report) -> None:
    async with transactions.changing() as connection:
        await roll.put(connection, reports)


async def test_a_report_is_read_back_and_only_a_newer_one_replaces_it(transactions: Transactions) -> None:
    async def now() -> Worker | None:
        async with transactions.reading() as connection:
            return await roll.get(connection, "w", None)

    await put(transactions)
    await put(transactions, Report(a_worker("w"), 2, 5))
    assert await now() == a_worker("w")
    for epoch, sequence in ((2, 5), (2, 4), (1, 99)):
        await put(transactions, Report(a_worker("w", state=WorkerState.LOST), epoch, sequence))
    assert await now() == a_worker("w")
    for epoch, sequence, busy in ((2, 6, 2), (3, 0, 3)):
        await put(transactions, Report(a_worker("w", busy_slots=busy, start_time=None), epoch, sequence))
        assert await now() == a_worker("w", busy_slots=busy, start_time=None)


async def test_a_thousand_reports_are_one_call(transactions: Transactions) -> None:
    await put(transactions, *(Report(a_worker(f"w{number:04}"), 1, 1) for number in range(1000)))
    async with transactions.reading() as connection:
        page = await roll.page(connection, Filter(None, PRESENT, None), "w0100", 3)
    assert [worker.id for worker in page] == ["w0101", "w0102", "w0103"]


async def test_the_roll_is_filtered_by_group_state_and_tenant(transactions: Transactions) -> None:
    async with transactions.changing() as connection:
        default = await worker_groups.get(connection, "")
        assert default is not None
        await worker_groups.insert(connection, WorkerGroup("gpu", "wg_1", allowed_tenants=("rival",)), 3)
    workers = (
        a_worker("default", worker_group_uid=default.uid),
        a_worker("lost", worker_group_uid=default.uid, state=WorkerState.LOST),
        a_worker("ours", worker_group_uid=default.uid, tenants=("acme", "main")),
        a_worker("theirs", worker_group_uid=default.uid, tenants=("rival",)),
        a_worker("gpu", worker_group="gpu", worker_group_uid="wg_1"),
        a_worker("orphan", worker_group="gone", worker_group_uid="wg_gone"),
    )
    await put(transactions, *(Report(worker, 1, 1) for worker in workers))

    async def listed(group: str | None = None, states: tuple[WorkerState, ...] = PRESENT, *names: str) -> set[str]:
        only = frozenset(names) or None
        async with transactions.reading() as connection:
            page = await roll.page(connection, Filter(group, states, only), None, 100)
            for worker in page:
                assert await roll.get(connection, worker.id, only) == worker
        return {worker.id for worker in page}

    assert await listed() == {"default", "ours", "theirs", "gpu", "orphan"}
    assert await listed("") == {"default", "ours", "theirs"}
    assert await listed("gpu") == {"gpu"}
    assert await listed(None, (WorkerState.LOST,)) == {"lost"}
    assert await listed(None, PRESENT, "acme") == {"default", "ours"}
    assert await listed(None, PRESENT, "rival") == {"default", "theirs", "gpu"}
    async with transactions.reading() as connection:
        assert await roll.get(connection, "gpu", frozenset({"acme"})) is None
        assert await roll.ids_like(connection, "OU", frozenset({"acme"})) == ["ours", "default", "lost"]
        assert await roll.page(connection, Filter(None, PRESENT, frozenset()), None, 10) == []
