"""One trace per job, over real processes: the client's submit, queue wait, assign, run, record.

The services and `farhand run` export to a small OTLP receiver (tests/fixtures/otlp.py).
"""

import asyncio
import json
import os
import re
import socket
from typing import Any

from farhand.api.registry.v1.flow_service_pb2 import CreateFlowRequest
from farhand.api.scheduler.v1 import job_pb2, job_service_pb2
from farhand.api.scheduler.v1.execution_service_pb2 import CreateExecutionRequest, WatchExecutionRequest
from tests.fixtures.command_line import Said, farhand
from tests.fixtures.mesh import Mesh
from tests.fixtures.otlp import OtlpReceiver, ReceivedSpan
from tests.tasks import SHELL, a_shell_task

TRACEPARENT = re.compile(
    r"00-([0-9a-f]{32})-([0-9a-f]{16})-0[13]"
)  # sampled, and perhaps random (level 2 of the standard)
STORY = {"submit", "queue wait", "assign", "run", "record"}
SECOND = 1_000_000_000  # nanoseconds


async def traced(mesh: Mesh, endpoint: str, **environment: str) -> Mesh:
    """A mesh whose services export there, soon after each span."""
    everywhere = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100", **environment}
    await mesh.add_registry(**everywhere)
    await mesh.add_scheduler("--log-format", "json", **everywhere)
    await mesh.add_worker("", "--log-format", "json", slots=1, **everywhere)
    return mesh


async def run(mesh: Mesh, *command: str, **environment: str) -> Said:
    """`farhand run`, to the job's end."""
    return await farhand("run", "--", *command, FARHAND_SCHEDULER=mesh.schedulers[0].address, **environment)


async def submit(mesh: Mesh, command: str, traceparent: str = "") -> str:
    """Submit by the API, as any client may; gives the job's id."""
    metadata = (("traceparent", traceparent),) if traceparent else ()
    request = job_service_pb2.SubmitJobRequest(spec=job_pb2.JobSpec(task=a_shell_task(command)))
    return (await mesh.jobs.SubmitJob(request, metadata=metadata)).job.id


async def ended(mesh: Mesh, job: str) -> job_pb2.Job:
    return (await mesh.jobs.WaitJob(job_service_pb2.WaitJobRequest(id=job))).job


async def log_of(mesh: Mesh, job: str) -> list[str]:
    tail = mesh.jobs.TailLogs(job_service_pb2.TailLogsRequest(id=job, follow=True))
    return [record.text async for part in tail for record in part.records]


def trace_of(spans: list[ReceivedSpan], job: str) -> list[ReceivedSpan]:
    """All spans of the trace in which this job ran."""
    ids = {span.trace_id for span in spans if span.attributes.get("farhand.job") == job}
    assert len(ids) <= 1, f"job {job} has {len(ids)} traces"
    return [span for span in spans if span.trace_id in ids]


def whole(job: str, of: int = 6) -> Any:
    return lambda spans: len(trace_of(spans, job)) >= of


def service_lines(mesh: Mesh) -> list[dict[str, Any]]:
    """What the services logged, as JSON."""
    lines = [line for process in mesh.processes for line in process.log.read_text().splitlines()]
    return [json.loads(line) for line in lines if line.startswith("{")]


