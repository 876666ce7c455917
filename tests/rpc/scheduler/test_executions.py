"""Executions over the scheduler's API, with a registry and a worker that are played."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from farhand.api.scheduler.v1.execution_pb2 import ExecutionState
from farhand.api.scheduler.v1.execution_service_pb2 import (
    CreateExecutionRequest,
    GetExecutionRequest,
    KillExecutionRequest,
    ListExecutionsRequest,
    TailExecutionLogsRequest,
    TailExecutionLogsResponse,
    WatchExecutionRequest,
)
from farhand.api.scheduler.v1.execution_service_pb2_grpc import ExecutionServiceStub
from farhand.api.scheduler.v1.job_service_pb2 import GetJobRequest, TailLogsResponse
from farhand.api.types.v1.log_record_pb2 import LOG_STREAM_STDOUT, LogRecord
from farhand.api.types.v1.outcome_pb2 import OUTCOME_STATE_FAILED, OUTCOME_STATE_KILLED
from farhand.api.worker.v1 import session_pb2 as pb
from farhand.api.worker.v1.worker_service_pb2 import AppendLogsRequest
from farhand.kernel.flow.tasks import PARALLEL
from farhand.runtime.grpc_channel import make_channel
from farhand.runtime.settings import DialSettings
from farhand.runtime.wire import plain
from farhand.scheduler.core.declared import Group
from farhand.scheduler.rpc.tails import Tails
from tests.fixtures.fake_registry import FakeRegistry
from tests.fixtures.scheduler_service import a_scheduler
from tests.fixtures.scheduler_with_flows import (
    NAMESPACE,
    Flows,
    a_flow,
    indented,
    noop,
    run_state,
    state_of,
    states,
)
from tests.rpc.refusal import refused


async def tailed(flows: Flows, id: str, **more: Any) -> list[TailExecutionLogsResponse]:
    """What a tail of the logs brings."""
    return [each async for each in flows.stub.TailExecutionLogs(TailExecutionLogsRequest(id=id, **more))]


async def listed(flows: Flows, **request: Any) -> list[str]:
    """The ids of all pages."""
    ids: list[str] = []
    token = ""
    while True:
        page = await flows.stub.ListExecutions(ListExecutionsRequest(page_token=token, **request))
        ids += [execution.id for execution in page.executions]
        if not (token := page.next_page_token):
            return ids


async def log(flows: Flows, assignment: pb.Assignment, text: str) -> None:
    """A line of an assignment's log, stored."""

    async def lines() -> AsyncIterator[AppendLogsRequest]:
        record = LogRecord(stream=LOG_STREAM_STDOUT, text=text)
        yield AppendLogsRequest(job_id=assignment.job_id, fence=assignment.fence, records=[record])

    await flows.scheduler.workers.AppendLogs(lines())


def a_token(name: str, tenant: str) -> str:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f'[[token]]\nname = "{name}"\nrole = "client"\nsha256 = "{digest}"\ntenants = ["{tenant}"]\n'


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


async def test_outputs_decide_a_branch_and_go_to_the_worker_as_context(flows: Flows) -> None:
    choice = a_flow(
        noop("first")
        + "  - id: choose\n    type: io.kestra.plugin.core.flow.If\n"
        + '    condition: "{{ outputs.first.size > 2 }}"\n    then:\n'
        + indented(noop("big", 'payload: "{{ outputs.first.name }}"'))
        + "    else:\n"
        + indented(noop("small"))
    )
    execution = await flows.create(choice)
    worker = await flows.worker()
    await worker.end(outputs={"size": 3, "name": "Ada"})
    assignment = await worker.end()
    assert assignment.task.HasField("context")
    assert plain(assignment.task.context)["outputs"] == {"first": {"name": "Ada"}}
    ended = await flows.ended(execution.id)
    assert states(ended) == {"first": "SUCCESS", "choose": "SUCCESS", "big": "SUCCESS"}
    by_task = {run.task_id: run for run in ended.task_runs}
    assert by_task["choose"].branch == "then" and by_task["big"].parent_task_id == "choose"
    assert plain(by_task["first"].outputs) == {"size": 3, "name": "Ada"}


