"""The claim loop on real PostgreSQL, where it meets what other tasks and replicas do in the very same moment."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from farhand.runtime.database import connect
from farhand.scheduler.core.lease import LeaseTerms
from farhand.scheduler.loops import dispatch as module
from farhand.scheduler.loops.dispatch import Dispatch
from farhand.scheduler.loops.frames import Assignments, GoAway, GoAwayReason
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.loops.secret_inputs import NO_SECRETS
from farhand.scheduler.loops.stream import Outbox, Stream, Streams
from farhand.scheduler.store import queue
from farhand.scheduler.store.queue import Claimed
from farhand.scheduler.store.sessions import Opened
from farhand.scheduler.store.sql import SQL
from tests.fixtures.scheduler_store import MeshStore
from tests.tasks import SHELL

INCARNATION = b"i" * 16
SECONDS = 20.0


def a_stream(opened: Opened, group: str = "g", *, credit: int = 10) -> Stream:
    """A stream of a worker with so much credit."""
    return Stream(
        session_id=opened.id,
        epoch=opened.epoch,
        worker_id="w",
        group_uid=group,
        subject="",
        tenants=None,
        task_types=frozenset({SHELL}),
        terms=LeaseTerms(0),
        outbox=Outbox(),
        limit=credit,
    )


class Claims:
    """A dispatch, and the streams that it serves."""

    def __init__(self, url: str, store: MeshStore) -> None:
        self.url = url
        self.store = store
        self.streams = Streams()
        self.hot = HotConnection(url)
        self.dispatch = Dispatch(
            self.hot,
            self.streams,
            NO_SECRETS,
            writer="test/dispatch",
            encode_log=str.encode,
            on_assigned=lambda keys: None,
            on_ended=lambda keys: None,
        )

    async def connected(self, group: str = "g", **facts: Any) -> Stream:
        """A worker connects, again if it gives its incarnation."""
        stream = a_stream(await self.store.a_session(group, worker="w", **facts), group)
        self.streams.add(stream)
        return stream

    async def sent(self, stream: Stream) -> list[int]:
        """The keys of the jobs in the stream's outbox; it is closed with this."""
        stream.outbox.put_urgent(GoAway(GoAwayReason.SHUTDOWN, "the end"))
        keys: list[int] = []
        await stream.outbox.get()
        stream.outbox.put(GoAway(GoAwayReason.SHUTDOWN, "the end"))
        while isinstance(frame := await stream.outbox.get(), Assignments):
            keys += [job.key for job in frame.jobs]
        return keys


@pytest_asyncio.fixture
async def claims(mesh_store: MeshStore, fresh_database: str) -> AsyncIterator[Claims]:
    """A dispatch over the store's group "g"."""
    made = Claims(fresh_database, mesh_store)
    yield made
    await made.hot.close()


