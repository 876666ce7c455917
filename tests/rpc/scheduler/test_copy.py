"""The copy of the registry follows it over real gRPC, through every kind of absence."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import grpc.aio
import pytest

from farhand.kernel.errors import Unavailable
from farhand.runtime.grpc_channel import make_channel
from farhand.runtime.settings import DialSettings
from farhand.scheduler.core.declared import Change, Declared, Group, RemovedGroup, Snapshot, Tenant
from farhand.scheduler.loops import copy as module
from farhand.scheduler.loops.copy import Copy
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.store.declared import apply_change, apply_snapshot, read
from tests.fixtures.fake_registry import FakeRegistry
from tests.fixtures.scheduler_rows import Rows, no_log

GPU = Group("u-gpu", "gpu")


@dataclass
class Replica:
    """A copy and what it told."""

    copy: Copy
    connection: HotConnection
    changed: "asyncio.Queue[frozenset[str]]" = field(default_factory=asyncio.Queue)
    ended: list[int] = field(default_factory=list)
    loop: "asyncio.Task[None] | None" = None

    async def knows(self, condition: Callable[[Declared], bool]) -> Declared:
        """Wait for changes of groups until the memory fulfils the condition."""
        while not condition(self.copy.declared):
            assert self.loop is not None and not self.loop.done(), "the copy's loop has ended"
            change = asyncio.create_task(self.changed.get())
            await asyncio.wait([change, self.loop], return_when=asyncio.FIRST_COMPLETED)
            change.cancel()
        return self.copy.declared

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Replica"]:
        """Run its loop meanwhile."""
        task = self.loop = asyncio.create_task(self.copy.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()


@pytest.fixture
async def make(rows: Rows, registry: FakeRegistry) -> AsyncIterator[Callable[[], Replica]]:
    """Makes replicas of one scheduler."""
    channels: list[grpc.aio.Channel] = []
    connections: list[HotConnection] = []

    def replica() -> Replica:
        channel = make_channel(registry.address, DialSettings())
        connection = HotConnection(rows.url)
        channels.append(channel)
        connections.append(connection)

        def changed(uids: frozenset[str]) -> None:
            made.changed.put_nowait(uids)

        def ended(keys: Sequence[int]) -> None:
            made.ended.extend(keys)

        copy = Copy(
            connection,
            channel,
            registry.address,
            writer=f"replica{len(channels)}/copy",
            encode_log=no_log,
            on_change=changed,
            on_ended=ended,
            jitter=lambda: 0.1,
        )
        made = Replica(copy, connection)
        return made

    yield replica
    for channel in channels:
        await channel.close()
    for connection in connections:
        connection.drop()


Make = Callable[[], Replica]


async def test_the_copy_is_filled_and_then_follows_each_change(make: Make, registry: FakeRegistry, rows: Rows) -> None:
    async with make().running() as replica:
        assert await replica.changed.get() == {"u-default"}
        assert replica.copy.declared == registry.declared
        await registry.declare(Tenant("acme"), GPU, RemovedGroup("u-gpu"), Group("u-gpu-2", "gpu"))
        seen = await replica.knows(lambda declared: "u-gpu-2" in declared.groups_by_uid)
        assert seen == registry.declared == await read(rows.connection)
        assert registry.asked == [0]


async def test_after_an_outage_it_goes_on_from_where_it_was(
    make: Make, registry: FakeRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, module.__name__)
    async with make().running() as replica:
        await replica.knows(lambda declared: declared.revision >= 1)
        await registry.declare(GPU)
        await replica.knows(lambda declared: "gpu" in declared.groups)
        await registry.stop()
        await registry.declare(Group("u-new", "new"))
        await registry.start()
        await replica.knows(lambda declared: "new" in declared.groups)
    assert registry.asked == [0, 2]
    lines = [record.getMessage() for record in caplog.records]
    assert sum(line.startswith(f"waiting for the registry at {registry.address}") for line in lines) == 1
    assert lines[-1] == f"the registry at {registry.address} is back"


async def test_a_registry_that_is_away_from_the_start_is_waited_for(make: Make, registry: FakeRegistry) -> None:
    await registry.stop()
    async with make().running() as replica:
        with pytest.raises(Unavailable):
            await replica.copy.catch_up()
        await registry.start()
        await replica.knows(lambda declared: declared.revision == 1)


async def test_a_new_process_begins_from_what_the_database_has(make: Make, registry: FakeRegistry) -> None:
    async with make().running() as first:
        await first.knows(lambda declared: declared.revision >= 1)
    second = make()
    await second.copy.refresh()
    assert second.copy.declared == registry.declared
    async with second.running():
        await registry.declare(GPU)
        await second.knows(lambda declared: "gpu" in declared.groups)
    assert registry.asked == [0, 1]


async def test_a_registry_that_was_restored_from_a_backup_is_believed(
    make: Make, registry: FakeRegistry, rows: Rows
) -> None:
    async with make().running() as replica:
        await replica.knows(lambda declared: declared.revision >= 1)
        await registry.declare(GPU, Group("u-lost", "lost"))
        await replica.knows(lambda declared: "lost" in declared.groups)
        await registry.stop()
        registry.declared, registry.changes = Declared.of(2, [Tenant("main")], [], [Group("u-default", ""), GPU]), []
        await registry.start()
        await replica.knows(lambda declared: "lost" not in declared.groups)
        assert replica.copy.declared == registry.declared == await read(rows.connection)
        await registry.declare(Group("u-next", "next"))
        await replica.knows(lambda declared: "next" in declared.groups)


async def test_a_heartbeat_that_is_ahead_shows_a_gap_and_the_copy_is_replaced(
    make: Make, registry: FakeRegistry
) -> None:
    async with make().running() as replica:
        await replica.knows(lambda declared: declared.revision >= 1)
        registry.declared = Declared.of(9, [Tenant("main")], [], [Group("u-default", ""), GPU])
        registry.heartbeat = 9
        async with registry.moved:
            registry.moved.notify_all()
        await replica.knows(lambda declared: declared.revision == 9)
        assert registry.asked == [0, 0]


async def test_a_change_of_a_kind_that_is_not_known_here_is_stepped_over(make: Make, registry: FakeRegistry) -> None:
    async with make().running() as replica:
        await replica.knows(lambda declared: declared.revision >= 1)
        await registry.declare(None, GPU)
        assert (await replica.knows(lambda declared: "gpu" in declared.groups)).revision == 3
        assert registry.asked == [0]


async def test_replicas_on_one_database_all_follow_and_each_job_ends_once(
    make: Make, registry: FakeRegistry, rows: Rows
) -> None:
    async with make().running() as first, make().running() as second, make().running() as third:
        replicas = (first, second, third)
        await registry.declare(GPU)
        for replica in replicas:
            await replica.knows(lambda declared: "gpu" in declared.groups)
        key = await rows.waiting(await rows.lane("u-gpu", "acme"))
        await registry.declare(Group("u-gpu", "gpu", frozenset({"main"})))
        for replica in replicas:
            await replica.knows(lambda declared: not declared.groups["gpu"].allows("acme"))
            assert replica.copy.declared == registry.declared
    assert [*first.ended, *second.ended, *third.ended] == [key]


async def test_a_refresh_takes_over_what_another_replica_applied(
    make: Make, registry: FakeRegistry, rows: Rows
) -> None:
    replica = make()
    await apply_snapshot(rows.connection, Snapshot(registry.declared), writer="other/copy", encode_log=no_log)
    assert await replica.copy.current() == registry.declared
    assert replica.changed.get_nowait() == {"u-default"}
    await apply_change(rows.connection, Change(2, GPU), writer="other/copy", encode_log=no_log)
    await replica.copy.refresh_if_older(1)
    assert replica.copy.declared.revision == 1
    await replica.copy.refresh_if_older(2)
    assert replica.copy.declared.groups["gpu"] == GPU
    assert replica.changed.get_nowait() == {"u-gpu"}


async def test_catching_up_sees_what_was_declared_a_moment_ago(make: Make, registry: FakeRegistry, rows: Rows) -> None:
    replica = make()
    await replica.copy.catch_up()
    await registry.declare(GPU)
    await replica.copy.catch_up()
    assert replica.copy.declared == registry.declared == await read(rows.connection)
    assert registry.asked == [0, 0]


async def test_all_who_ask_at_once_share_a_question_that_began_after_they_asked(
    make: Make, registry: FakeRegistry, rows: Rows
) -> None:
    replica = make()
    registry.held = asyncio.Event()
    early = asyncio.create_task(replica.copy.catch_up())
    await registry.was_asked(1)
    late = []
    for _ in range(3):
        late += [asyncio.create_task(replica.copy.catch_up()) for _ in range(20)]
        await rows.connection.fetchval("SELECT 1")  # time enough to ask
    late.pop().cancel()  # one that gives up harms nobody
    assert registry.asked == [0]
    registry.held.set()
    await asyncio.gather(early, *late)
    assert registry.asked == [0, 0]
    assert replica.copy.declared == registry.declared


async def test_a_registry_that_can_not_be_asked_is_unavailable_and_harms_nothing(
    make: Make, registry: FakeRegistry
) -> None:
    replica = make()
    await replica.copy.catch_up()
    await registry.stop()
    with pytest.raises(Unavailable, match="registry can't be reached") as refused:
        await replica.copy.catch_up()
    assert refused.value.retry_delay
    assert replica.copy.declared == registry.declared
    await registry.start()
    with contextlib.suppress(Unavailable):  # the channel may not have noticed yet
        await replica.copy.catch_up()


async def test_a_registry_that_says_nothing_is_unavailable_in_time(
    make: Make, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ASKING", 0.05)
    registry.held = asyncio.Event()
    with pytest.raises(Unavailable, match="registry can't be reached"):
        await make().copy.catch_up()


async def test_a_stream_that_falls_silent_is_opened_anew(
    make: Make, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE", 0.05)
    registry.held = asyncio.Event()
    async with make().running() as replica:
        await registry.was_asked(2)
        registry.held.set()
        await replica.knows(lambda declared: declared.revision >= 1)


async def test_a_database_connection_that_breaks_costs_no_step(make: Make, registry: FakeRegistry, rows: Rows) -> None:
    async with make().running() as replica:
        await replica.knows(lambda declared: declared.revision >= 1)
        for number in range(3):
            await rows.cut_connections()
            await registry.declare(Group(f"u-{number}", f"g{number}"))
            await replica.knows(lambda declared: declared == registry.declared)
        assert replica.copy.declared == registry.declared == await read(rows.connection)