async def test_outputs_beyond_what_an_answer_holds_are_said_to_be_left_out(
    flows: Flows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farhand.scheduler.rpc.visible_executions.OUTPUT_BYTES", 100)
    execution = await flows.create(a_flow(noop("small") + noop("large") + noop("none") + noop("last")))
    worker = await flows.worker()
    await worker.end(outputs={"text": "x"})
    await worker.end(outputs={"text": "x" * 100})
    await worker.end()
    await worker.end(outputs={"text": "x"})
    runs = (await flows.ended(execution.id)).task_runs
    assert [(run.HasField("outputs"), run.outputs_left_out) for run in runs] == [
        (True, False),
        (False, True),
        (False, False),
        (False, True),  # the oldest come first
    ]
    job = (await flows.scheduler.jobs.GetJob(GetJobRequest(id=runs[1].job_id))).job
    assert plain(job.outcome.outputs) == {"text": "x" * 100}


async def test_a_hundred_parallel_tasks_are_queued_together(flows: Flows) -> None:
    tasks = "".join(indented(noop(f"t{number}")) for number in range(100))
    execution = await flows.create(a_flow(f"  - id: all\n    type: {PARALLEL}\n    tasks:\n{tasks}"))
    worker = await flows.worker()
    for assignment in await worker.hand.assignments(100):
        await worker.report(assignment)
    ended = await flows.ended(execution.id)
    assert state_of(ended) == "SUCCESS" and len(ended.task_runs) == 101


async def test_fallback_fail_fails_at_once_and_cancel_kills(flows: Flows) -> None:
    for fallback, run, whole in (("FAIL", "FAILED", "FAILED"), ("CANCEL", "KILLED", "KILLED")):
        group = f"workerGroup:\n  key: gpu\n  fallback: {fallback}"
        ended = await flows.ended((await flows.create(a_flow(noop("only", group), id=fallback))).id)
        assert (states(ended), state_of(ended)) == ({"only": run}, whole)
        [only] = ended.task_runs
        assert only.reason == "GROUP_NOT_AVAILABLE" and only.worker_group == "gpu"
        assert only.worker_group_level == only.fallback_level == "task"


async def test_a_wait_that_is_bounded_ends_the_task_run(flows: Flows) -> None:
    group = "workerGroup:\n  timeout: PT0.2S"
    ended = await flows.ended((await flows.create(a_flow(noop("only", group)))).id)
    [only] = ended.task_runs
    assert run_state(only) == "FAILED" and only.reason == "GROUP_WAIT_TIMEOUT"
    assert [record.text for answer in await tailed(flows, ended.id) for record in answer.records] == [only.message]


async def test_a_key_that_names_no_group_fails_the_run_after_the_registry_was_asked(flows: Flows) -> None:
    group = 'workerGroup:\n  key: "{{ inputs.where }}"\n  fallback: CANCEL'
    source = a_flow(noop("only", group), more="inputs:\n  - id: where\n    type: STRING\n")
    before = len(flows.registry.asked)
    ended = await flows.ended((await flows.create(source, inputs={"where": "gpo"})).id)
    [only] = ended.task_runs
    assert (run_state(only), only.reason, only.job_id) == ("FAILED", "UNKNOWN_WORKER_GROUP", "")
    assert "gpo" in only.message and "gpu" in only.message
    assert len(flows.registry.asked) > before
    [line, _] = await tailed(flows, ended.id, follow=True)
    assert (line.task_id, line.records[0].text) == ("only", only.message)


async def test_a_group_that_was_declared_a_moment_ago_works(flows: Flows) -> None:
    source = a_flow(noop("only", "workerGroup:\n  key: fresh"))
    await flows.registry.declare(Group("u-fresh", "fresh"))
    execution = await flows.create(source)
    worker = await flows.worker(worker_id="w", group="fresh")
    await worker.end()
    assert state_of(await flows.ended(execution.id)) == "SUCCESS"


async def test_while_the_registry_is_away_an_unknown_group_is_tried_again_and_says_so(flows: Flows) -> None:
    id = flows.save(a_flow(noop("first") + noop("second", "workerGroup:\n  key: later")))
    execution = await flows.run(id)
    await flows.registry.stop()
    worker = await flows.worker()
    await worker.end()
    waiting = await flows.until(execution.id, "CREATED", run="second")
    run = waiting.task_runs[1]
    assert run.reason == "UNKNOWN_WORKER_GROUP" and "the registry is asked" in run.message and not run.job_id
    await flows.registry.declare(Group("u-later", "later"))
    await flows.registry.start()
    await flows.until_it(execution.id, lambda changed: any(run.worker_group == "later" for run in changed.task_runs))
    late = await flows.worker(group="later", worker_id="late")
    await late.end()
    assert state_of(await flows.ended(execution.id)) == "SUCCESS"


async def test_a_kill_ends_what_waits_and_what_runs_and_nothing_follows(flows: Flows) -> None:
    inside = indented(noop("queued", "workerGroup:\n  key: gpu")) + indented(noop("running"))
    source = a_flow(
        f"  - id: both\n    type: {PARALLEL}\n    tasks:\n{inside}" + noop("never"), more="errors:\n" + noop("nor")
    )
    execution = await flows.create(source)
    worker = await flows.worker()
    [assignment] = await worker.hand.assignments()
    killing = asyncio.create_task(flows.kill(execution.id))
    cancel = (await worker.hand.expect("cancel")).cancel
    assert [each.job_id for each in cancel.jobs] == [assignment.job_id]
    answer = await killing
    assert state_of(answer) == "KILLING" and states(answer)["running"] == "KILLING"
    await worker.report(assignment, OUTCOME_STATE_KILLED)
    ended = await flows.ended(execution.id)
    assert state_of(ended) == "KILLED"
    assert states(ended) == {"both": "KILLED", "queued": "KILLED", "running": "KILLED"}
    assert ended.HasField("kill_time")
    assert [ExecutionState.Name(change.state) for change in ended.history][-2:] == [
        "EXECUTION_STATE_KILLING",
        "EXECUTION_STATE_KILLED",
    ]
    assert state_of(await flows.kill(execution.id)) == "KILLED"


async def test_a_failed_attempt_is_followed_by_another(flows: Flows) -> None:
    retry = "retry:\n  type: constant\n  interval: PT0.1S\n  maxAttempts: 2"
    execution = await flows.create(a_flow(noop("flaky", retry)))
    worker = await flows.worker()
    await worker.end(OUTCOME_STATE_FAILED)
    await worker.end()
    ended = await flows.ended(execution.id)
    assert state_of(ended) == "SUCCESS"
    assert [(run.attempt, run_state(run)) for run in ended.task_runs] == [(1, "FAILED"), (2, "SUCCESS")]
    assert "EXECUTION_STATE_RETRYING" in [ExecutionState.Name(change.state) for change in ended.history]


async def test_a_request_id_gives_the_same_execution_also_without_a_registry(flows: Flows) -> None:
    id = flows.save(a_flow(noop("only")))
    first = await flows.run(id, request_id="r")
    await flows.registry.stop()
    assert (await flows.run(id, request_id="r")).id == first.id
    reused = await refused(flows.run(id, request_id="r", labels={"other": "body"}))
    assert reused.reason == "REQUEST_ID_REUSED"
    assert (await refused(flows.run(id))).reason == "UNAVAILABLE"


async def test_two_calls_with_one_request_id_at_once_make_one_execution(flows: Flows) -> None:
    id = flows.save(a_flow(noop("only")))
    both = await asyncio.gather(*(flows.run(id, request_id="r") for _ in range(8)))
    assert len({execution.id for execution in both}) == 1


async def test_wrong_inputs_are_told_all_at_once(flows: Flows) -> None:
    inputs = "inputs:\n  - id: size\n    type: INT\n  - id: name\n    type: STRING\n"
    id = flows.save(a_flow(noop("only"), more=inputs))
    told = await refused(flows.run(id, inputs={"size": "many", "nmae": "x"}))
    assert {violation.path for violation in told.violations} == {"inputs.size", "inputs.name", "inputs.nmae"}
    fine = await flows.run(id, inputs={"size": "3", "name": "x"})
    assert plain(fine.inputs) == {"size": 3, "name": "x"}


async def test_what_is_asked_for_wrongly_is_told(flows: Flows) -> None:
    id = flows.save(a_flow(noop("only")))
    assert (await refused(flows.run("nothing"))).reason == "NOT_FOUND"
    assert (await refused(flows.run(id, flow_revision=7))).reason == "NOT_FOUND"
    assert (await refused(flows.get("x" + "0" * 13))).reason == "NOT_FOUND"
    assert (await refused(flows.get("nonsense"))).reason == "NOT_FOUND"
    told = await refused(flows.run(id, labels={f"l{number}": "x" for number in range(51)}, flow_revision=-1))
    assert {violation.path for violation in told.violations} == {"labels", "flow_revision"}
    large = await refused(flows.run(id, inputs={"text": "x" * (64 << 10)}))
    assert [violation.path for violation in large.violations] == ["inputs"]


async def test_a_running_execution_keeps_its_revision_when_the_registry_is_gone(flows: Flows) -> None:
    id = flows.save(a_flow(noop("first") + noop("second")))
    execution = await flows.run(id)
    flows.save(a_flow(noop("other")))
    await flows.registry.stop()
    worker = await flows.worker()
    await worker.end()
    await worker.end()
    ended = await flows.ended(execution.id)
    assert (ended.flow_revision, states(ended)) == (1, {"first": "SUCCESS", "second": "SUCCESS"})


async def test_lists_filter_and_page(flows: Flows) -> None:
    a, b = flows.save(a_flow(noop("only"), id="a")), flows.save(a_flow(noop("only"), id="b"))
    ids = [(await flows.run(a, labels={"n": str(number), "of": "a"})).id for number in range(5)]
    other = (await flows.run(b)).id
    assert await listed(flows) == [other, *reversed(ids)]
    assert await listed(flows, namespace="company") == [other, *reversed(ids)]
    assert await listed(flows, namespace="comp") == []
    assert await listed(flows, namespace=NAMESPACE, flow_id="b") == [other]
    assert await listed(flows, labels={"n": "3", "of": "a"}) == [ids[3]]
    await flows.kill(ids[1])
    await flows.ended(ids[1])
    assert await listed(flows, states=["EXECUTION_STATE_KILLED"]) == [ids[1]]
    third = (await flows.get(ids[3])).create_time
    assert await listed(flows, created_after=third) == [other, ids[4], ids[3]]
    assert await listed(flows, created_before=third) == list(reversed(ids[:3]))
    assert await listed(flows, page_size=2) == [other, *reversed(ids)]
    assert await listed(flows, page_size=1, labels={"of": "a"}) == list(reversed(ids))
    first = await flows.stub.ListExecutions(ListExecutionsRequest(page_size=2))
    newer = (await flows.run(b)).id
    token = first.next_page_token
    second = await flows.stub.ListExecutions(ListExecutionsRequest(page_size=2, page_token=token))
    assert [each.id for each in second.executions] == [ids[3], ids[2]] and newer not in ids
    told = await refused(flows.stub.ListExecutions(ListExecutionsRequest(page_token=token, flow_id="a", namespace="x")))
    assert told.violations[0].path == "page_token"
    assert (await refused(flows.stub.ListExecutions(ListExecutionsRequest(flow_id="a")))).violations[
        0
    ].path == "flow_id"


async def test_a_watch_tells_what_changed_until_the_end(flows: Flows) -> None:
    execution = await flows.create(a_flow(noop("first") + noop("second")))
    seen: list[tuple[str, str]] = []
    first_runs = asyncio.Event()

    async def watch() -> None:
        async for response in flows.stub.WatchExecution(WatchExecutionRequest(id=execution.id)):
            assert not response.execution.task_runs or not response.execution.task_runs[0].HasField("outputs")
            seen.extend((run.task_id, run_state(run)) for run in response.execution.task_runs)
            if ("first", "RUNNING") in seen:
                first_runs.set()

    watching = asyncio.create_task(watch())
    worker = await flows.worker()
    [assignment] = await worker.hand.assignments()
    await first_runs.wait()  # changes that follow each other quickly are told as one
    await worker.report(assignment, outputs={"a": 1})
    await worker.end()
    await watching
    assert seen[-1] == ("second", "SUCCESS")
    assert [state for task, state in dict.fromkeys(seen) if task == "first"][-2:] == ["RUNNING", "SUCCESS"]


async def test_a_job_says_for_which_execution_it_works(flows: Flows) -> None:
    execution = await flows.create(a_flow(noop("only")))
    worker = await flows.worker()
    assignment = await worker.end()
    job = (await flows.scheduler.jobs.GetJob(GetJobRequest(id=assignment.job_id))).job
    assert job.execution == execution.id
    [run] = (await flows.ended(execution.id)).task_runs
    assert run.job_id == assignment.job_id


async def test_a_task_that_is_too_large_is_refused(flows: Flows) -> None:
    execution = await flows.create(a_flow(noop("only", f"payload: {'x' * (300 << 10)}")))
    ended = await flows.ended(execution.id)
    assert ended.task_runs[0].reason == "PAYLOAD_TOO_LARGE" and state_of(ended) == "FAILED"


async def test_the_logs_of_all_task_runs_come_as_they_are_written(flows: Flows) -> None:
    execution = await flows.create(a_flow(noop("first") + noop("second")))
    tail = asyncio.create_task(tailed(flows, execution.id, follow=True))
    worker = await flows.worker()
    for text in ("one", "two"):
        [assignment] = await worker.hand.assignments()
        await log(flows, assignment, text)
        await worker.report(assignment, log_end=1)
    answers = await tail
    assert [(a.task_id, [r.text for r in a.records]) for a in answers[:-1]] == [("first", ["one"]), ("second", ["two"])]
    assert state_of(answers[-1].execution) == "SUCCESS"
    only = await tailed(flows, execution.id, task_id="second")
    assert [record.text for answer in only for record in answer.records] == ["two"]
    told = await refused(tailed(flows, execution.id, task_id="secnd"))
    assert "second" in told.violations[0].description


async def test_a_tail_reads_the_logs_of_those_alone_that_a_worker_has(
    flows: Flows, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    tail = Tails.tail

    def counted(self: Tails, job_id: str, *arguments: Any, **more: Any) -> AsyncIterator[TailLogsResponse]:
        read.append(job_id)
        return tail(self, job_id, *arguments, **more)

    monkeypatch.setattr(Tails, "tail", counted)
    many = "".join(noop(f"t{number}") for number in range(20))
    execution = await flows.create(a_flow(f"  - id: all\n    type: {PARALLEL}\n    tasks:\n{indented(many)}"))
    worker = await flows.worker(credit=1)
    [assignment] = await worker.hand.assignments()
    await log(flows, assignment, "one")
    following = flows.stub.TailExecutionLogs(TailExecutionLogsRequest(id=execution.id, follow=True))
    answer = await anext(aiter(following))
    assert [record.text for record in answer.records] == ["one"]
    assert read == [assignment.job_id]
    following.cancel()


async def test_another_tenants_execution_is_not_there(
    fresh_database: str, registry: FakeRegistry, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(a_token("mine", "main") + a_token("theirs", "other"))
    tokens.chmod(0o600)
    async with a_scheduler(fresh_database, registry=registry.address, tokens=tokens, token="mine") as scheduler:
        flows = Flows(registry, scheduler)
        execution = await flows.create(a_flow(noop("only")))
        async with make_channel(scheduler.address, DialSettings(token="theirs")) as channel:
            stub = ExecutionServiceStub(channel)
            assert (await refused(stub.GetExecution(GetExecutionRequest(id=execution.id)))).reason == "NOT_FOUND"
            assert (await refused(stub.KillExecution(KillExecutionRequest(id=execution.id)))).reason == "NOT_FOUND"
            create = CreateExecutionRequest(namespace=NAMESPACE, flow_id="flow")
            assert (await refused(stub.CreateExecution(create))).reason == "PERMISSION_DENIED"
            assert (await refused(stub.ListExecutions(ListExecutionsRequest()))).reason == "PERMISSION_DENIED"


async def test_another_replica_watches_and_kills(flows: Flows) -> None:
    async with a_scheduler(flows.scheduler.database, registry=flows.registry.address) as second:
        execution = await flows.create(a_flow(noop("only")))
        other = Flows(flows.registry, second)
        watching = asyncio.create_task(other.ended(execution.id))
        worker = await flows.worker()
        [assignment] = await worker.hand.assignments()
        killing = asyncio.create_task(other.kill(execution.id))
        await worker.hand.expect("cancel")
        await worker.hand.send(
            cancel_ack=pb.CancelAck(jobs=[pb.JobRef(job_id=assignment.job_id, fence=assignment.fence)])
        )
        await worker.report(assignment, OUTCOME_STATE_KILLED)
        assert state_of(await killing) in ("KILLING", "KILLED")
        assert state_of(await watching) == "KILLED"