async def test_a_job_is_one_trace_from_the_clients_submit_to_the_record(mesh: Mesh, otlp: OtlpReceiver) -> None:
    await traced(mesh, otlp.endpoint)
    busy = await submit(mesh, "sleep 0.3")  # the only slot is taken, so there is something to wait for
    said = await run(mesh, "sh", "-c", "echo $TRACEPARENT; sleep 0.2", OTEL_EXPORTER_OTLP_ENDPOINT=otlp.endpoint)
    assert said.exit_code == 0, said.all
    job = re.search(r"job ([0-9a-z]{13})", said.err)
    assert job is not None, said.err
    spans = trace_of(await otlp.arrive(whole(job[1])), job[1])
    assert sorted((span.service, span.name) for span in spans) == [
        ("farhand-cli", "submit"),
        ("farhand-scheduler", "assign"),
        ("farhand-scheduler", "queue wait"),
        ("farhand-scheduler", "record"),
        ("farhand-scheduler", "submit"),
        ("farhand-worker", "run"),
    ]
    by_name = {(span.service.removeprefix("farhand-"), span.name): span for span in spans}
    root, accepted = by_name["cli", "submit"], by_name["scheduler", "submit"]
    waited, assigned, ran, recorded = (
        by_name[key]
        for key in (("scheduler", "queue wait"), ("scheduler", "assign"), ("worker", "run"), ("scheduler", "record"))
    )
    # Parents: the client's submit is the root, the scheduler's its child, and the job's life hangs from that.
    assert root.parent_id == "" and accepted.parent_id == root.span_id
    assert {span.parent_id for span in (waited, assigned, ran, recorded)} == {accepted.span_id}
    # Times, all by one machine's clock here: each step follows the one before, and none is made up.
    assert all(span.start <= span.end for span in spans)
    assert root.start <= accepted.start <= accepted.end <= root.end
    assert accepted.start <= waited.start <= waited.end == assigned.start
    assert assigned.start <= ran.start <= ran.end <= recorded.end
    assert SECOND // 5 <= ran.end - ran.start < 5 * SECOND
    assert recorded.end - root.start < 20 * SECOND
    # The command can go on in it: its parent is the run.
    inside = TRACEPARENT.fullmatch(said.out.strip())
    assert inside is not None, said.all
    assert inside.groups() == (ran.trace_id, ran.span_id)
    assert f"trace {root.trace_id}" in said.err  # and a person can look it up
    assert ran.attributes["farhand.state"] == "SUCCESS" and ran.attributes["farhand.exit_code"] == 0
    assert {span.attributes["farhand.worker"] for span in (waited, assigned, ran)} == {"default"}
    # The other job is another trace, with the scheduler's submit as its root.
    others = trace_of(await otlp.arrive(whole(busy, of=5)), busy)
    assert {span.trace_id for span in others} != {root.trace_id}
    assert {span.name for span in others} == STORY
    assert [span.name for span in others if not span.parent_id] == ["submit"]


