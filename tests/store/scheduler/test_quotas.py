"""Quotas on real PostgreSQL (P13): the last place is given once, whoever asks for it in the very same moment."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from farhand.kernel.errors import FarhandError, QuotaExceeded
from farhand.kernel.quotas import EVERYONE, Quota
from farhand.runtime.database import connect
from farhand.scheduler.core.session import SessionEvent
from farhand.scheduler.core.submission import Answer, Submission
from farhand.scheduler.loops import dispatch as dispatching
from farhand.scheduler.loops import enqueue as enqueuing
from farhand.scheduler.loops.dispatch import Dispatch
from farhand.scheduler.loops.enqueue import Enqueue, Placed
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.loops.secret_inputs import NO_SECRETS
from farhand.scheduler.loops.stream import Streams
from farhand.scheduler.store.queue import NewJob, assign, insert_jobs
from farhand.scheduler.store.sessions import change_session
from farhand.scheduler.store.sql import SQL
from farhand.scheduler.store.tenant_quotas import write_quotas
from tests.fixtures.scheduler_rows import no_log
from tests.fixtures.scheduler_store import WRITER, MeshStore
from tests.store.scheduler.test_dispatch import a_stream
from tests.tasks import NOOP, SHELL

QUOTAS = [Quota("acme", max_running=2, max_queued=3)]


async def bound(store: MeshStore, *quotas: Quota) -> None:
    """The group "g" is declared with these."""
    await store.connection.execute("UPDATE scheduler.worker_group SET quotas = $1", write_quotas(quotas))


class Replica:
    """A scheduler's way in and its claims, on connections of its own."""

    def __init__(self, url: str, name: str) -> None:
        self.hot = [HotConnection(url) for _ in range(2)]
        nobody: Any = None
        self.enqueue = Enqueue(
            self.hot[0],
            nobody,
            self,
            writer=f"{name}/enqueue",
            encode_log=no_log,
            encode_status=lambda e: str(e).encode(),
        )
        self.streams = Streams()
        self.dispatch = Dispatch(
            self.hot[1],
            self.streams,
            NO_SECRETS,
            writer=f"{name}/dispatch",
            encode_log=no_log,
            on_assigned=lambda keys: None,
            on_ended=lambda keys: None,
        )

    def enqueued(self, groups: object, ended: Sequence[int]) -> None:
        """Nobody is woken."""

    async def submit(self, count: int = 1, *, tenant: str = "acme", type_: str = SHELL, id: str = "") -> Answer:
        """One call, placed in the group "g"."""
        job = NewJob("g", tenant, type_, "W", 3, None, None, b"task")
        placed = Placed(Submission((), tenant, id, b"hash"), (job,) * count)
        [answer] = await self.enqueue.write(await self.hot[0].get(), [placed])
        assert isinstance(answer, tuple), answer
        return answer

    async def claim(self) -> None:
        """Claim what the streams have credit for."""
        self.dispatch.wake(["g"])
        await self.dispatch.once()


@pytest.fixture
async def replicas(fresh_database: str, mesh_store: MeshStore) -> AsyncIterator[tuple[Replica, Replica]]:
    both = Replica(fresh_database, "one"), Replica(fresh_database, "two")
    yield both
    for replica in both:
        for hot in replica.hot:
            await hot.close()


def taken(answer: Answer) -> list[bool]:
    """Row by row, whether there was room; a refusal is a quota's."""
    assert all(isinstance(entry, int | QuotaExceeded) for entry in answer), answer
    return [isinstance(entry, int) for entry in answer]


def in_its_midst(
    store: MeshStore, real: Callable[..., Awaitable[Any]], other: Callable[[], Awaitable[None]]
) -> tuple[Callable[..., Awaitable[Any]], list["asyncio.Task[None]"]]:
    """`real`, which at its first call begins something else too, and goes on once that waits for a lock or is done."""
    begun: list[asyncio.Task[None]] = []

    async def call(*arguments: Any) -> Any:
        if not begun:
            begun.append(asyncio.ensure_future(other()))
            waits = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            while not begun[0].done() and not await store.connection.fetchval(waits):
                await asyncio.sleep(0)
        return await real(*arguments)

    return call, begun


# ── what waits ──


