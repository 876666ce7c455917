"""Restarts and replays over the scheduler's API."""

from typing import Any

import grpc
import pytest

from farhand.api.scheduler.v1 import execution_pb2
from farhand.api.scheduler.v1.execution_service_pb2 import (
    ListExecutionsRequest,
    ReplayExecutionRequest,
    RestartExecutionRequest,
    TailExecutionLogsRequest,
)
from farhand.api.types.v1.outcome_pb2 import OUTCOME_STATE_FAILED, OUTCOME_STATE_SUCCESS
from farhand.runtime.wire import plain
from tests.fixtures.fake_registry import FakeRegistry
from tests.fixtures.scheduler_with_flows import Flows, FlowWorker, a_flow, indented, noop, state_of, states
from tests.rpc.refusal import refused

THREE = noop("first") + noop("second", "payload: '{{ outputs.first.count }}'") + noop("third")


async def restarted(flows: Flows, id: str, **more: Any) -> execution_pb2.Execution:
    return (await flows.stub.RestartExecution(RestartExecutionRequest(id=id, **more))).execution


async def replayed(
    flows: Flows, id: str, task: str = "", *, inputs: dict[str, Any] | None = None, **more: Any
) -> execution_pb2.Execution:
    request = ReplayExecutionRequest(id=id, from_task_id=task, **more)
    request.inputs.update(inputs or {})
    return (await flows.stub.ReplayExecution(request)).execution


def taken(execution: execution_pb2.Execution) -> dict[str, str]:
    """Who ran what it took over. Of what it runs itself there may be more, as soon as it exists."""
    return {run.task_id: run.taken_from for run in execution.task_runs if run.taken_from}


async def failed(flows: Flows, worker: FlowWorker, **more: Any) -> execution_pb2.Execution:
    """An execution whose second task failed."""
    execution = await flows.create(a_flow(THREE, more="labels: {of: flow}\n"), **more)
    await worker.end(outputs={"count": 5})
    await worker.end(OUTCOME_STATE_FAILED, message="No.")
    return await flows.ended(execution.id)


async def test_a_restart_runs_the_failed_task_and_what_follows_with_the_outputs_of_the_rest(flows: Flows) -> None:
    worker = await flows.worker()
    old = await failed(flows, worker, labels={"by": "me"})
    new = await restarted(flows, old.id, request_id="once")
    assert new.id != old.id and (new.restart_of, new.replay_of) == (old.id, "")
    assert (dict(new.labels), new.flow_revision) == ({"of": "flow", "by": "me"}, 1)
    first = new.task_runs[0]
    assert (first.task_id, first.taken_from, first.job_id) == ("first", old.id, old.task_runs[0].job_id)
    assert plain(first.outputs) == {"count": 5} and first.worker == old.task_runs[0].worker
    [assignment] = await worker.hand.assignments()
    assert plain(assignment.task.context)["outputs"] == {"first": {"count": 5}}
    await worker.report(assignment)
    await worker.end()
    ended = await flows.ended(new.id)
    assert state_of(ended) == "SUCCESS"
    assert states(ended) == {"first": "SUCCESS", "second": "SUCCESS", "third": "SUCCESS"}
    assert [run.taken_from for run in ended.task_runs] == [old.id, "", ""]
    assert (await restarted(flows, old.id, request_id="once")).id == new.id
    after = await flows.get(old.id)
    assert state_of(after) == "FAILED" and list(after.restarts) == [new.id]
    after.ClearField("restarts")
    assert after == old  # nothing of it changed
    listed = (await flows.stub.ListExecutions(ListExecutionsRequest())).executions
    assert [(each.restart_of, list(each.restarts)) for each in listed] == [(old.id, []), ("", [new.id])]


async def test_a_restart_of_a_restart_names_who_ran_it_first(flows: Flows) -> None:
    worker = await flows.worker()
    old = await failed(flows, worker)
    second = await restarted(flows, old.id)
    await worker.end()
    await worker.end(OUTCOME_STATE_FAILED)
    assert state_of(await flows.ended(second.id)) == "FAILED"
    third = await restarted(flows, second.id)
    assert third.restart_of == second.id
    assert taken(third) == {"first": old.id, "second": second.id}
    await worker.end()
    assert state_of(await flows.ended(third.id)) == "SUCCESS"


async def test_a_restart_of_a_loop_runs_the_rounds_again_that_failed(flows: Flows) -> None:
    worker = await flows.worker()
    loop = (
        "  - id: loop\n    type: io.kestra.plugin.core.flow.ForEach\n    values: [a, b, c]\n    concurrencyLimit: 0\n"
        "    tasks:\n" + indented(noop("body", "payload: '{{ taskrun.value }}'"))
    )
    old = await flows.create(a_flow(loop + noop("last", "payload: '{{ outputs.loop }}'")))
    for each in await worker.hand.assignments(3):
        value = plain(each.task.context)["taskrun"]["value"]
        state = OUTCOME_STATE_FAILED if value == "b" else OUTCOME_STATE_SUCCESS
        await worker.report(each, state, outputs={"value": value})
    assert state_of(await flows.ended(old.id)) == "FAILED"
    new = await restarted(flows, old.id)
    [again] = await worker.hand.assignments()
    assert plain(again.task.context)["taskrun"]["value"] == "b"
    await worker.report(again, outputs={"value": "B"})
    await worker.end()
    ended = await flows.ended(new.id)
    assert state_of(ended) == "SUCCESS"
    assert {(run.task_id, run.iteration): bool(run.taken_from) for run in ended.task_runs} == {
        ("loop", ""): False,
        ("body", "0"): True,
        ("body", "1"): False,
        ("body", "2"): True,
        ("last", ""): False,
    }
    whole = await replayed(flows, new.id, "last")
    assert {run.iteration: run.taken_from for run in whole.task_runs if run.task_id == "body"} == {
        "0": old.id,
        "1": new.id,
        "2": old.id,
    }


