"""Evaluations of polling triggers on real PostgreSQL: one at a time, and none of their outcomes lost or taken twice."""

import asyncio
import json
import logging

import asyncpg
import pytest

from farhand.kernel.quotas import Quota
from farhand.scheduler.core.declared import Declared, Group, Tenant
from farhand.scheduler.loops.kills import KILLED
from farhand.scheduler.store.executions import MovedRow, kill_jobs, move_executions
from farhand.scheduler.store.groups import settle_group
from farhand.scheduler.store.queue import give_back
from farhand.scheduler.store.tenant_quotas import write_quotas
from farhand.scheduler.store.upkeep import read_ended_jobs
from tests.fixtures.polling_stage import PollingStage
from tests.fixtures.scheduler_rows import no_log
from tests.fixtures.scheduler_store import WRITER

FIRED = {"fired": True, "variables": {"files": [1]}, "state": {"seen": 1}, "message": "1 file"}
NOTHING = {"fired": False, "state": {"seen": 0}}


async def test_a_new_trigger_is_evaluated_at_once_in_its_group_with_what_it_needs(polling_stage: PollingStage) -> None:
    key = await polling_stage.trigger("interval: PT1H, timeout: PT9S, workerGroup: {key: other}")
    assert await polling_stage.look()
    row = await polling_stage.row(key)
    assert (row["next_at"] - row["last_at"]).total_seconds() == 3600
    task = await polling_stage.store.connection.fetchval(
        "SELECT task FROM scheduler.job WHERE key = $1", row["job_key"]
    )
    type_name, properties, context, timeout = json.loads(task)
    assert (type_name, properties, timeout) == (row["type"], {"uri": "http://{{ vars.a }}"}, 9)
    assert context == {"vars": {"a": "b"}, "trigger": {"id": "t", "type": row["type"], "state": None}}
    assert {group for one in polling_stage.told.evaluated for group in one.groups} == {"other"}
    assert not await polling_stage.look()


async def test_what_an_evaluation_saw_starts_one_execution_and_is_kept_with_it(polling_stage: PollingStage) -> None:
    key = await polling_stage.trigger(
        "inputs: {n: '{{ trigger.files[0] }}'}, allowConcurrent: true", more="inputs: [{id: n, type: INT}]"
    )
    job = await polling_stage.evaluated(key, FIRED)
    (execution,) = await polling_stage.executions()
    assert json.loads(execution["trigger"]) == {"files": [1]} and json.loads(execution["inputs"]) == {"n": 1}
    assert (execution["trigger_key"], execution["evaluation_job_key"]) == (key, job)
    assert polling_stage.told.started == [execution["key"]]
    row = await polling_stage.row(key)
    assert (row["job_key"], row["last_job_key"], row["execution_key"]) == (None, job, execution["key"])
    assert (row["result"], row["message"], json.loads(row["remembered"])) == ("FIRED", "1 file", {"seen": 1})
    await polling_stage.comes(key)
    await polling_stage.look()
    task = (await polling_stage.claim()).task
    assert json.loads(task)[2]["trigger"]["state"] == {"seen": 1}
    assert len(await polling_stage.executions()) == 1


async def test_two_replicas_that_look_at_the_same_triggers_start_each_execution_once(
    polling_stage: PollingStage,
) -> None:
    for number in range(8):
        await polling_stage.trigger("interval: PT1H", flow=f"f{number}")
    loops = [polling_stage.triggers, await polling_stage.another(), await polling_stage.another()]

    async def looks() -> None:
        while any(await asyncio.gather(*(loop.once() for loop in loops))):
            pass

    await looks()
    claimed = await polling_stage.store.claim("g", polling_stage.session, credit=100)
    assert len(claimed) == 8

    async def reports() -> None:
        for job in claimed:
            await polling_stage.report(job, FIRED)

    await asyncio.gather(looks(), reports())
    await looks()
    executions = await polling_stage.executions()
    assert sorted(execution["evaluation_job_key"] for execution in executions) == sorted(job.key for job in claimed)
    assert len(executions) == 8


