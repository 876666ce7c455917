"""Deleting a worker group: refused while it has jobs, or its jobs are ended first, and the registry is answered."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import grpc.aio
import pytest

from farhand.kernel.errors import NotDeleting, NotFound, Unavailable
from farhand.runtime.database import connect
from farhand.scheduler.loops import deletion as module
from farhand.scheduler.loops.deletion import Deletion
from farhand.scheduler.loops.group_commit import HotConnection
from tests.fixtures.fake_registry import FakeRegistry
from tests.fixtures.scheduler_rows import Rows, no_log


class FakeKills:
    """Writes down what it is asked for, and marks it as the real one does."""

    def __init__(self, rows: Rows) -> None:
        self.asked: list[int] = []
        self.failure: Unavailable | None = None
        self._rows = rows
        self._one_at_a_time = asyncio.Lock()

    async def kill(self, key: int, grace_ms: int) -> None:
        if self.failure is not None:
            raise self.failure
        self.asked.append(key)
        async with self._one_at_a_time:
            await self._rows.connection.execute("UPDATE scheduler.live SET kill_at = now() WHERE key = $1", key)


Ended = list[int]
Make = Callable[[], Deletion]


@pytest.fixture
def kills(rows: Rows) -> FakeKills:
    return FakeKills(rows)


@pytest.fixture
def ended() -> Ended:
    return []


@pytest.fixture
async def make(rows: Rows, registry_channel: grpc.aio.Channel, kills: FakeKills, ended: Ended) -> AsyncIterator[Make]:
    connections: list[HotConnection] = []

    def deletion() -> Deletion:
        def tell(keys: Sequence[int]) -> None:
            ended.extend(keys)

        connections.append(HotConnection(rows.url))
        return Deletion(
            connections[-1], registry_channel, kills, writer="test/deletion", encode_log=no_log, on_ended=tell
        )

    yield deletion
    for connection in connections:
        connection.drop()


async def test_a_group_without_jobs_may_go(make: Make, rows: Rows, registry: FakeRegistry) -> None:
    await rows.group("gpu", deleting=True)
    await rows.group("stays")
    await make().once()
    assert registry.resolved == [("u-gpu", 0, 0)]


async def test_ended_jobs_do_not_keep_a_group(make: Make, rows: Rows, registry: FakeRegistry) -> None:
    await rows.done(await rows.lane(await rows.group("gpu", deleting=True)))
    await make().once()
    assert registry.resolved == [("u-gpu", 0, 0)]


async def test_a_group_with_jobs_stays_and_they_are_counted_and_untouched(
    make: Make, rows: Rows, registry: FakeRegistry, kills: FakeKills, ended: Ended
) -> None:
    uid = await rows.group("gpu", deleting=True)
    first, second = await rows.lane(uid, "main"), await rows.lane(uid, "acme")
    session = await rows.session(uid)
    await rows.waiting(first)
    await rows.waiting(second)
    await rows.live(second, session)
    await make().once()
    assert registry.resolved == [("u-gpu", 2, 1)]
    assert (ended, kills.asked) == ([], [])
    assert [await rows.counted(lane) for lane in (first, second)] == [(1, 0, 0), (1, 1, 0)]


async def test_force_ends_waiting_jobs_asks_kills_for_the_others_and_resolves_when_none_is_left(
    make: Make,
    rows: Rows,
    registry: FakeRegistry,
    kills: FakeKills,
    ended: Ended,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    monkeypatch.setattr(module, "KILLS_AT_ONCE", 2)
    uid = await rows.group("gpu", deleting=True, forced=True)
    lane = await rows.lane(uid)
    other = await rows.waiting(await rows.lane(await rows.group("other")))
    session = await rows.session(uid)
    waiting = [await rows.waiting(lane) for _ in range(5)]
    held = [await rows.live(lane, session) for _ in range(5)]

    await make().once()

    assert sorted(ended) == waiting
    assert {await rows.ended(key) for key in waiting} == {("KILLED", "GROUP_DELETED")}
    assert await rows.connection.fetchval("SELECT count(*) FROM scheduler.log_chunk WHERE fence = 0") == 5
    assert sorted(kills.asked) == held
    assert await rows.ended(other) is None
    assert registry.resolved == []

    await make().once()  # a new leader goes on, and asks no kill twice
    assert sorted(kills.asked) == held
    assert registry.resolved == []

    # Four of the jobs end, and the worker of one is lost, which brings it back into the queue.
    await rows.connection.execute("DELETE FROM scheduler.live")
    await rows.connection.execute(
        """INSERT INTO scheduler.queue (lane_id, key, fallback, lost) VALUES ($1, $2, 'W', 1)""", lane, held[0]
    )
    await make().once()
    assert await rows.ended(held[0]) == ("KILLED", "GROUP_DELETED")
    assert registry.resolved == [("u-gpu", 0, 0)]


async def test_a_vanished_group_leaves_no_job_waiting_for_ever(
    make: Make, rows: Rows, registry: FakeRegistry, ended: Ended
) -> None:
    key = await rows.waiting(await rows.lane(await rows.group("gpu", gone=True)))
    await rows.group("empty", gone=True)
    await make().once()
    assert ended == [key]
    assert registry.resolved == []


async def test_the_count_waits_for_an_enqueue_that_did_not_see_the_deletion(
    make: Make, rows: Rows, registry: FakeRegistry
) -> None:
    lane = await rows.lane(await rows.group("gpu", deleting=True))
    watching = await connect(rows.url)
    enqueue = rows.connection.transaction()
    await enqueue.start()
    await rows.connection.execute("SELECT FROM scheduler.worker_group WHERE uid = 'u-gpu' FOR KEY SHARE")
    looking = asyncio.create_task(make().once())
    while not await watching.fetchval(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"
    ):
        assert not looking.done()
    await rows.waiting(lane)
    await enqueue.commit()
    await looking
    assert registry.resolved == [("u-gpu", 1, 0)]
    await watching.close()


@pytest.mark.parametrize("failure", [NotFound("gone"), NotDeleting("not deleting")], ids=repr)
async def test_a_deletion_that_was_resolved_before_is_no_error(
    make: Make, rows: Rows, registry: FakeRegistry, failure: NotFound
) -> None:
    await rows.group("gpu", deleting=True)
    registry.failure = failure
    await make().once()


async def test_what_can_not_be_answered_or_killed_now_is_tried_again(
    make: Make, rows: Rows, registry: FakeRegistry, kills: FakeKills, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = await rows.group("gpu", deleting=True, forced=True)
    held = await rows.live(await rows.lane(uid), await rows.session(uid))
    kills.failure = Unavailable("no")
    deletion = make()
    with pytest.raises(Unavailable):
        await deletion.once()
    kills.failure = None
    await deletion.once()
    assert kills.asked == [held]
    await rows.connection.execute("DELETE FROM scheduler.live")
    registry.failure = Unavailable("no")
    with pytest.raises(Unavailable):
        await deletion.once()

    registry.failure = None
    monkeypatch.setattr(module, "POLL", 0.001)
    running = asyncio.create_task(deletion.run())
    await registry.was_resolved(2)  # as long as the copy does not say otherwise it is answered again
    running.cancel()
    assert set(registry.resolved) == {("u-gpu", 0, 0)}


async def test_a_wake_up_does_not_wait_for_the_poll(
    make: Make, rows: Rows, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL", 1000.0)
    await rows.group("first", deleting=True)
    deletion = make()
    running = asyncio.create_task(deletion.run())
    await registry.was_resolved(1)
    await rows.group("second", deleting=True)
    deletion.wake()
    await registry.was_resolved(3)
    running.cancel()
    assert registry.resolved[-1] == ("u-second", 0, 0)
