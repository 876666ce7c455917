"""Executions over the scheduler's API, with a registry and a worker that are played."""

from farhand.api.types.v1.outcome_pb2 import OUTCOME_STATE_FAILED
from tests.fixtures.scheduler_with_flows import Flows, a_flow, noop, state_of, states


async def test_tasks_run_one_after_another_and_the_execution_succeeds(flows: Flows) -> None:
    execution = await flows.create(a_flow(noop("first") + noop("second")))
    assert execution.id[0] == "x" and state_of(execution) in ("CREATED", "RUNNING")
    worker = await flows.worker()
    await worker.end()
    waiting = await flows.until(execution.id, "CREATED", "RUNNING", run="second")
    assert states(waiting)["first"] == "SUCCESS"
    await worker.end()
    ended = await flows.ended(execution.id)
    assert state_of(ended) == "SUCCESS"
    assert states(ended) == {"first": "SUCCESS", "second": "SUCCESS"}
    assert [run.id[0] for run in ended.task_runs] == ["t", "t"]
    assert ended.HasField("end_time") and ended.task_runs[0].worker == worker.hand.hello.worker_id


async def test_a_failure_stops_the_sequence_and_runs_what_is_for_errors(flows: Flows) -> None:
    more = "errors:\n" + noop("report")
    execution = await flows.create(a_flow(noop("first") + noop("never"), more=more))
    worker = await flows.worker()
    await worker.end(OUTCOME_STATE_FAILED, message="it broke")
    await worker.end()
    ended = await flows.ended(execution.id)
    assert state_of(ended) == "FAILED" and "it broke" in ended.message
    assert states(ended) == {"first": "FAILED", "report": "SUCCESS"}
    assert [run.in_errors for run in ended.task_runs] == [False, True]
