"""Steps of executions on real PostgreSQL: by two replicas at once, done twice, and with what fails in them."""

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from farhand.kernel.errors import Unavailable
from farhand.kernel.quotas import EVERYONE, Quota
from farhand.scheduler.core import preparation
from farhand.scheduler.core.execution_step import step as step_
from farhand.scheduler.loops import moving, stepping
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.loops.kills import KILLED
from farhand.scheduler.loops.stepping import Stepped
from farhand.scheduler.loops.steps import Steps
from farhand.scheduler.store import executions
from farhand.scheduler.store.executions import (
    MovedRow,
    add_due,
    kill_jobs,
    move_executions,
)
from farhand.scheduler.store.groups import end_waiting, settle_group
from farhand.scheduler.store.queue import give_back
from farhand.scheduler.store.tenant_quotas import write_quotas
from tests.fixtures.scheduler_rows import no_log
from tests.fixtures.scheduler_store import WRITER
from tests.fixtures.scheduler_with_flows import a_flow, indented, noop
from tests.fixtures.stepping_stage import Replica, Stage
from tests.tasks import NOOP


@pytest.fixture
async def session(stage: Stage) -> int:
    opened = await stage.store.a_session("g", worker="w")
    return opened.id


async def test_a_step_done_twice_changes_nothing(stage: Stage) -> None:
    key = await stage.execution(a_flow(noop("first") + noop("second")))
    assert await stage.due() == [key]
    assert (await stage.replica.step(key)).groups == {"g"}
    before = await stage.runs(key), await stage.jobs(key), await stage.store.counted()
    assert await stage.due() == [] and before[0] == [("first", 1, "CREATED")]
    again = await stage.replica.step(key)
    assert (again.groups, again.ended) == (set(), [])
    assert (await stage.runs(key), await stage.jobs(key), await stage.store.counted()) == before
    assert await stage.store.tally() == await stage.store.counted() == (1, 0, 0)


async def test_two_replicas_that_step_the_same_executions_begin_each_task_once(stage: Stage, session: int) -> None:
    tasks = "".join(indented(noop(f"t{number}")) for number in range(5))
    source = a_flow(f"  - id: all\n    type: io.kestra.plugin.core.flow.Parallel\n    tasks:\n{tasks}" + noop("last"))
    keys = [await stage.execution(source) for _ in range(6)]
    replicas = [stage.replica, await stage.another(), await stage.another()]

    async def steps(replica: Replica) -> None:
        while not all([await stage_over(replica, key) for key in keys]):
            await replica.step(*keys)

    async def stage_over(replica: Replica, key: int) -> bool:
        return bool(await replica.connection.fetchval("SELECT ended_at FROM scheduler.execution WHERE key = $1", key))

    working = [asyncio.create_task(steps(replica)) for replica in replicas]
    while not all(task.done() for task in working):
        for job in await stage.store.claim("g", session, credit=7):
            await stage.store.result(job.key, job.fence, "w")
        await asyncio.sleep(0)
    await asyncio.gather(*working)
    for key in keys:
        runs = await stage.runs(key)
        assert len(runs) == len({run[:2] for run in runs}) == 7
        assert {run[2] for run in runs} == {await stage.state(key)} == {"SUCCESS"}
    assert await stage.store.counted() == (0, 0, 36)
    assert await stage.store.tally() == (0, 0, 36)


async def test_what_one_replica_holds_another_passes_over_and_leaves_due(stage: Stage) -> None:
    key = await stage.execution(a_flow(noop("only")))
    other = await stage.another()
    async with stage.store.connection.transaction():
        await stage.store.connection.execute("SELECT FROM scheduler.execution WHERE key = $1 FOR UPDATE", key)
        assert (await other.step(key)).executions == []
    assert await stage.due() == [key]