async def test_an_assignment_found_after_a_broken_connection_is_not_sent_to_a_stream_that_came_since(
    claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = await claims.connected(incarnation=INCARNATION)
    [key] = await claims.store.jobs("g")
    claims.store.epochs[stream.session_id] = stream.epoch
    await claims.store.claim("g", stream.session_id)  # committed, and the dispatch never heard of it
    claims.dispatch._doubtful = True
    newer: list[Stream] = []

    async def assigned_to(connection: asyncpg.Connection, sessions: Sequence[int]) -> list[Claimed]:
        found = await queue.assigned_to(connection, sessions)
        # The worker dials again just now: its hello does not list the job, so that goes back to its place.
        newer.append(await claims.connected(incarnation=INCARNATION))
        return found

    monkeypatch.setattr(module, "assigned_to", assigned_to)
    await claims.dispatch.once()
    assert await claims.store.state(key) == "CREATED"
    assert await claims.sent(newer[0]) == []  # or it would run under a fence that was given up (P1)


async def test_an_assignment_found_after_a_broken_connection_does_not_follow_a_drain_s_acknowledgement(
    claims: Claims,
) -> None:
    stream = await claims.connected()
    [key] = await claims.store.jobs("g")
    await claims.store.claim("g", stream.session_id)
    claims.dispatch._doubtful = True
    stream.draining = True
    await claims.dispatch.once()
    last = await stream.outbox.get()
    assert isinstance(last, GoAway) and last.reason is GoAwayReason.SHUTDOWN  # the next hello gives the job back
    assert await stream.outbox.get() is None and await claims.store.state(key) == "ASSIGNED"  # P8


async def test_what_a_claim_assigned_is_not_sent_to_a_stream_that_came_since(
    claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = await claims.connected(incarnation=INCARNATION)
    await claims.store.jobs("g")
    replaced = asyncio.Event()
    newer = a_stream(await claims.store.a_session("g", worker="other"))
    newer.session_id = older.session_id

    async def assign(*what: Any) -> list[Claimed]:
        claimed = await queue.assign(*what)
        claims.streams.add(newer)  # as its Connect does, which waited for the claim's locks
        replaced.set()
        return claimed

    monkeypatch.setattr(module, "assign", assign)
    claims.dispatch.wake(["g"])
    await claims.dispatch.once()
    assert replaced.is_set() and await claims.sent(newer) == []


async def test_a_job_of_a_new_kind_is_not_overtaken_while_a_claim_waits_for_its_lock(claims: Claims) -> None:
    stream = await claims.connected()
    stream.limit = 1
    await claims.store.lanes.ids(claims.store.connection, {("g", "main", SHELL)})
    other = await connect(claims.url)
    locked = other.transaction()
    await locked.start()
    await other.fetchrow(SQL["lock_group_for_claim"], "g")  # another replica claims
    claims.dispatch.wake(["g"])
    claiming = asyncio.create_task(claims.dispatch.once())
    while not await claims.store.connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    ):
        await asyncio.sleep(0)
    first = await claims.store.a_job("g", tenant="newcomer")  # the first of its lane
    second = await claims.store.a_job("g")
    await locked.commit()
    await other.close()
    await claiming
    claims.dispatch.wake(["g"])  # as the enqueues do
    await claims.dispatch.once()
    assert await claims.sent(stream) == [first] and await claims.store.state(second) == "CREATED"  # P5


async def test_a_job_of_a_kind_that_came_during_a_claim_is_not_overtaken_by_a_younger_one(
    claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = await claims.connected()
    stream.limit = 1
    await claims.store.lanes.ids(claims.store.connection, {("g", "main", SHELL)})
    waiting: list[int] = []

    async def heads(*what: Any) -> list[asyncpg.Record]:
        if not waiting:  # the claim has read the lanes
            waiting.append(await claims.store.a_job("g", tenant="newcomer"))  # the first of its lane
            waiting.append(await claims.store.a_job("g"))
        return await queue.heads(*what)

    monkeypatch.setattr(module, "heads", heads)
    for _ in range(2):
        claims.dispatch.wake(["g"])
        await claims.dispatch.once()
    assert await claims.sent(stream) == waiting[:1]  # P5


async def test_a_drain_waits_for_the_claim_in_flight_and_not_for_the_end_of_all_work(
    claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    await claims.connected()
    looks = 0

    async def lock_for_claim(connection: asyncpg.Connection, group: str) -> None:
        nonlocal looks
        looks += 1
        claims.dispatch.wake([group])  # there always is more to do

    monkeypatch.setattr(module, "lock_for_claim", lock_for_claim)
    claims.dispatch.wake(["g"])
    busy = asyncio.create_task(claims.dispatch.once())
    while not looks:
        await asyncio.sleep(0)
    try:
        async with asyncio.timeout(SECONDS / 10):
            await claims.dispatch.settled()
    finally:
        claims.dispatch.stop()
        await busy


async def test_what_the_database_refuses_does_not_end_the_loop(
    claims: Claims, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stream = await claims.connected()
    await claims.store.jobs("g")
    refused = False

    async def assign(*what: Any) -> list[Claimed]:
        nonlocal refused
        if not refused:
            refused = True
            raise asyncpg.DiskFullError("could not extend file")
        return await queue.assign(*what)

    monkeypatch.setattr(module, "assign", assign)
    claims.dispatch.wake(["g"])
    running = asyncio.create_task(claims.dispatch.run())
    async with asyncio.timeout(SECONDS):
        frame = await stream.outbox.get()
    assert isinstance(frame, Assignments) and refused and "could not extend file" in caplog.text
    running.cancel()
    await asyncio.wait([running])
