"""Executions are forgotten with their jobs, long after their end, and their jobs never before them."""

from collections.abc import AsyncIterator

import pytest

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


async def a_flow_revision(rows: Rows, revision: int) -> int:
    key: int = await rows.connection.fetchval(
        """INSERT INTO scheduler.flow_revision (tenant, namespace, flow_id, revision, digest, definition)
           VALUES ('main', 'company', 'flow', $1, '\\x', '{}') RETURNING key""",
        revision,
    )
    return key


async def an_execution(rows: Rows, flow: int, jobs: list[int | None], *, age: float | None) -> int:
    """An execution that ended `age` seconds ago, or has not, with a task run for each job."""
    key: int = await rows.connection.fetchval("SELECT nextval('scheduler.execution_key')")
    await rows.connection.execute(
        """INSERT INTO scheduler.execution (key, flow_key, tenant, namespace, flow_id, flow_revision, state, inputs,
               labels, created_at, ended_at, states, state_times)
           VALUES ($1, $2, 'main', 'company', 'flow', 1, $3, '{}', '{}', now() - interval '90 days',
               now() - make_interval(secs => $4), '{}', '{}')""",
        key,
        flow,
        "RUNNING" if age is None else "SUCCESS",
        age,
    )
    for number, job in enumerate(jobs):
        await rows.connection.execute(
            """INSERT INTO scheduler.task_run (key, execution_key, task_id, attempt, state, job_key, created_at)
               VALUES (nextval('scheduler.task_run_key'), $1, $2, 1, 'SUCCESS', $3, now())""",
            key,
            f"t{number}",
            job,
        )
    await rows.connection.execute("INSERT INTO scheduler.secret_input VALUES ($1, 'token', 'id', '\\x')", key)
    await rows.connection.execute(
        "INSERT INTO scheduler.execution_request VALUES ('main', $1, '\\x', $2)", f"r{key}", key
    )
    return key


async def left(rows: Rows, table: str, column: str = "key") -> list[int]:
    return [row[0] for row in await rows.connection.fetch(f"SELECT {column} FROM scheduler.{table} ORDER BY 1")]


async def test_an_execution_goes_after_the_retention_with_all_that_is_its(
    upkeep: Upkeep, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "JOBS", 2)
    lane = await rows.lane(await rows.group("gpu"))
    old_jobs = [await rows.done(lane, age=KEPT + DAY) for _ in range(6)]
    running_jobs = [await rows.done(lane, age=KEPT + DAY) for _ in range(2)]
    young_jobs = [await rows.done(lane, age=KEPT + DAY)]
    adhoc = await rows.done(lane, age=KEPT + DAY)
    gone, kept, unused = [await a_flow_revision(rows, number) for number in (1, 2, 3)]
    old = await an_execution(rows, gone, [*old_jobs, None], age=KEPT + HOUR)
    running = await an_execution(rows, kept, list(running_jobs), age=None)
    young = await an_execution(rows, kept, list(young_jobs), age=KEPT - HOUR)
    await upkeep.once()
    assert await left(rows, "execution") == [running, young]
    assert await left(rows, "execution_request", "execution_key") == [running, young]
    assert await left(rows, "secret_input", "execution_key") == [running, young]
    assert await left(rows, "job") == await left(rows, "done") == [*running_jobs, *young_jobs]
    assert await left(rows, "task_run", "job_key") == [*running_jobs, *young_jobs]
    assert await left(rows, "flow_revision") == [kept]
    assert old not in (running, young) and adhoc and unused


async def test_a_job_that_has_not_ended_keeps_its_execution(upkeep: Upkeep, rows: Rows) -> None:
    lane = await rows.lane(await rows.group("gpu"))
    waiting, ended = await rows.waiting(lane), await rows.done(lane, age=KEPT + DAY)
    execution = await an_execution(rows, await a_flow_revision(rows, 1), [waiting, ended], age=KEPT + HOUR)
    await upkeep.once()
    assert await left(rows, "execution") == [execution]
    assert await left(rows, "task_run", "job_key") == [waiting] == await left(rows, "job")