async def test_an_end_that_commits_while_a_step_looks_stays_due(
    stage: Stage, session: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await stage.execution(a_flow(noop("only")))
    await stage.replica.step(key)
    [claimed] = await stage.store.claim("g", session)
    real = executions.read_runs
    ending = stage.store.connection.transaction()  # it began before the step, so its due row is older than that

    async def read_runs(connection: asyncpg.Connection, keys: Any) -> Any:
        runs = await real(connection, keys)
        await stage.store.result(claimed.key, claimed.fence, "w")
        await ending.commit()
        return runs

    await add_due(stage.store.connection, [(key, await stage.store.connection.fetchval("SELECT now()"))])
    await ending.start()
    await stage.store.connection.fetchval("SELECT now()")
    monkeypatch.setattr(stepping, "read_runs", read_runs)
    await stage.replica.step(key)
    assert await stage.state(key) == "RUNNING"
    assert await stage.due() == [key]


@pytest.mark.parametrize("end", ["result", "lost", "lost too often", "killed while it waits", "group not available"])
async def test_every_end_of_a_job_makes_its_execution_due(stage: Stage, session: int, end: str) -> None:
    key = await stage.execution(a_flow(noop("only")))
    await stage.replica.step(key)
    [job] = await stage.jobs(key)
    adhoc = await stage.store.a_job("g")
    assert await stage.due() == []
    connection = stage.store.connection
    if end in ("result", "lost", "lost too often"):
        claimed = {one.key: one for one in await stage.store.claim("g", session, credit=2)}
        if end == "lost too often":
            await connection.execute("UPDATE scheduler.live SET lost = 100")
        for one in (claimed[adhoc], claimed[job]):
            if end == "result":
                recorded = await stage.store.result(one.key, one.fence, "w")
                assert recorded.due == (one.key == job)
            else:
                async with connection.transaction():
                    await give_back(
                        connection, session, reason="TEST", writer=WRITER, encode_log=no_log, keys=[one.key]
                    )
            assert await stage.due() == ([key] if one.key == job else [])
    else:
        lanes = dict(await connection.fetch("SELECT key, lane_id FROM scheduler.queue"))
        assert await end_waiting(connection, [(lanes[adhoc], adhoc)], KILLED, WRITER) == [adhoc]
        assert await stage.due() == []
        if end == "group not available":
            await connection.execute("UPDATE scheduler.queue SET fallback = 'F'")
            await stage.store.connection.execute("UPDATE scheduler.worker_group SET paused = true")
            async with connection.transaction():
                assert await settle_group(connection, "g", WRITER, no_log) == [job]
        else:
            assert await end_waiting(connection, [(lanes[job], job)], KILLED, WRITER) == [job]
        assert await stage.due() == [key]


async def test_a_final_state_never_changes(stage: Stage) -> None:
    key = await stage.execution(a_flow(noop("only")))
    await stage.replica.step(key)
    connection = stage.store.connection
    await connection.execute("UPDATE scheduler.task_run SET state = 'SUCCESS'")
    await connection.execute("UPDATE scheduler.execution SET state = 'KILLED'")
    await move_executions(connection, [MovedRow(key, ["RUNNING"], "", None, None, 0)])
    assert await stage.state(key) == "KILLED"
    await add_due(connection, [(key, await connection.fetchval("SELECT now()"))])
    assert (await stage.replica.step(key)).executions == [key]
    assert await stage.state(key) == "KILLED" and await stage.runs(key) == [("only", 1, "SUCCESS")]


async def test_kills_find_each_job_wherever_it_is(stage: Stage, session: int) -> None:
    live, done = await stage.store.jobs("g", 2)
    claimed = await stage.store.claim("g", session, credit=2)
    await stage.store.result(done, claimed[1].fence, "w")
    waiting = await stage.store.a_job("g")
    connection = stage.store.connection
    async with connection.transaction():
        ended, marked = await kill_jobs(connection, [live, done, waiting, 10**9], 1000, KILLED, WRITER)
    assert (ended, [(mark.key, mark.fence) for mark in marked]) == ([waiting], [(live, claimed[0].fence)])
    assert [await stage.store.state(key) for key in (live, done, waiting)] == ["KILLING", "SUCCESS", "KILLED"]


async def test_a_group_that_shut_its_door_since_the_copy_was_read_gets_no_job(stage: Stage) -> None:
    key = await stage.execution(a_flow(noop("only")))
    await stage.store.connection.execute("UPDATE scheduler.worker_group SET allowed_tenants = '{other}'")
    assert (await stage.replica.step(key)).ask == {key}
    row = await stage.store.connection.fetchrow("SELECT state, reason, job_key, again_at FROM scheduler.task_run")
    assert (row["state"], row["reason"], row["job_key"]) == ("CREATED", "TENANT_NOT_ALLOWED", None) and row["again_at"]
    await stage.replica.step(key, asked=True)
    assert await stage.runs(key) == [("only", 1, "FAILED")] and await stage.state(key) == "FAILED"
    assert await stage.store.counted() == (0, 0, 0)


async def test_a_task_run_that_finds_no_room_in_its_queue_waits_outside_and_is_tried_again(
    stage: Stage, session: int
) -> None:
    connection = stage.store.connection
    await connection.execute(
        "UPDATE scheduler.worker_group SET quotas = $1", write_quotas([Quota(EVERYONE, max_queued=2)])
    )
    tasks = "".join(indented(noop(f"t{number}")) for number in range(4))
    source = a_flow(f"  - id: all\n    type: io.kestra.plugin.core.flow.Parallel\n    tasks:\n{tasks}")
    first, second = [await stage.execution(source) for _ in range(2)]
    stepped = await stage.replica.step(first, second)
    assert stepped.ask == set() and stepped.mistakes == []
    assert await stage.store.tally() == await stage.store.counted() == (2, 0, 0)
    assert [len(await stage.jobs(key)) for key in (first, second)] == [2, 0]
    assert await stage.state(second) == "RUNNING" and {run[2] for run in (await stage.runs(second))[1:]} == {"CREATED"}
    row = await connection.fetchrow(
        "SELECT * FROM scheduler.task_run WHERE execution_key = $1 AND task_id = 't3'", first
    )
    assert (row["reason"], row["job_key"]) == ("QUOTA_EXCEEDED", None) and row["again_at"]
    assert "has 2 jobs waiting in worker group 'g', and its quota there allows 2." in row["message"]
    assert "tried again every 2 seconds" in row["message"]

    await stage.replica.step(first, second)  # too early
    assert await stage.store.counted() == (2, 0, 0)
    assert await connection.fetchval("SELECT count(*) FROM scheduler.step_due WHERE due_at > now()") == 2
    await connection.execute("UPDATE scheduler.task_run SET again_at = now() WHERE again_at IS NOT NULL")
    [claimed] = await stage.store.claim("g", session)
    await stage.store.result(claimed.key, claimed.fence, "w")
    await stage.replica.step(first, second)
    assert [len(await stage.jobs(key)) for key in (first, second)] == [3, 0]

    # It need not wait for a place in order to be killed.
    await connection.execute("UPDATE scheduler.execution SET kill_at = now() WHERE key = $1", second)
    await stage.replica.step(second)
    assert await stage.state(second) == "KILLED" and {run[2] for run in await stage.runs(second)} == {"KILLED"}


class Nobody:
    """No registry, and nobody who listens."""

    def __init__(self) -> None:
        self.told: list[Stepped] = []

    async def catch_up(self) -> None:
        raise Unavailable("away")

    def stepped(self, stepped: Stepped) -> None:
        self.told.append(stepped)


async def test_outputs_that_no_scheduler_should_hold_at_once_are_not_even_read(
    stage: Stage, session: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that names all of them is refused; several that fit by themselves are prepared in portions."""
    monkeypatch.setattr(preparation, "NAMED_OUTPUTS_LIMIT", 100)
    monkeypatch.setattr(stepping, "NAMED_OUTPUTS_LIMIT", 100)
    read: list[int] = []
    real = executions.read_outputs

    async def counted(connection: asyncpg.Connection, jobs: Sequence[int]) -> dict[int, bytes]:
        found = await real(connection, jobs)
        read.append(sum(map(len, found.values())))
        return found

    monkeypatch.setattr(stepping, "read_outputs", counted)
    fits, too_much = (
        noop("c", 'payload: "{{ outputs.a.x }}"'),
        noop("c", 'payload: "{{ outputs.a.x }} {{ outputs.b.x }}"'),
    )
    both = noop("a") + noop("b")
    flows = [a_flow(both + last, id=f"flow{number}") for number, last in enumerate((fits, fits, too_much))]
    keys = [await stage.execution(flow) for flow in flows]
    await stage.replica.step(*keys)
    for _ in "ab":
        for claimed in await stage.store.claim("g", session, credit=3):
            await stage.store.result(claimed.key, claimed.fence, "w")
            await stage.store.connection.execute("UPDATE scheduler.done SET outputs = $1", b'{"x": "%s"}' % (b"x" * 60))
        await stage.replica.step(*keys)
    assert read == [69, 69]
    assert [(await stage.runs(key))[-1] for key in keys] == [
        ("c", 1, "CREATED"),
        ("c", 1, "CREATED"),
        ("c", 1, "FAILED"),
    ]
    message = await stage.store.connection.fetchval("SELECT message FROM scheduler.execution WHERE key = $1", keys[2])
    assert "outputs of 2 tasks with 138 bytes together; at most 100 are allowed" in message


async def test_an_execution_whose_step_raises_ends_by_itself_and_says_which_line_of_the_log_tells_more(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = await stage.execution(a_flow(noop("good"))), await stage.execution(a_flow(noop("bad")))
    real = step_

    def step(flow: Any, *arguments: Any, **more: Any) -> Any:
        if flow.tasks[0].id == "bad":
            raise RuntimeError("a mistake of ours")
        return real(flow, *arguments, **more)

    monkeypatch.setattr(moving, "step", step)
    await stage.replica.step(good, bad)
    assert [await stage.state(key) for key in (good, bad)] == ["RUNNING", "FAILED"]
    message = await stage.store.connection.fetchval("SELECT message FROM scheduler.execution WHERE key = $1", bad)
    [record] = [record for record in caplog.records if record.exc_info]
    assert record.__dict__["id"] in message and "a mistake of ours" in caplog.text


async def test_what_the_database_refuses_is_halved_until_the_bad_one_stands_alone(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [await stage.execution(a_flow(noop("only"))) for _ in range(7)]
    bad, real = keys[3], executions.insert_runs

    async def insert_runs(connection: asyncpg.Connection, rows: Any) -> None:
        if any(row.execution_key == bad for row in rows):
            await connection.execute("SELECT 1 / 0")
        await real(connection, rows)

    monkeypatch.setattr(stepping, "insert_runs", insert_runs)
    hot, nobody = HotConnection(stage.url), Nobody()
    steps = Steps(hot, stage.replica.stepping, nobody, nobody)
    while await steps.once():
        pass
    await hot.close()
    assert [await stage.state(key) for key in keys] == ["FAILED" if key == bad else "RUNNING" for key in keys]
    assert await stage.due() == []


async def test_what_can_not_even_be_ended_is_put_off(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = await stage.execution(a_flow(noop("good"))), await stage.execution(a_flow(noop("bad")))
    real = executions.move_executions

    async def move(connection: asyncpg.Connection, rows: Any) -> None:
        if any(row.key == bad for row in rows):
            await connection.execute("SELECT 1 / 0")
        await real(connection, rows)

    monkeypatch.setattr(stepping, "move_executions", move)
    hot, nobody = HotConnection(stage.url), Nobody()
    steps = Steps(hot, stage.replica.stepping, nobody, nobody)
    while await steps.once():
        pass
    await hot.close()
    assert [await stage.state(key) for key in (good, bad)] == ["RUNNING", "CREATED"]
    assert await stage.due() == []  # for a while


async def test_lanes_are_made_outside_of_the_transaction(stage: Stage) -> None:
    key = await stage.execution(a_flow(noop("only")))
    await stage.replica.step(key)
    lanes = await stage.store.connection.fetch("SELECT group_uid, tenant, task_type FROM scheduler.lane")
    assert [tuple(lane) for lane in lanes] == [("g", "main", NOOP)]
