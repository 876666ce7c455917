"""Jobs read back: their states, their last worker, pages of them."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.scheduler.core.job import FINAL, JobState
from farhand.scheduler.core.record import JobRecord
from farhand.scheduler.store import jobs
from farhand.scheduler.store.jobs import Page, list_jobs, read_jobs, read_lost
from tests.fixtures.job_histories import Histories
from tests.fixtures.scheduler_rows import Rows


async def one(reading: AsyncConnection, key: int, *, full: bool = False) -> JobRecord:
    return (await read_jobs(reading, [key], full=full))[key]


async def test_a_job_is_where_its_row_is(rows: Rows, histories: Histories, reading: AsyncConnection) -> None:
    group = await rows.group("gpu")
    lane, session = await rows.lane(group, tenant="acme"), await rows.session(group, worker="w1")
    keys = [await rows.waiting(lane) for _ in range(8)]
    for key, fence in zip(keys[1:], range(11, 18), strict=True):
        await histories.assign(key, session, fence=fence, started=key != keys[1], killing=key == keys[3])
    for key, state in zip(keys[4:], FINAL, strict=True):
        await histories.end(key, state)

    found = await read_jobs(reading, [*keys, 999], full=False)

    assert found.keys() == set(keys)
    assert [found[key].state for key in keys] == ["CREATED", "ASSIGNED", "RUNNING", "KILLING", *FINAL]
    assert [found[key].fence for key in keys] == [0, *range(11, 18)]
    assert [found[key].worker for key in keys] == ["", *["w1"] * 7]
    assert {(r.tenant, r.task_type, r.group_uid, r.group_key) for r in found.values()} == {
        ("acme", "a.Task", "u-gpu", "gpu")
    }
    waiting, assigned, running, killing, ended = (found[key] for key in keys[:5])
    assert waiting.assigned_at is None and assigned.assigned_at is not None
    assert assigned.started_at is None and running.started_at is not None
    assert running.kill_at is None and killing.kill_at is not None
    assert running.ended_at is None and ended.ended_at is not None
    assert ended.ended and (ended.result_fence, ended.run_us, ended.exit_code) == (14, 1_500_000, 0)
    assert (ended.reason, ended.message) == ("A_REASON", "A message.")
    assert all(record.read_at >= record.created_at for record in found.values())


async def test_only_a_full_read_brings_the_task(rows: Rows, histories: Histories, reading: AsyncConnection) -> None:
    lane = await rows.lane(await rows.group(""))
    key = await rows.waiting(lane, fallback="F")
    await histories.task(key, commands=["echo hi"])
    assert (await one(reading, key)).task == b""
    full = await one(reading, key, full=True)
    assert b"echo hi" in full.task
    assert (full.fallback, full.max_deliveries, full.outputs) == ("FAIL", 3, None)


async def test_a_job_that_waits_again_tells_whom_it_lost(
    rows: Rows, histories: Histories, reading: AsyncConnection
) -> None:
    group = await rows.group("")
    key = await rows.waiting(await rows.lane(group))
    for fence, worker in ((21, "w1"), (22, "w2")):
        session = await rows.session(group, worker=worker)
        await histories.assign(key, session, fence=fence)
        await histories.lose(key)

    record = await one(reading, key)
    assert (record.state, record.fence, record.worker, record.lost) == (JobState.CREATED, 22, "w2", 2)
    assert record.assigned_at is None and record.result_fence == 0
    lost = await read_lost(reading, key)
    assert [(one.fence, one.worker, one.reason) for one in lost] == [
        (21, "w1", "LEASE_EXPIRED"),
        (22, "w2", "LEASE_EXPIRED"),
    ]


async def test_a_job_that_was_lost_for_good_keeps_its_last_fence(
    rows: Rows, histories: Histories, reading: AsyncConnection
) -> None:
    group = await rows.group("")
    key = await rows.waiting(await rows.lane(group))
    await histories.assign(key, await rows.session(group, worker="w1"), fence=21)
    await histories.lose(key, again=False)
    record = await one(reading, key)
    assert (record.state, record.reason) == (JobState.FAILED, "WORKER_LOST")
    assert (record.fence, record.worker, record.result_fence) == (21, "w1", 0)
    assert record.assigned_at is not None


async def everything(
    reading: AsyncConnection, tenant: str, group: str | None, states: frozenset[JobState], size: int
) -> tuple[list[int], int]:
    """The keys of all pages, and how many pages there were."""
    keys: list[int] = []
    before, pages = None, 0
    while True:
        page: Page = await list_jobs(reading, tenant, group, states, before, size)
        assert len(page.records) <= size
        keys += [record.key for record in page.records]
        pages += 1
        before = page.next_before
        if before is None:
            return keys, pages


async def a_mixed_house(rows: Rows, histories: Histories) -> dict[str, list[int]]:
    """Three groups, two tenants, two types; jobs of all of them in turns."""
    made: dict[str, list[int]] = {"main": [], "acme": [], "gpu": [], "CREATED": [], "RUNNING": [], "FAILED": []}
    default, gpu = await rows.group(""), await rows.group("gpu")
    sessions = {default: await rows.session(default, worker="w1"), gpu: await rows.session(gpu, worker="w2")}
    lanes = [
        (default, "main", await rows.lane(default, "main")),
        (default, "main", await rows.lane(default, "main", "b.Task")),
        (gpu, "main", await rows.lane(gpu, "main")),
        (gpu, "acme", await rows.lane(gpu, "acme")),
    ]
    for number in range(48):
        group, tenant, lane = lanes[number % 4]
        key = await rows.waiting(lane)
        state = ("CREATED", "RUNNING", "FAILED")[number // 4 % 3]
        if state != "CREATED":
            await histories.assign(key, sessions[group], fence=1000 + number, started=True)
        if state == "FAILED":
            await histories.end(key, state)
        made[tenant].append(key)
        if tenant == "main":
            made[state].append(key)
            if group == gpu:
                made["gpu"].append(key)
    return made


@pytest.mark.parametrize("size", [1, 5, 36, 100])
async def test_pages_hold_every_job_once_newest_first(
    rows: Rows, histories: Histories, reading: AsyncConnection, size: int
) -> None:
    made = await a_mixed_house(rows, histories)
    for group, expected in ((None, made["main"]), ("u-gpu", made["gpu"])):
        keys, pages = await everything(reading, "main", group, frozenset(), size)
        assert keys == sorted(expected, reverse=True)
        assert pages == -(-len(expected) // size)
    assert (await everything(reading, "acme", None, frozenset(), size))[0] == sorted(made["acme"], reverse=True)
    assert (await everything(reading, "acme", "u-default", frozenset(), size))[0] == []


@pytest.mark.parametrize("window", [3, 5_000])
async def test_pages_of_some_states_hold_those_alone(
    rows: Rows, histories: Histories, reading: AsyncConnection, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await a_mixed_house(rows, histories)
    monkeypatch.setattr(jobs, "_LOOKED_AT", window)  # pages that end before they are full
    for wanted in (["CREATED"], ["RUNNING"], ["FAILED"], ["CREATED", "RUNNING"], ["RUNNING", "FAILED"]):
        states = frozenset(map(JobState, wanted))
        keys, _ = await everything(reading, "main", None, states, 2)
        assert keys == sorted((key for state in wanted for key in made[state]), reverse=True)
    assert (await everything(reading, "main", None, frozenset({JobState.KILLED}), 2))[0] == []


async def test_a_page_does_not_cost_more_among_many_jobs(rows: Rows, reading: AsyncConnection) -> None:
    group = await rows.group("")
    mine, other = await rows.lane(group, "main"), await rows.lane(group, "other")
    key = await rows.waiting(mine)
    await rows.connection.execute(
        """INSERT INTO scheduler.job (key, lane_id, fallback, max_deliveries, task)
           SELECT nextval('scheduler.job_key'), $1, 'W', 3, '' FROM generate_series(1, 50000)""",
        other,
    )
    await rows.connection.execute(
        "INSERT INTO scheduler.queue SELECT lane_id, key, 'W', 0 FROM scheduler.job WHERE lane_id = $1", other
    )
    await rows.connection.execute("ANALYZE")
    await rows.connection.execute("SELECT pg_stat_reset()")
    for states in (frozenset[JobState](), frozenset({JobState.CREATED}), frozenset({JobState.FAILED})):
        page = await list_jobs(reading, "main", None, states, None, 50)
        assert [record.key for record in page.records] == ([] if JobState.FAILED in states else [key])
    await reading.execute(text("SELECT pg_stat_force_next_flush()"))
    await reading.execute(text("SELECT 1"))
    scanned = await rows.connection.fetchval(
        """SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables
           WHERE relname IN ('job', 'queue', 'done')"""
    )
    assert 0 < scanned < 100
