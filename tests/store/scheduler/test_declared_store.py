"""The copy of the registry in the database: strictly in revision order, whoever applies it."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from farhand.kernel.flow import PluginDefault
from farhand.kernel.resolution import Fallback
from farhand.runtime.database import connect
from farhand.scheduler.core.declared import (
    Change,
    Declared,
    Group,
    Namespace,
    OutOfOrder,
    RemovedGroup,
    RemovedNamespace,
    RemovedTenant,
    RemovedTriggeredFlow,
    Resource,
    Snapshot,
    Tenant,
    TriggeredFlow,
)
from farhand.scheduler.store.declared import Applied, apply_change, apply_snapshot, read, read_revision
from tests.fixtures.scheduler_rows import Rows, no_log

DEFAULT = Group("u-default", "", lease_ms=60_000)
GPU = Group("u-gpu", "gpu", frozenset({"main", "acme"}), 30_000, paused=True)

INHERITED = tuple(
    PluginDefault.model_validate(default)
    for default in (
        {"type": "io.kestra", "forced": True, "values": {"workerGroup": {"key": "gpu"}, "x": [1, 2.5, None, "ä"]}},
        {"type": "a.b", "values": {"retry": {"type": "constant", "interval": "PT1S", "maxAttempts": 3}}},
    )
)

FIRST = Declared.of(
    5,
    [Tenant("main", plugin_defaults=INHERITED), Tenant("acme", "gpu", Fallback.FAIL)],
    [Namespace("main", "a", "", None), Namespace("main", "a.b", None, Fallback.CANCEL)],
    [DEFAULT, GPU],
)


async def snapshot(connection: asyncpg.Connection, declared: Declared, instead_of: int | None = None) -> Applied:
    return await apply_snapshot(
        connection, Snapshot(declared), writer="test/copy", encode_log=no_log, instead_of=instead_of
    )


async def change(connection: asyncpg.Connection, revision: int, resource: Resource | None) -> Applied:
    return await apply_change(connection, Change(revision, resource), writer="test/copy", encode_log=no_log)


Looks = dict[str, tuple[int, bool]]


async def triggered(connection: asyncpg.Connection) -> Looks:
    """The flows with triggers: revision, and whether they are to be looked at."""
    rows = await connection.fetch("SELECT flow_id, revision, look_at FROM scheduler.triggered_flow")
    return {row["flow_id"]: (row["revision"], row["look_at"] is not None) for row in rows}


async def all_looked_at(connection: asyncpg.Connection) -> None:
    await connection.execute("UPDATE scheduler.triggered_flow SET look_at = NULL")


async def test_flows_with_triggers_are_to_be_looked_at_when_they_are_told(rows: Rows) -> None:
    connection = rows.connection
    flows = [TriggeredFlow("main", "a", "x", 1), TriggeredFlow("main", "a", "y", 4)]
    await apply_snapshot(connection, Snapshot(FIRST, tuple(flows)), writer="test/copy", encode_log=no_log)
    assert await triggered(connection) == {"x": (1, True), "y": (4, True)}
    await all_looked_at(connection)
    await change(connection, 6, TriggeredFlow("main", "a", "x", 2))
    assert await triggered(connection) == {"x": (2, True), "y": (4, False)}
    await change(connection, 7, RemovedTriggeredFlow("main", "a", "y"))
    assert await triggered(connection) == {"x": (2, True)}


async def test_a_snapshot_marks_those_flows_that_are_not_as_they_were(rows: Rows) -> None:
    connection = rows.connection
    before = [TriggeredFlow("main", "a", name, 1) for name in ("same", "newer", "gone")]
    await apply_snapshot(connection, Snapshot(FIRST, tuple(before)), writer="test/copy", encode_log=no_log)
    await all_looked_at(connection)
    now = [
        TriggeredFlow("main", "a", "same", 1),
        TriggeredFlow("main", "a", "newer", 2),
        TriggeredFlow("main", "a", "new", 1),
    ]
    later = dataclasses.replace(FIRST, revision=9)
    await apply_snapshot(connection, Snapshot(later, tuple(now)), writer="test/copy", encode_log=no_log)
    assert await triggered(connection) == {"same": (1, False), "newer": (2, True), "new": (1, True)}


async def test_triggers_are_looked_at_again_when_what_they_inherit_changes(rows: Rows) -> None:
    connection = rows.connection
    flows = tuple(TriggeredFlow("main", name, name, 1) for name in ("a", "a.b", "ab"))
    bare = dataclasses.replace(FIRST, tenants={"main": Tenant("main")}, namespaces={})

    async def marked() -> set[str]:
        found = {name for name, (_, due) in (await triggered(connection)).items() if due}
        await all_looked_at(connection)
        return found

    await apply_snapshot(connection, Snapshot(bare, flows), writer="test/copy", encode_log=no_log)
    await marked()
    await change(connection, 6, Namespace("main", "a", "gpu"))
    await change(connection, 7, Tenant("main", "gpu"))
    assert await marked() == set()
    await change(connection, 8, Namespace("main", "a", plugin_defaults=INHERITED))
    assert await marked() == {"a", "a.b"}
    await change(connection, 9, RemovedNamespace("main", "a"))
    assert await marked() == {"a", "a.b"}
    await change(connection, 10, Tenant("main", plugin_defaults=INHERITED))
    assert await marked() == {"a", "a.b", "ab"}
    for revision, namespaces in ((11, {}), (12, {("main", "a"): Namespace("main", "a", plugin_defaults=INHERITED)})):
        now = dataclasses.replace(
            bare,
            revision=revision,
            tenants={"main": Tenant("main", plugin_defaults=INHERITED)},
            namespaces=namespaces,
        )
        await apply_snapshot(connection, Snapshot(now, flows), writer="test/copy", encode_log=no_log)
        assert await marked() == ({"a", "a.b"} if namespaces else set())


async def test_a_new_copy_knows_nothing(rows: Rows) -> None:
    assert await read(rows.connection) == Declared()


async def test_a_snapshot_is_read_back_as_it_was(rows: Rows) -> None:
    assert await snapshot(rows.connection, FIRST) == Applied(5, moved=True)
    assert await read(rows.connection) == FIRST


CHANGES: list[Resource | None] = [
    Tenant("new", "gpu"),
    Tenant("acme"),
    Tenant("acme", plugin_defaults=INHERITED[:1]),
    Tenant("main"),
    RemovedTenant("acme"),
    Namespace("acme", "x", "gpu", Fallback.WAIT),
    Namespace("main", "a.b", plugin_defaults=INHERITED),
    Namespace("main", "a.b"),
    RemovedNamespace("main", "a"),
    Group("u-new", "new"),
    dataclasses.replace(GPU, allowed_tenants=frozenset(), deleting=True, force_deletion=True, paused=False),
    RemovedGroup("u-gpu"),
    RemovedGroup("never-was"),
    None,
]


async def test_each_change_does_to_the_rows_what_it_does_to_the_value(rows: Rows) -> None:
    await snapshot(rows.connection, FIRST)
    expected = FIRST
    for revision, resource in enumerate(CHANGES, start=6):
        assert await change(rows.connection, revision, resource) == Applied(revision, moved=True)
        expected = expected.after(Change(revision, resource))
        assert await read(rows.connection) == expected, resource


async def test_a_change_that_was_applied_changes_nothing_again(rows: Rows) -> None:
    await snapshot(rows.connection, FIRST)
    await change(rows.connection, 6, Tenant("new"))
    await change(rows.connection, 7, RemovedTenant("new"))
    assert await change(rows.connection, 6, Tenant("new")) == Applied(7, moved=False)
    assert "new" not in (await read(rows.connection)).tenants


async def test_a_change_with_a_gap_before_it_is_refused(rows: Rows) -> None:
    await snapshot(rows.connection, FIRST)
    with pytest.raises(OutOfOrder):
        await change(rows.connection, 7, Tenant("new"))
    assert await read(rows.connection) == FIRST


async def test_a_snapshot_replaces_only_what_is_older(rows: Rows) -> None:
    await snapshot(rows.connection, FIRST)
    other = Declared.of(5, [Tenant("other")], [], [DEFAULT])
    assert await snapshot(rows.connection, other) == Applied(5, moved=False)
    assert await snapshot(rows.connection, dataclasses.replace(other, revision=4)) == Applied(5, moved=False)
    assert await read(rows.connection) == FIRST
    newer = dataclasses.replace(other, revision=9)
    assert await snapshot(rows.connection, newer) == Applied(9, moved=True)
    assert await read(rows.connection) == newer


async def test_a_registry_that_was_restored_replaces_what_it_has_not_reached(rows: Rows) -> None:
    await snapshot(rows.connection, FIRST)
    restored = Declared.of(3, [Tenant("main")], [], [DEFAULT])
    assert (await snapshot(rows.connection, restored, instead_of=4)).moved is False
    assert await snapshot(rows.connection, restored, instead_of=5) == Applied(3, moved=True)
    assert await read(rows.connection) == restored


async def test_a_group_that_is_gone_keeps_its_row_and_frees_its_key(rows: Rows) -> None:
    await snapshot(rows.connection, FIRST)
    await change(rows.connection, 6, RemovedGroup("u-gpu"))
    await change(rows.connection, 7, Group("u-gpu-2", "gpu"))
    found = await rows.connection.fetch("SELECT uid, gone FROM scheduler.worker_group WHERE key = 'gpu' ORDER BY uid")
    assert [tuple(row) for row in found] == [("u-gpu", True), ("u-gpu-2", False)]
    assert (await read(rows.connection)).groups["gpu"].uid == "u-gpu-2"


async def test_a_snapshot_may_give_a_key_to_another_group_and_bring_one_back(rows: Rows) -> None:
    await snapshot(rows.connection, FIRST)
    second = Declared.of(8, [Tenant("main")], [], [DEFAULT, Group("u-gpu-2", "gpu")])
    await snapshot(rows.connection, second)
    assert await read(rows.connection) == second
    third = dataclasses.replace(FIRST, revision=9)
    await snapshot(rows.connection, third)
    assert await read(rows.connection) == third


ByStep = Callable[[asyncpg.Connection, Group], Awaitable[Applied]]


async def by_change(connection: asyncpg.Connection, group: Group) -> Applied:
    return await change(connection, 6, group)


async def by_snapshot(connection: asyncpg.Connection, group: Group) -> Applied:
    return await snapshot(connection, Declared.of(20, [], [], [DEFAULT, group]))


@pytest.mark.parametrize("apply", [by_change, by_snapshot])
async def test_waiting_jobs_of_a_tenant_that_is_no_longer_allowed_end_and_others_stay(
    rows: Rows, apply: ByStep
) -> None:
    await snapshot(rows.connection, FIRST)
    acme, main = await rows.lane("u-gpu", "acme"), await rows.lane("u-gpu", "main")
    elsewhere = await rows.lane("u-default", "acme")
    session = await rows.session("u-gpu")
    forbidden, stays, other = await rows.waiting(acme), await rows.waiting(main), await rows.waiting(elsewhere)
    running = await rows.live(acme, session)

    applied = await apply(rows.connection, dataclasses.replace(GPU, allowed_tenants=frozenset({"main"})))

    assert applied.ended == (forbidden,)
    assert await rows.ended(forbidden) == ("FAILED", "TENANT_NOT_ALLOWED")
    assert [await rows.ended(key) for key in (stays, other, running)] == [None, None, None]
    assert await rows.counted(acme) == (0, 1, 1)


@pytest.mark.parametrize("apply", [by_change, by_snapshot])
async def test_a_pause_ends_waiting_jobs_that_may_not_wait(rows: Rows, apply: ByStep) -> None:
    active = dataclasses.replace(GPU, paused=False)
    await snapshot(rows.connection, Declared.of(5, [], [], [DEFAULT, active]))
    await rows.session("u-gpu")
    lane = await rows.lane("u-gpu")
    waits, fails, cancels = [await rows.waiting(lane, fallback=letter) for letter in "WFC"]

    applied = await apply(rows.connection, GPU)

    assert set(applied.ended) == {fails, cancels}
    assert await rows.ended(fails) == ("FAILED", "GROUP_NOT_AVAILABLE")
    assert await rows.ended(cancels) == ("KILLED", "GROUP_NOT_AVAILABLE")
    assert await rows.ended(waits) is None


WAITS = """
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')
"""


async def test_a_group_does_not_change_while_an_enqueue_holds_it(rows: Rows) -> None:
    await snapshot(rows.connection, FIRST)
    other = await connect(rows.url)
    async with other.transaction():
        await other.execute("SELECT FROM scheduler.worker_group WHERE uid = 'u-gpu' FOR KEY SHARE")
        applying = asyncio.create_task(change(rows.connection, 6, dataclasses.replace(GPU, paused=False)))
        while not await other.fetchval(WAITS):
            assert not applying.done()
    assert (await applying).moved
    await other.close()


async def test_of_many_replicas_that_apply_the_same_steps_one_wins_each(rows: Rows) -> None:
    steps: list[Resource] = [Group(f"u-{n}", f"g{n}") for n in range(12)]
    connections = [await connect(rows.url) for _ in range(4)]

    async def replica(connection: asyncpg.Connection) -> list[bool]:
        won = [(await snapshot(connection, FIRST)).moved]
        for revision, step in enumerate(steps, start=6):
            won.append((await change(connection, revision, step)).moved)
        return won

    won = await asyncio.gather(*(replica(connection) for connection in connections))
    assert [sum(each) for each in zip(*won, strict=True)] == [1] * 13
    assert await read_revision(rows.connection) == 17
    assert len((await read(rows.connection)).groups) == 14
    for connection in connections:
        await connection.close()


async def test_the_copy_is_read_as_of_one_moment(rows: Rows) -> None:
    await snapshot(rows.connection, FIRST)
    writer = await connect(rows.url)
    done = asyncio.Event()

    async def write() -> None:
        for revision in range(6, 46, 2):
            await change(writer, revision, Group("u-x", "x"))
            await change(writer, revision + 1, RemovedGroup("u-x"))
        done.set()

    writing = asyncio.create_task(write())
    while not done.is_set():
        seen = await read(rows.connection)
        assert ("x" in seen.groups) == (seen.revision > 5 and seen.revision % 2 == 0)
    await writing
    await writer.close()
