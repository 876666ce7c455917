"""What is forgotten, and above all what is not."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from farhand.kernel.errors import Unavailable
from farhand.runtime.database import connect
from farhand.scheduler.loops import upkeep as module
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.loops.upkeep import Upkeep
from tests.fixtures.scheduler_rows import Rows

HOUR = 3600.0
DAY = 24 * HOUR
KEPT = 30 * DAY


@pytest.fixture
async def upkeep(rows: Rows) -> AsyncIterator[Upkeep]:
    connection = HotConnection(rows.url)
    yield Upkeep(connection, replica="here", retention=KEPT, pause=0)
    connection.drop()


async def lane_of(rows: Rows, key: str = "gpu") -> int:
    return await rows.lane(await rows.group(key))


async def request(rows: Rows, name: str, keys: list[int], *, age: float) -> None:
    await rows.connection.execute(
        """INSERT INTO scheduler.request (tenant, request_id, body_hash, keys, refusals, created_at)
           VALUES ('main', $1, '\\x', $2, '', now() - make_interval(secs => $3))""",
        name,
        keys,
        age,
    )


async def names(rows: Rows) -> set[str]:
    return {row["request_id"] for row in await rows.connection.fetch("SELECT request_id FROM scheduler.request")}


async def test_requests_are_remembered_until_a_day_after_the_end_of_all_their_jobs(upkeep: Upkeep, rows: Rows) -> None:
    lane = await lane_of(rows)
    session = await rows.session("u-gpu")
    old = await rows.done(lane, age=25 * HOUR, created=50 * DAY)
    fresh = await rows.done(lane, age=23 * HOUR, created=50 * DAY)
    waiting, live = await rows.waiting(lane), await rows.live(lane, session)
    await request(rows, "ended", [old], age=40 * DAY)
    await request(rows, "all refused", [0, 0], age=25 * HOUR)
    await request(rows, "ended and refused", [0, old, 0], age=2 * DAY)
    await request(rows, "its job is forgotten", [10**12], age=2 * DAY)
    await request(rows, "refused now", [0], age=23 * HOUR)
    await request(rows, "ended now", [fresh], age=40 * DAY)
    await request(rows, "one of two waits", [old, waiting], age=40 * DAY)
    await request(rows, "one of two runs", [live, old], age=40 * DAY)
    await upkeep.once()
    assert await names(rows) == {"refused now", "ended now", "one of two waits", "one of two runs"}


async def test_requests_are_walked_over_all_pages(upkeep: Upkeep, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGES", 1)
    await rows.connection.execute(
        """INSERT INTO scheduler.request (tenant, request_id, body_hash, keys, refusals, created_at)
           SELECT 'main', 'r' || n, '\\x', '{0}', repeat('x', 500), now() - interval '2 days'
           FROM generate_series(1, 100) AS n"""
    )
    await request(rows, "last", [0], age=0)
    await upkeep.once()
    assert await names(rows) == {"last"}


async def all_about(rows: Rows, key: int) -> set[str]:
    """The tables that know of a job."""
    tables = ("job", "done", "log_chunk", "lost_delivery")
    return {
        table
        for table in tables
        if await rows.connection.fetchval(f"SELECT EXISTS (SELECT FROM scheduler.{table} WHERE key = $1)", key)
    }


async def test_jobs_go_after_the_retention_with_all_that_is_theirs(
    upkeep: Upkeep, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "JOBS", 2)
    lane = await lane_of(rows)
    session = await rows.session("u-gpu")
    waiting = [await rows.waiting(lane)]
    old = [await rows.done(lane, age=KEPT + HOUR) for _ in range(5)]
    slow = await rows.done(lane, age=KEPT - HOUR, created=KEPT + DAY)
    old.append(await rows.done(lane, age=KEPT + HOUR))
    young = await rows.done(lane, age=KEPT - HOUR)
    for key in (*old, slow, young):
        await rows.connection.execute("INSERT INTO scheduler.log_chunk VALUES ($1, 1, 0, 1, '\\x')", key)
        await rows.connection.execute(
            "INSERT INTO scheduler.lost_delivery VALUES ($1, 1, $2, now(), now(), 'FENCED')", key, session
        )
    await upkeep.once()
    assert [await all_about(rows, key) for key in old] == [set()] * 6
    assert await all_about(rows, slow) == await all_about(rows, young) == {"job", "done", "log_chunk", "lost_delivery"}
    assert await all_about(rows, waiting[0]) == {"job"}


async def test_sessions_go_when_they_are_over_for_long_and_no_job_names_them(
    upkeep: Upkeep, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEYS", 2)
    lane = await lane_of(rows)

    async def session(name: str, state: str = "LOST", age: float = KEPT + HOUR) -> int:
        return await rows.session("u-gpu", worker=name, state=state, heartbeat_age=age)

    await session("lost")
    await session("stopped", "STOPPED")
    await session("recent", age=KEPT - HOUR)
    await session("silent", "DISCONNECTED")
    used, delivered, holds = await session("used"), await session("delivered"), await session("holds")
    for _ in range(5):
        await rows.done(lane)
    await rows.done(lane, session=used)
    await rows.done(lane)
    await rows.live(lane, holds)
    await rows.connection.execute(
        "INSERT INTO scheduler.lost_delivery VALUES ($1, 1, $2, now(), now(), 'FENCED')",
        await rows.waiting(lane),
        delivered,
    )
    await upkeep.once()
    left = {row["worker_id"] for row in await rows.connection.fetch("SELECT worker_id FROM scheduler.session")}
    assert left == {"recent", "silent", "used", "delivered", "holds"}


async def test_the_last_forgotten_job_frees_its_session(upkeep: Upkeep, rows: Rows) -> None:
    lane = await lane_of(rows)
    session = await rows.session("u-gpu", state="STOPPED", heartbeat_age=KEPT + DAY)
    await rows.done(lane, age=KEPT + HOUR, session=session)
    await upkeep.once()
    assert await rows.connection.fetchval("SELECT count(*) FROM scheduler.session") == 0


async def tally(rows: Rows, lane: int, writer: str, queued: int, live: int, ended: int) -> None:
    await rows.connection.execute(
        """INSERT INTO scheduler.tally AS t VALUES ($1, $2, $3, $4, $5) ON CONFLICT (lane_id, writer) DO UPDATE
           SET queued = t.queued + excluded.queued, live = t.live + excluded.live, ended = t.ended + excluded.ended""",
        lane,
        writer,
        queued,
        live,
        ended,
    )


async def writers(rows: Rows, lane: int) -> set[str]:
    found = await rows.connection.fetch("SELECT writer FROM scheduler.tally WHERE lane_id = $1", lane)
    return {row["writer"] for row in found}


async def test_counts_of_gone_schedulers_are_added_up_exactly(
    upkeep: Upkeep, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TALLIES", 3)
    first, second = await lane_of(rows), await lane_of(rows, "other")
    await rows.session("u-gpu", worker="w1", replica="alive")
    await rows.session("u-gpu", worker="w2", replica="gone", state="LOST")
    for lane in (first, second):
        await tally(rows, lane, "folded", 1, 1, 1)
        for replica in ("alive", "here", "gone", "forgotten"):
            await tally(rows, lane, f"{replica}/enqueue", 10, 0, 0)
            await tally(rows, lane, f"{replica}/claim", -7, 7, 0)
    before = [await rows.counted(lane) for lane in (first, second)]
    await upkeep.once()
    assert [await rows.counted(lane) for lane in (first, second)] == before == [(13, 29, 1)] * 2
    assert await writers(rows, first) == {"folded", "alive/enqueue", "alive/claim", "here/enqueue", "here/claim"}


async def test_counts_stay_exact_while_their_writer_lives_after_all(upkeep: Upkeep, rows: Rows) -> None:
    lane = await lane_of(rows)
    counting = await connect(rows.url)
    writer = Rows(rows.url, counting)

    async def count() -> None:
        for _ in range(50):
            await tally(writer, lane, "unseen/enqueue", 1, 0, 0)

    working = asyncio.create_task(count())
    while not working.done():
        await upkeep.once()
    await upkeep.once()
    assert await rows.counted(lane) == (50, 0, 0)
    assert await writers(rows, lane) == {"folded"}
    await counting.close()


async def test_a_retention_under_a_day_is_refused(rows: Rows) -> None:
    with pytest.raises(ValueError, match="24 hours"):
        Upkeep(HotConnection(rows.url), replica="here", retention=HOUR)


async def test_an_empty_database_needs_no_upkeep_and_a_lost_one_is_unavailable(upkeep: Upkeep, rows: Rows) -> None:
    await upkeep.once()
    await rows.cut_connections()
    # The loss may be noticed before the first statement, which then dials anew.
    try:
        await upkeep.once()
    except Unavailable:
        await upkeep.once()