async def test_two_replicas_do_not_give_the_last_place_in_a_queue_twice(
    mesh_store: MeshStore, replicas: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    await bound(mesh_store, *QUOTAS)
    one, two = replicas
    assert taken(await one.submit(2)) == [True, True]
    assert taken(await two.submit(tenant="main")) == [True]
    answers: list[Answer] = []

    async def meanwhile() -> None:
        answers.append(await two.submit())

    inserting, begun = in_its_midst(mesh_store, insert_jobs, meanwhile)
    monkeypatch.setattr(enqueuing, "insert_jobs", inserting)
    answers.insert(0, await one.submit())
    await begun[0]
    assert [taken(answer) for answer in answers] == [[True], [False]]
    assert await mesh_store.tally() == await mesh_store.counted() == (4, 0, 0)


async def test_a_refusal_has_the_figures_and_the_rows_that_come_first_are_taken(
    mesh_store: MeshStore, replicas: tuple[Replica, Replica]
) -> None:
    await bound(mesh_store, *QUOTAS)
    answer = await replicas[0].submit(5)
    assert taken(answer) == [True, True, True, False, False]
    refused = answer[-1]
    assert isinstance(refused, FarhandError)
    assert (refused.status, refused.reason) == ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
    assert refused.metadata == {"worker_group": "g", "tenant": "acme", "limit": "3", "queued": "3"}
    assert "Tenant 'acme' has 3 jobs waiting in worker group 'g', and its quota there allows 3." in refused.message


async def test_everyone_s_line_binds_each_tenant_by_itself(
    mesh_store: MeshStore, replicas: tuple[Replica, Replica]
) -> None:
    await bound(mesh_store, Quota(EVERYONE, max_queued=1), Quota("free"))
    for tenant, expected in ("acme", [True, False]), ("main", [True, False]), ("free", [True, True]):
        assert taken(await replicas[0].submit(2, tenant=tenant)) == expected


async def test_a_repeated_request_is_answered_as_before_and_takes_no_room(
    mesh_store: MeshStore, replicas: tuple[Replica, Replica]
) -> None:
    await bound(mesh_store, *QUOTAS)
    first = await replicas[0].submit(2, id="first")
    again, other = (
        Placed(Submission((), "acme", id, b"hash"), (NewJob("g", "acme", SHELL, "W", 3, None, None, b"task"),) * count)
        for id, count in (("first", 2), ("other", 1))
    )
    connection = await replicas[1].hot[0].get()
    answers = await replicas[1].enqueue.write(connection, [again, again, other, other])
    assert answers[:2] == [first, first] and isinstance(answers[2], tuple) and taken(answers[2]) == [True]
    assert answers[3] == tuple(map(int, answers[2]))  # type: ignore[arg-type]
    assert await replicas[0].submit(2, id="first") == first  # also when the queue is full
    assert taken(await replicas[0].submit(id="late")) == [False]
    await mesh_store.connection.execute("UPDATE scheduler.worker_group SET quotas = '[]'")
    assert taken(await replicas[0].submit(id="late")) == [True]  # what was refused whole left no memory


async def test_a_lost_assignment_returns_to_its_place_whatever_the_quota(
    mesh_store: MeshStore, replicas: tuple[Replica, Replica]
) -> None:
    await bound(mesh_store, *QUOTAS)
    first, *_ = await mesh_store.jobs("g", 3, tenant="acme")
    lost = await mesh_store.a_session("g")
    assert [job.key for job in await mesh_store.claim("g", lost.id)] == [first]
    assert taken(await replicas[0].submit(2)) == [True, False]
    await change_session(mesh_store.connection, lost.id, None, SessionEvent.GOODBYE, WRITER, no_log)
    assert await mesh_store.counted() == (4, 0, 0) and taken(await replicas[0].submit()) == [False]
    session = await mesh_store.a_session("g")
    assert [job.key for job in await mesh_store.claim("g", session.id)] == [first]


async def test_where_no_quota_binds_nothing_is_locked_or_counted(
    mesh_store: MeshStore, replicas: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    names = ("lock_places_in_queues", "queued_of_tenants", "known_requests", "running_of_tenants")

    def note(query: Any) -> None:
        ran.append(query.query)

    one = replicas[0]
    for quotas, tenant in ((), "acme"), (QUOTAS, "main"), ([Quota("acme", max_running=1)], "acme"):
        await bound(mesh_store, *quotas)
        with (await one.hot[0].get()).query_logger(note):
            await one.submit(tenant=tenant, id=f"{len(quotas)}-{tenant}")
    await bound(mesh_store, Quota("acme", max_queued=1))
    one.streams.add(a_stream(await mesh_store.a_session("g")))
    with (await one.hot[1].get()).query_logger(note):
        await one.claim()
    assert await mesh_store.counted() == (0, 3, 0)
    assert ran and not {SQL[name] for name in names}.intersection(ran)
    assert await mesh_store.connection.fetch("SELECT FROM scheduler.place_in_queue") == []


# ── what runs ──


async def test_two_replicas_do_not_give_a_tenant_its_last_place_with_workers_twice(
    mesh_store: MeshStore, replicas: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    await bound(mesh_store, Quota("acme", max_running=1))
    for replica, type_ in zip(replicas, (SHELL, NOOP), strict=True):  # of one type both would want the same job
        stream = a_stream(await mesh_store.a_session("g"), credit=2)
        stream.task_types = frozenset({type_})
        replica.streams.add(stream)
        await replica.submit(type_=type_)
        await replica.submit(type_=type_, tenant="main")
    one, two = replicas
    assigning, begun = in_its_midst(mesh_store, assign, two.claim)
    monkeypatch.setattr(dispatching, "assign", assigning)
    await one.claim()
    await begun[0]
    rows = await mesh_store.connection.fetch(
        """SELECT tenant, task_type, l.key IS NOT NULL FROM scheduler.job j JOIN scheduler.lane n ON n.id = j.lane_id
           LEFT JOIN scheduler.live l USING (key) ORDER BY j.key"""
    )
    # What is behind the job that may not go passes it.
    assert [tuple(row) for row in rows] == [
        ("acme", SHELL, True),
        ("main", SHELL, True),
        ("acme", NOOP, False),
        ("main", NOOP, True),
    ]


async def test_a_tenant_at_its_limit_hides_nobody_behind_it_however_many_wait(
    mesh_store: MeshStore, replicas: tuple[Replica, Replica]
) -> None:
    await bound(mesh_store, Quota(EVERYONE, max_running=1))
    await mesh_store.jobs("g", 50, tenant="acme")
    others = [await mesh_store.a_job("g", tenant=tenant) for tenant in ("main", "beta")]
    replicas[0].streams.add(a_stream(await mesh_store.a_session("g"), credit=5))
    await replicas[0].claim()
    assert [await mesh_store.state(key) for key in others] == ["ASSIGNED", "ASSIGNED"]
    assert await mesh_store.counted() == (49, 3, 0)


async def test_a_limit_that_is_lowered_touches_nothing_and_an_end_makes_room(
    mesh_store: MeshStore, replicas: tuple[Replica, Replica]
) -> None:
    await bound(mesh_store, *QUOTAS)
    first, second, third = await mesh_store.jobs("g", 3, tenant="acme")
    session = await mesh_store.a_session("g", worker="w")
    claimed = {job.key: job for job in await mesh_store.claim("g", session.id, credit=3)}
    assert list(claimed) == [first, second]
    await bound(mesh_store, Quota("acme", max_running=1, max_queued=0))
    assert [await mesh_store.state(key) for key in (first, second, third)] == ["ASSIGNED", "ASSIGNED", "CREATED"]
    for key, then in (first, []), (second, [third]):
        await mesh_store.result(key, claimed[key].fence, "w")
        assert [job.key for job in await mesh_store.claim("g", session.id, credit=3)] == then


async def test_replicas_that_race_keep_to_both_limits(
    mesh_store: MeshStore, fresh_database: str, replicas: tuple[Replica, Replica]
) -> None:
    await bound(mesh_store, *QUOTAS)
    stores = [MeshStore(await connect(fresh_database, hot=True)) for _ in replicas]
    sessions = [await store.a_session("g", worker=f"w{number}") for number, store in enumerate(stores)]
    counts = "SELECT (SELECT count(*) FROM scheduler.queue), (SELECT count(*) FROM scheduler.live)"
    seen: list[tuple[int, int]] = []

    async def work(number: int) -> None:
        ended = 0
        while ended < 25:
            await replicas[number].submit(2)
            for job in await stores[number].claim("g", sessions[number].id, credit=2):
                ended += (await stores[number].result(job.key, job.fence, f"w{number}")).status == "RECORDED"

    working = [asyncio.create_task(work(number)) for number in range(2)]
    while not all(task.done() for task in working):
        seen.append(tuple(await mesh_store.connection.fetchrow(counts)))
    await asyncio.gather(*working)
    assert max(queued for queued, _ in seen) <= 3 and max(live for _, live in seen) <= 2
    assert await mesh_store.tally() == await mesh_store.counted()
    for store in stores:
        await store.connection.close()