async def test_logs_of_what_was_taken_over_come_only_where_they_are_asked_for(flows: Flows) -> None:
    worker = await flows.worker()
    old = await failed(flows, worker)
    new = await restarted(flows, old.id)
    await worker.end(OUTCOME_STATE_FAILED)
    await flows.ended(new.id)

    async def tasks(**more: Any) -> set[str]:
        request = TailExecutionLogsRequest(id=new.id, **more)
        return {each.task_id async for each in flows.stub.TailExecutionLogs(request) if not each.HasField("execution")}

    assert "first" not in await tasks() | await tasks(follow=True)
    assert await tasks(task_id="first") <= {"first"}


async def test_a_replay_begins_anew_with_other_inputs_and_another_revision(flows: Flows) -> None:
    worker = await flows.worker()
    inputs = "inputs: [{id: size, type: INT}, {id: day, type: STRING, defaults: monday}]\n"
    old = await flows.create(a_flow(noop("first") + noop("second"), more=inputs), inputs={"size": 3})
    await worker.end()
    await worker.end()
    await flows.ended(old.id)
    flows.save(a_flow(noop("first") + noop("third"), more="inputs: [{id: size, type: INT}]\nlabels: {now: too}\n"))
    same = await replayed(flows, old.id)
    assert (same.replay_of, same.flow_revision, taken(same)) == (old.id, 1, {})
    assert plain(same.inputs) == {"size": 3, "day": "monday"}
    other = await replayed(flows, old.id, "third", inputs={"size": "4"}, flow_revision=2)
    assert (other.flow_revision, plain(other.inputs), dict(other.labels)) == (2, {"size": 4}, {"now": "too"})
    assert taken(other) == {"first": old.id}
    assert list((await flows.get(old.id)).replays) == [other.id, same.id]
    wrong = await refused(replayed(flows, old.id, inputs={"size": "many", "seize": 1}))
    assert {each.path for each in wrong.violations} == {"inputs.size", "inputs.seize"}


async def test_what_can_not_be_restarted_or_replayed_says_so(flows: Flows, registry: FakeRegistry) -> None:
    running = await flows.create(a_flow(noop("only")))
    for call in (restarted(flows, running.id), replayed(flows, running.id)):
        told = await refused(call)
        assert (told.reason, told.code) == ("NOT_ENDED", grpc.StatusCode.FAILED_PRECONDITION)
        assert f"`farhand execution follow {running.id}` waits for that" in told.message
    await flows.kill(running.id)
    await flows.ended(running.id)
    told = await refused(restarted(flows, running.id))
    assert told.reason == "NOTHING_FAILED"
    assert told.message.startswith(f"Execution {running.id} was killed: no task of it failed")
    well = await flows.create(a_flow(noop("only"), id="well"))
    await (await flows.worker()).end()
    await flows.ended(well.id)
    told = await refused(restarted(flows, well.id))
    assert told.reason == "NOTHING_FAILED" and f"`farhand execution replay {well.id}` runs it again" in told.message
    told = await refused(replayed(flows, well.id, "onyl"))
    assert told.violations[0].path == "from_task_id" and "Did you mean 'only'?" in told.violations[0].description
    registry.flows.clear()
    for call in (replayed(flows, well.id), replayed(flows, well.id, flow_revision=7)):
        assert (await refused(call)).code is grpc.StatusCode.NOT_FOUND
    assert (await refused(restarted(flows, "x0000000000000"))).code is grpc.StatusCode.NOT_FOUND


async def test_a_request_id_belongs_to_one_method_and_body(flows: Flows) -> None:
    worker = await flows.worker()
    old = await failed(flows, worker)
    await restarted(flows, old.id, request_id="same")
    assert (await refused(replayed(flows, old.id, request_id="same"))).reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize("behavior", ["QUEUE", "FAIL"])
async def test_a_restart_takes_its_place_as_any_execution_does(flows: Flows, behavior: str) -> None:
    """One that ended at once has what it took over, so it can be restarted itself."""
    worker = await flows.worker()
    id = flows.save(a_flow(THREE, more=f"concurrency: {{limit: 1, behavior: {behavior}}}\n"))
    old = await flows.run(id)
    await worker.end(outputs={"count": 1})
    await worker.end(OUTCOME_STATE_FAILED)
    await flows.ended(old.id)
    other = await flows.run(id)
    new = await restarted(flows, old.id)
    assert states(new) == {"first": "SUCCESS"}
    assert state_of(new) == ("CREATED" if behavior == "QUEUE" else "FAILED")
    for _ in range(3):
        await worker.end(outputs={"count": 1})
    await flows.ended(other.id)
    if behavior == "FAIL":
        new = await restarted(flows, new.id)
    running = await flows.until(new.id, "RUNNING")
    assert [run.taken_from for run in running.task_runs if run.task_id == "first"] == [old.id]