async def test_a_job_that_waited_for_a_worker_shows_how_long(mesh: Mesh, otlp: OtlpReceiver) -> None:
    everywhere = {"OTEL_EXPORTER_OTLP_ENDPOINT": otlp.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    await mesh.add_registry()
    await mesh.add_scheduler(**everywhere)
    job = await submit(mesh, "true")
    await mesh.add_worker("", slots=1, **everywhere)  # takes its time to start
    record = await ended(mesh, job)
    spans = {span.name: span for span in trace_of(await otlp.arrive(whole(job, of=5)), job)}
    waited = spans["queue wait"].end - spans["queue wait"].start
    told = record.assign_time.ToNanoseconds() - record.create_time.ToNanoseconds()
    assert abs(waited - told) < SECOND // 1000
    assert waited > SECOND // 20


async def test_a_clients_own_trace_goes_on_in_the_command_and_in_jobs_that_it_submits(
    mesh: Mesh, otlp: OtlpReceiver
) -> None:
    await traced(mesh, otlp.endpoint)
    trace_id, parent = os.urandom(16).hex(), os.urandom(8).hex()
    job = await submit(mesh, "echo $TRACEPARENT", f"00-{trace_id}-{parent}-01")
    [inside] = await log_of(mesh, job)
    spans = trace_of(await otlp.arrive(whole(job, of=5)), job)
    assert {span.trace_id for span in spans} == {trace_id}
    [accepted] = [span for span in spans if span.name == "submit"]
    assert accepted.parent_id == parent
    # A job that a job submits hangs from the run that submitted it.
    outer = TRACEPARENT.fullmatch(inside)
    assert outer is not None and outer[1] == trace_id
    said = await run(mesh, "true", TRACEPARENT=inside, OTEL_EXPORTER_OTLP_ENDPOINT=otlp.endpoint)
    assert said.exit_code == 0, said.all

    def from_cli(spans: list[ReceivedSpan]) -> list[ReceivedSpan]:
        return [span for span in spans if span.service == "farhand-cli"]

    [nested] = from_cli(await otlp.arrive(lambda spans: bool(from_cli(spans))))
    assert (nested.trace_id, nested.parent_id) == (trace_id, outer[2])


async def test_failures_are_marked_and_logs_of_the_services_carry_the_trace_id(mesh: Mesh, otlp: OtlpReceiver) -> None:
    await traced(mesh, otlp.endpoint)
    fails = await submit(mesh, "exit 7")
    assert (await ended(mesh, fails)).state == job_pb2.JOB_STATE_FAILED
    killed = await submit(mesh, "echo started; sleep 600")
    tail = mesh.jobs.TailLogs(job_service_pb2.TailLogsRequest(id=killed, follow=True))
    await anext(aiter(tail))
    await mesh.jobs.KillJob(job_service_pb2.KillJobRequest(id=killed))
    assert (await ended(mesh, killed)).state == job_pb2.JOB_STATE_KILLED
    spans = await otlp.arrive(lambda spans: whole(fails, of=5)(spans) and whole(killed, of=5)(spans))
    runs = {span.attributes["farhand.job"]: span for span in spans if span.name == "run"}
    assert runs[fails].status == 2 and runs[fails].attributes["farhand.exit_code"] == 7
    assert runs[killed].attributes["farhand.state"] == "KILLED"
    # Both services say so in a line that leads to the trace.
    for service in ("worker", "scheduler"):
        for job in (fails, killed):
            lines = [line for line in service_lines(mesh) if line["service"] == service and line.get("job") == job]
            assert len(lines) == 1, f"{service} on {job}: {lines}"
            assert lines[0]["trace_id"] == runs[job].trace_id, lines
    [told] = [line for line in service_lines(mesh) if line["service"] == "worker" and line.get("job") == fails]
    assert told["reason"] == "NONZERO_EXIT" and told["span_id"] == runs[fails].span_id


async def test_a_trace_that_is_not_sampled_goes_through_and_is_kept_by_nobody(mesh: Mesh, otlp: OtlpReceiver) -> None:
    await traced(mesh, otlp.endpoint, FARHAND_TRACE_RATIO="0")
    assert await log_of(mesh, await submit(mesh, 'echo "[$TRACEPARENT]"')) == ["[]"]
    dropped = f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-00"
    assert await log_of(mesh, await submit(mesh, "true", dropped)) == []
    # A parent that is sampled is followed whatever the ratio: this one ends the wait, and nothing came before it.
    wanted = os.urandom(16).hex()
    last = await submit(mesh, "true", f"00-{wanted}-{os.urandom(8).hex()}-01")
    spans = await otlp.arrive(whole(last, of=5))
    assert {span.trace_id for span in spans} == {wanted}


async def test_a_trace_context_that_is_none_starts_a_trace_of_its_own(mesh: Mesh, otlp: OtlpReceiver) -> None:
    await mesh.add_registry()
    everywhere = {"OTEL_EXPORTER_OTLP_ENDPOINT": otlp.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    await mesh.add_scheduler(**everywhere)
    zeros = "00-" + "0" * 32 + "-" + "0" * 16 + "-01"
    several = ["", "nonsense", zeros, "ff-" + "a" * 4000]
    for nonsense in several:
        await submit(mesh, "true", nonsense)
    spans = await otlp.arrive(lambda spans: len(spans) == len(several))
    assert {(span.name, span.parent_id) for span in spans} == {("submit", "")}
    assert len({int(span.trace_id, 16) for span in spans} - {0}) == len(several)


async def test_without_an_endpoint_nothing_is_traced_or_exported(mesh: Mesh, otlp: OtlpReceiver) -> None:
    # An exporter that was made all the same would send here.
    everywhere = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": otlp.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "20"}
    await mesh.add_registry(**everywhere)
    await mesh.add_scheduler("--log-format", "json", **everywhere)
    await mesh.add_worker("", "--log-format", "json", slots=1, **everywhere)
    said = await run(mesh, "sh", "-c", 'echo "[$TRACEPARENT]"; env | grep OTEL_ || exit 7', **everywhere)
    assert said.exit_code == 7 and said.out == "[]\n"
    assert "trace" not in said.err
    for process in (*mesh.workers.values(), *mesh.schedulers, *mesh.registries):
        process.terminate()
        assert await process.ended() == 0  # exporters would send at their end
    assert otlp.spans == []
    lines = [line for line in service_lines(mesh) if "job" in line]
    assert {line["service"] for line in lines} == {"scheduler", "worker"}
    assert not any("trace_id" in line for line in lines)


async def test_a_collector_that_is_away_or_deaf_disturbs_nothing(mesh: Mesh) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # accepts connections and never answers
        silent = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        await mesh.add_registry(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", OTEL_BSP_SCHEDULE_DELAY="50")
        await mesh.add_scheduler(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", OTEL_BSP_SCHEDULE_DELAY="50")
        await mesh.add_worker("", OTEL_EXPORTER_OTLP_ENDPOINT=silent, OTEL_BSP_SCHEDULE_DELAY="50")
        jobs = await asyncio.gather(*(submit(mesh, "true") for _ in range(20)))
        states = [(await ended(mesh, job)).state for job in jobs]
        assert states == [job_pb2.JOB_STATE_SUCCESS] * 20
        began = asyncio.get_running_loop().time()
        both = await asyncio.gather(
            *(
                run(mesh, "echo", "hello", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
                for endpoint in ("http://127.0.0.1:1", silent)
            )
        )
        for said in both:
            assert said.exit_code == 0 and said.out == "hello\n", said.all
            assert len(said.err.splitlines()) == 1, said.err  # the job and its trace, and no complaint
        services = (*mesh.workers.values(), *mesh.schedulers, *mesh.registries)
        for process in services:
            process.terminate()
        assert await asyncio.gather(*(process.ended() for process in services)) == [0, 0, 0]
        assert asyncio.get_running_loop().time() - began < 25  # nobody waits long for who never answers
        for process in services:
            assert "Traceback" not in process.tail(), process.tail()


async def test_an_execution_is_one_span_with_all_of_its_jobs_below(mesh: Mesh, otlp: OtlpReceiver) -> None:
    await traced(mesh, otlp.endpoint)
    task = f"    type: {SHELL}\n    commands: ['true']\n"
    source = f"id: story\nnamespace: company\ntasks:\n  - id: first\n{task}  - id: second\n{task}"
    await mesh.flows.CreateFlow(CreateFlowRequest(source=source))
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    created = await mesh.executions.CreateExecution(
        CreateExecutionRequest(namespace="company", flow_id="story"), metadata=(("traceparent", parent),)
    )
    execution = created.execution
    assert execution.trace_id == parent.split("-")[1]
    async for _ in mesh.executions.WatchExecution(WatchExecutionRequest(id=execution.id)):
        pass
    spans = await otlp.arrive(
        lambda spans: (
            any(span.name == "execution" for span in spans)
            and len([span for span in spans if span.name == "record"]) == 2
        )
    )
    [whole_of_it] = [span for span in spans if span.name == "execution"]
    assert whole_of_it.attributes["farhand.execution"] == execution.id
    assert (whole_of_it.trace_id, whole_of_it.parent_id) == (parent.split("-")[1], parent.split("-")[2])
    below = [span for span in spans if span.parent_id == whole_of_it.span_id]
    assert {"queue wait", "assign", "run", "record"} <= {span.name for span in below}
    assert whole_of_it.start <= min(span.start for span in below) and whole_of_it.end > whole_of_it.start


async def test_an_execution_without_a_parent_is_a_trace_of_its_own(mesh: Mesh, otlp: OtlpReceiver) -> None:
    await traced(mesh, otlp.endpoint)
    source = f"id: story\nnamespace: company\ntasks:\n  - id: only\n    type: {SHELL}\n    commands: ['true']\n"
    await mesh.flows.CreateFlow(CreateFlowRequest(source=source))
    created = await mesh.executions.CreateExecution(CreateExecutionRequest(namespace="company", flow_id="story"))
    spans = await otlp.arrive(lambda spans: any(span.name == "execution" for span in spans))
    [root] = [span for span in spans if span.name == "execution"]
    assert (root.trace_id, root.parent_id) == (created.execution.trace_id, "")
