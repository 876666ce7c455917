"""Figures of groups, places in the queue, and the workers that could take a job."""

from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.scheduler.core.explain import EXACT_POSITIONS, GroupFigures
from farhand.scheduler.store.figures import read_active_workers, read_figures, read_position
from tests.fixtures.job_histories import Histories
from tests.fixtures.scheduler_rows import Rows


async def figures(reading: AsyncConnection, uid: str) -> GroupFigures:
    (found,) = await read_figures(reading, [uid])
    return found


async def test_a_group_without_workers_and_jobs_has_figures_too(rows: Rows, reading: AsyncConnection) -> None:
    await rows.group("gpu")
    assert await figures(reading, "u-gpu") == GroupFigures("u-gpu", "gpu", 0, 0, 0, 0, 0, None, paused=False)


async def test_jobs_are_counted_over_all_lanes_and_writers(rows: Rows, reading: AsyncConnection) -> None:
    gpu, other = await rows.group("gpu"), await rows.group("other")
    session = await rows.session(gpu)
    lanes = [await rows.lane(gpu), await rows.lane(gpu, "acme"), await rows.lane(gpu, task_type="b.Task")]
    for lane in lanes:
        await rows.waiting(lane)
        await rows.live(lane, session)
        await rows.done(lane)
    await rows.waiting(lanes[0])
    await rows.waiting(await rows.lane(other))
    await rows.connection.execute("INSERT INTO scheduler.tally VALUES ($1, 'another replica', -1, 1, 0)", lanes[0])

    found = await figures(reading, gpu)
    assert (found.queued, found.running, found.ended) == (3, 4, 3)


async def test_the_oldest_is_the_oldest_head_of_all_lanes(rows: Rows, reading: AsyncConnection) -> None:
    gpu = await rows.group("gpu")
    for age in (5.0, 300.0, 60.0):
        lane = await rows.lane(gpu, tenant=f"t{age:.0f}")
        for key_age in (age, 1.0):
            key = await rows.job(lane, age=key_age)
            await rows.connection.execute("INSERT INTO scheduler.queue VALUES ($1, $2, 'W', 0)", lane, key)
    oldest = (await figures(reading, gpu)).oldest_wait
    assert oldest is not None and 299 < oldest < 360


async def test_workers_count_while_they_are_fresh_and_do_not_drain(rows: Rows, reading: AsyncConnection) -> None:
    gpu = await rows.group("gpu", paused=True)
    await rows.session(gpu, worker="a", heartbeat_age=14)
    await rows.session(gpu, worker="b", heartbeat_age=1, state="DISCONNECTED")
    await rows.session(gpu, worker="c", heartbeat_age=16)
    await rows.session(gpu, worker="d", state="DRAINING", draining=True)
    await rows.session(gpu, worker="e", state="DISCONNECTED", draining=True)
    await rows.session(gpu, worker="f", state="LOST")
    await rows.session(gpu, worker="g", state="STOPPED")
    await rows.session(await rows.group("other"), worker="h")

    found = await figures(reading, gpu)
    assert (found.active_workers, found.slots, found.paused) == (2, 8, True)
    workers = await read_active_workers(reading, gpu)
    assert [(worker.id, worker.connected) for worker in workers] == [("a", True), ("b", False)]


async def test_an_active_worker_tells_what_it_may_take_and_what_it_has(
    rows: Rows, histories: Histories, reading: AsyncConnection
) -> None:
    gpu = await rows.group("gpu")
    lane, session = await rows.lane(gpu), await rows.session(gpu)
    for fence in (1, 2):
        await histories.assign(await rows.waiting(lane), session, fence=fence)
    await rows.connection.execute("UPDATE scheduler.session SET tenants = '{acme}'")
    (worker,) = await read_active_workers(reading, gpu)
    assert (worker.slots, worker.held) == (4, 2)
    assert (worker.task_types, worker.tenants) == (frozenset({"a.Task", "b.Task"}), frozenset({"acme"}))


async def test_all_groups_are_listed_by_key_less_those_that_are_gone(rows: Rows, reading: AsyncConnection) -> None:
    for key in ("b", "", "a", "B"):
        await rows.group(key)
    await rows.group("gone", gone=True)
    assert [found.key for found in await read_figures(reading)] == ["", "B", "a", "b"]
    assert (await figures(reading, "u-gone")).gone


async def test_a_place_counts_all_lanes_of_the_group(rows: Rows, reading: AsyncConnection) -> None:
    gpu, other = await rows.group("gpu"), await rows.group("other")
    lanes = [await rows.lane(gpu), await rows.lane(gpu, "acme"), await rows.lane(other)]
    keys = [await rows.waiting(lanes[number % 3]) for number in range(9)]
    places = [await read_position(reading, gpu, key) for number, key in enumerate(keys) if number % 3 < 2]
    assert places == [1, 2, 3, 4, 5, 6]


async def test_a_place_is_exact_up_to_ten_thousand(rows: Rows, reading: AsyncConnection) -> None:
    gpu = await rows.group("gpu")
    lanes = [await rows.lane(gpu), await rows.lane(gpu, "acme")]
    await rows.connection.execute(
        "INSERT INTO scheduler.queue SELECT ($1::int[])[1 + key % 2], key, 'W', 0 FROM generate_series(1, 10500) key",
        lanes,
    )
    assert [await read_position(reading, gpu, key) for key in (9_999, 10_000, 10_001, 10_002, 10_500)] == [
        9_999,
        10_000,
        10_001,
        10_001,
        10_001,
    ]
    assert EXACT_POSITIONS == 10_000