@pytest.mark.parametrize("point", ["triggers locked", "evaluations queued", "ticks written", "ticks committed"])
async def test_a_replica_that_dies_at_any_point_of_a_look_loses_nothing_and_does_nothing_twice(
    polling_stage: PollingStage, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(BaseException):
        pass

    from farhand.scheduler.loops import evaluations, triggers

    dying = [False]

    def reach(name: str) -> None:
        if dying[0] and name == point:
            dying[0] = False
            raise Died

    for module in (triggers, evaluations):
        monkeypatch.setattr(module, "reach", reach)
    key = await polling_stage.trigger("interval: PT1H")
    for outputs in (None, FIRED):
        if outputs is not None:
            await polling_stage.report(await polling_stage.claim(), outputs)
        dying[0] = True
        with pytest.raises(Died):
            await polling_stage.look()
            raise Died  # nothing was queued in this look
        dying[0] = False
        polling_stage.triggers._connection.drop()
        await polling_stage.look()
    assert len(await polling_stage.executions()) == 1
    assert (await polling_stage.row(key))["job_key"] is None
    assert await polling_stage.store.counted() == (0, 0, 1)


@pytest.mark.parametrize("end", ["result", "lost too often", "killed while it waits", "no worker", "killed"])
async def test_whatever_ends_an_evaluation_makes_its_trigger_due_in_the_same_statement(
    polling_stage: PollingStage, end: str
) -> None:
    store = polling_stage.store
    key = await polling_stage.trigger("interval: PT1H, workerGroup: {fallback: FAIL}")
    await polling_stage.look()
    job = await polling_stage.job_key(key)
    if end == "result":
        await polling_stage.report(await polling_stage.claim(), state="FAILED", reason="TIMEOUT", message="too long")
        wanted = ("FAILED", "too long (TIMEOUT)")
    elif end == "lost too often":
        for _ in range(3):
            assert await polling_stage.job_key(key) == job
            await polling_stage.claim()
            await give_back(store.connection, polling_stage.session, reason="x", writer=WRITER, encode_log=no_log)
        wanted = ("FAILED", "Its worker was lost 3 times, which is as often as max_deliveries allows. (WORKER_LOST)")
    elif end == "no worker":
        await store.connection.execute("UPDATE scheduler.session SET draining = true")
        async with store.connection.transaction():
            assert await settle_group(store.connection, "g", WRITER, no_log) == [job]
        await store.connection.execute("UPDATE scheduler.session SET draining = false")
        wanted = ("SKIPPED", "Worker group g has no available worker, and the job's fallback is FAIL.")
    elif end == "killed while it waits":
        await kill_jobs(store.connection, [job], 1000, KILLED, WRITER)
        wanted = ("SKIPPED", "Its evaluation was killed.")
    else:
        claimed = await polling_stage.claim()
        await kill_jobs(store.connection, [job], 1000, KILLED, WRITER)
        await polling_stage.report(claimed, FIRED)
        wanted = ("SKIPPED", "Its evaluation was killed.")
    assert await polling_stage.look()
    assert await polling_stage.told_of(key) == wanted
    row = await polling_stage.row(key)
    assert row["job_key"] is None and row["next_at"] is not None
    assert await polling_stage.executions() == []
    assert await polling_stage.evaluated(key, NOTHING) > job
    assert await polling_stage.told_of(key) == ("NOTHING", None)


@pytest.mark.parametrize(("fallback", "level"), [("FAIL", logging.ERROR), ("CANCEL", logging.INFO)])
async def test_a_group_without_workers_skips_the_evaluation_at_once(
    polling_stage: PollingStage, fallback: str, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    key = await polling_stage.trigger(f"interval: PT1H, workerGroup: {{key: other, fallback: {fallback}}}")
    await polling_stage.look()
    message = f"Worker group other has no available worker, and the job's fallback is {fallback}."
    assert await polling_stage.told_of(key) == ("SKIPPED", message)
    (record,) = [record for record in caplog.records if record.getMessage() == "an evaluation of a trigger was skipped"]
    assert record.levelno == level and vars(record)["trigger"] == "main/n/f/t"
    row = await polling_stage.row(key)
    assert row["job_key"] is None and (row["next_at"] - row["last_at"]).total_seconds() == 3600
    assert not await polling_stage.look()


async def test_one_that_waits_for_a_worker_is_the_only_one_and_is_given_up_when_it_may_wait_no_longer(
    polling_stage: PollingStage,
) -> None:
    key = await polling_stage.trigger("interval: PT1S, workerGroup: {key: other, timeout: PT1M}")
    await polling_stage.look()
    job = await polling_stage.job_key(key)
    for _ in range(3):
        await polling_stage.comes(key)
        await polling_stage.look()
    assert await polling_stage.job_key(key) == job and (await polling_stage.store.counted())[0] == 1
    await polling_stage.store.connection.execute("UPDATE scheduler.trigger SET last_at = now() - interval '2 minutes'")
    await polling_stage.comes(key)
    await polling_stage.triggers.once()
    assert await polling_stage.store.state(job) == "FAILED"
    await polling_stage.triggers.once()
    told = ("SKIPPED", "No worker took the evaluation within 1m (workerGroup.timeout).")
    assert await polling_stage.told_of(key) == told


async def test_none_begins_while_the_last_execution_runs_and_its_end_lets_the_next_one_begin(
    polling_stage: PollingStage,
) -> None:
    key = await polling_stage.trigger("interval: PT1M")
    await polling_stage.evaluated(key, FIRED)
    await polling_stage.comes(key)
    await polling_stage.look()
    assert await polling_stage.told_of(key) == ("SKIPPED", "Its last execution still runs.")
    assert (await polling_stage.row(key))["job_key"] is None
    await ends(polling_stage, "SUCCESS")
    assert await polling_stage.look()
    assert (await polling_stage.row(key))["job_key"] is not None


async def test_unless_that_is_allowed(polling_stage: PollingStage) -> None:
    key = await polling_stage.trigger("interval: PT1M, allowConcurrent: true")
    await polling_stage.evaluated(key, FIRED)
    await polling_stage.evaluated(key, FIRED)
    assert len(await polling_stage.executions()) == 2


async def ends(stage: PollingStage, state: str) -> None:
    connection = stage.store.connection
    now = await connection.fetchval("SELECT now()")
    (execution,) = [each for each in await stage.executions() if each["ended_at"] is None]
    await move_executions(connection, [MovedRow(execution["key"], [state], "", None, now, 0)])


async def test_an_execution_that_ends_as_the_definition_says_disables_the_trigger(polling_stage: PollingStage) -> None:
    key = await polling_stage.trigger("interval: PT1M, stopAfter: [FAILED, KILLED]")
    await polling_stage.evaluated(key, FIRED)
    await ends(polling_stage, "SUCCESS")
    await polling_stage.evaluated(key, FIRED)
    await ends(polling_stage, "FAILED")
    await polling_stage.look()
    row = await polling_stage.row(key)
    assert (row["disabled_by"], row["next_at"]) == ("STOP_AFTER", None)
    assert row["message"] == "It was disabled after an execution of it ended FAILED (stopAfter). Enable it to go on."


@pytest.mark.parametrize("where", ["waits", "runs", "ended"])
async def test_an_evaluation_of_another_definition_is_ended_and_does_not_count(
    polling_stage: PollingStage, where: str
) -> None:
    key = await polling_stage.trigger("interval: PT1H")
    await polling_stage.look()
    job = await polling_stage.job_key(key)
    claimed = None if where == "waits" else await polling_stage.claim()
    if where == "ended":
        assert claimed is not None
        await polling_stage.report(claimed, FIRED)
    await polling_stage.save("interval: PT2H", revision=2)
    await polling_stage.look()
    if where == "runs":
        assert claimed is not None
        assert [kill.key for told in polling_stage.told.evaluated for kill in told.killed] == [job]
        await polling_stage.report(claimed, FIRED)
        await polling_stage.look()
    assert await polling_stage.job_key(key) > job
    assert await polling_stage.executions() == []
    assert (await polling_stage.row(key))["remembered"] is None


async def test_a_revision_that_has_the_trigger_as_it_was_lets_its_evaluation_go_on(polling_stage: PollingStage) -> None:
    key = await polling_stage.trigger("interval: PT1H")
    await polling_stage.look()
    await polling_stage.save("interval: PT1H", revision=2, more="description: other")
    await polling_stage.look()
    await polling_stage.report(await polling_stage.claim(), FIRED)
    await polling_stage.look()
    (execution,) = await polling_stage.executions()
    assert (execution["flow_revision"], (await polling_stage.row(key))["result"]) == (2, "FIRED")


async def test_the_evaluation_of_a_trigger_that_is_no_more_is_ended(polling_stage: PollingStage) -> None:
    await polling_stage.trigger("interval: PT1H")
    await polling_stage.look()
    claimed = await polling_stage.claim()
    await polling_stage.trigger("workerGroup: {key: other}", flow="waits")
    await polling_stage.look()
    for flow in ("f", "waits"):
        await polling_stage.save("", revision=2, flow=flow)
    await polling_stage.look()
    assert await polling_stage.store.state(claimed.key) == "KILLING"
    assert (await polling_stage.store.counted())[0] == 0
    await polling_stage.report(claimed, FIRED)
    assert not await polling_stage.look() and await polling_stage.executions() == []


async def test_an_execution_that_is_refused_leaves_the_state_and_comes_again(polling_stage: PollingStage) -> None:
    key = await polling_stage.trigger("inputs: {n: '{{ trigger.count }}'}", more="inputs: [{id: n, type: INT}]")
    await polling_stage.evaluated(key, NOTHING)
    await polling_stage.evaluated(key, {**FIRED, "variables": {"count": "many"}})
    result, message = await polling_stage.told_of(key)
    assert (result, message) == ("FAILED", "It was not started: inputs.n must be a whole number, not 'many'")
    assert json.loads((await polling_stage.row(key))["remembered"]) == {"seen": 0}
    await polling_stage.evaluated(key, {**FIRED, "variables": {"count": 5}})
    assert len(await polling_stage.executions()) == 1


@pytest.mark.parametrize(
    ("trigger", "message"),
    [
        ("workerGroup: {key: '{{ vars.a }}'}", "There is no worker group 'b'"),
        ("workerGroup: {key: '{{ vars.b }}'}", "workerGroup.key (from the trigger): "),
        (f"body: '{'x' * 300_000}'", "The task has 300"),
    ],
)
async def test_what_cant_be_queued_is_told_on_the_trigger_and_tried_again(
    polling_stage: PollingStage, trigger: str, message: str
) -> None:
    key = await polling_stage.trigger(f"interval: PT1H, {trigger}")
    await polling_stage.look()
    result, told = await polling_stage.told_of(key)
    assert result == "FAILED" and told is not None and told.startswith(message)
    row = await polling_stage.row(key)
    assert row["job_key"] is None and row["next_at"] is not None and not await polling_stage.look()


async def test_a_group_that_is_gone_forbidden_or_full_is_told_and_the_next_interval_tries_again(
    polling_stage: PollingStage,
) -> None:
    key = await polling_stage.trigger("interval: PT1H")
    connection = polling_stage.store.connection
    await connection.execute("UPDATE scheduler.worker_group SET allowed_tenants = '{else}' WHERE uid = 'g'")
    await polling_stage.look()
    assert "does not allow" in str((await polling_stage.told_of(key))[1])
    quotas = write_quotas([Quota("main", None, 0)])
    await connection.execute(
        "UPDATE scheduler.worker_group SET allowed_tenants = '{}', quotas = $1 WHERE uid = 'g'", quotas
    )
    await polling_stage.comes(key)
    await polling_stage.look()
    assert (await polling_stage.told_of(key))[0] == "FAILED"
    await connection.execute("UPDATE scheduler.worker_group SET quotas = '[]' WHERE uid = 'g'")
    await polling_stage.evaluated(key, NOTHING)
    assert await polling_stage.told_of(key) == ("NOTHING", None)
    polling_stage.declared[0] = Declared.of(2, [Tenant("main")], [], [Group("other", "other")])
    await polling_stage.comes(key)
    await polling_stage.look()
    assert (await polling_stage.told_of(key))[0] == "FAILED"


async def test_evaluations_that_started_nothing_are_forgotten_with_the_next_one_and_others_are_kept(
    polling_stage: PollingStage,
) -> None:
    key = await polling_stage.trigger("interval: PT1H, allowConcurrent: true")
    connection = polling_stage.store.connection
    jobs = [await polling_stage.evaluated(key, outputs) for outputs in (NOTHING, FIRED, NOTHING, NOTHING)]
    left = {row["key"] for row in await connection.fetch("SELECT key FROM scheduler.job")}
    assert left == {jobs[1], jobs[3]}
    assert {row["key"] for row in await connection.fetch("SELECT key FROM scheduler.done")} == left
    old = await read_ended_jobs(connection, after=0, limit=10, age=-1.0)
    assert old.old == [jobs[3]]  # the other's files are its execution's


async def test_hostile_outputs_harm_no_other_trigger_of_the_batch(polling_stage: PollingStage) -> None:
    good = await polling_stage.trigger(flow="good")
    bad = await polling_stage.trigger(flow="bad")
    await polling_stage.look()
    for claimed in await polling_stage.store.claim("g", polling_stage.session, credit=10):
        hostile = {"fired": True, "variables": {"a": "\0"}, "state": {"b": "\0"}, "message": "\0" * 10_000}
        await polling_stage.report(claimed, hostile if claimed.key == await polling_stage.job_key(bad) else FIRED)
    await polling_stage.look()
    assert (await polling_stage.row(good))["result"] == "FIRED"
    row = await polling_stage.row(bad)
    assert row["job_key"] is None and len(row["message"]) == 1000


async def test_no_evaluation_starts_two_executions_by_the_databases_word(polling_stage: PollingStage) -> None:
    key = await polling_stage.trigger()
    job = await polling_stage.evaluated(key, FIRED)
    with pytest.raises(asyncpg.UniqueViolationError, match="execution_of_evaluation"):
        await polling_stage.store.connection.execute(
            """INSERT INTO scheduler.execution (key, flow_key, tenant, namespace, flow_id, flow_revision, state, inputs,
                   labels, created_at, states, state_times, evaluation_job_key)
               SELECT key + 1, flow_key, tenant, namespace, flow_id, flow_revision, state, inputs, labels, created_at,
                   states, state_times, $1 FROM scheduler.execution""",
            job,
        )
