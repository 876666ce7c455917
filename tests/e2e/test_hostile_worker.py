"""A worker that lies, errs or attacks: it harms no job but its own, and no service falls over.

Its frames are written by hand against a real scheduler process, beside an honest
worker played the same way. After each of its tricks the honest one's job must end
well and the scheduler must not have stumbled.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from farhand.api.scheduler.v1 import job_pb2, job_service_pb2
from farhand.api.types.v1.log_record_pb2 import LogRecord
from farhand.api.types.v1.outcome_pb2 import OUTCOME_STATE_FAILED, OUTCOME_STATE_SUCCESS, Outcome
from farhand.api.worker.v1 import session_pb2 as pb
from farhand.api.worker.v1.worker_service_pb2 import AppendLogsRequest
from farhand.api.worker.v1.worker_service_pb2_grpc import WorkerServiceStub
from farhand.kernel.job_id import encode
from farhand.runtime.grpc_channel import remote_error
from tests.fixtures.mesh import Mesh
from tests.fixtures.scheduler_service import HandWorker
from tests.tasks import SHELL, a_shell_task

LONG_MAX = 2**63 - 1
LONG = "m" * (2 << 20)
SECONDS = 30.0


class Duel:
    """An honest worker that holds a job, and a hostile one that knows its id and fence."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.honest: HandWorker
        self.hostile: HandWorker
        self.held: pb.Assignment

    async def begin(self) -> "Duel":
        await self.mesh.add_registry()
        await self.mesh.add_scheduler("--log-format", "text")
        await self.mesh.set_group("", lease=30.0)
        self.honest = await self.connect("honest")
        [self.held] = await self.give(self.honest)
        self.hostile = await self.connect("hostile")
        return self

    @property
    def workers(self) -> Any:
        return WorkerServiceStub(self.mesh.channel(self.mesh.schedulers[0]))

    def hello(self, name: str) -> pb.Hello:
        incarnation = name.encode().ljust(16, b".")[:16]
        return pb.Hello(protocol_version=1, worker_id=name, incarnation=incarnation, slots=10, task_types=[SHELL])

    async def connect(self, name: str) -> HandWorker:
        return await HandWorker(self.workers, self.hello(name)).connect()

    async def connect_again(self, worker: HandWorker) -> HandWorker:
        """A new stream of the same process, which still holds all it received."""
        await worker.close()
        hello = pb.Hello()
        hello.CopyFrom(worker.hello)
        for held in worker.received:
            hello.held.add(job_id=held.job_id, fence=held.fence, phase=pb.HELD_PHASE_RECEIVED)
        return await HandWorker(self.workers, hello).connect()

    async def submit(self, count: int = 1) -> list[str]:
        specs = [job_pb2.JobSpec(task=a_shell_task("true"))] * count
        answer = await self.mesh.jobs.BatchSubmitJobs(job_service_pb2.BatchSubmitJobsRequest(specs=specs))
        return [result.job_id for result in answer.results]

    async def give(self, worker: HandWorker, count: int = 1) -> list[pb.Assignment]:
        """Jobs for this worker alone."""
        await self.submit(count)
        await worker.credit(len(worker.received) + count)
        return await worker.assignments(count)

    async def job(self, job_id: str) -> job_pb2.Job:
        return (await self.mesh.jobs.GetJob(job_service_pb2.GetJobRequest(id=job_id))).job

    async def all_is_well(self) -> None:
        """The honest worker's job ends well, the next one too, and the scheduler did not stumble."""
        before = await self.job(self.held.job_id)
        assert before.state in (job_pb2.JOB_STATE_ASSIGNED, job_pb2.JOB_STATE_RUNNING), before
        await self.honest.barrier()
        assert await self.honest.result(self.held) == "RECORDED"
        ended = await self.job(self.held.job_id)
        assert ended.state == job_pb2.JOB_STATE_SUCCESS and ended.worker == "honest"
        [another] = await self.give(self.honest)
        assert await self.honest.result(another) == "RECORDED"
        process = self.mesh.schedulers[0]
        assert process.running
        assert "Traceback" not in process.tail(), process.tail()


async def end_of(worker: HandWorker) -> pb.GoAway | None:
    """The go_away with which the scheduler ends the stream; None where it ends without one."""
    async with asyncio.timeout(SECONDS):
        while (frame := await worker.next()) is not None:
            if frame.HasField("go_away"):
                return frame.go_away
    return None


@pytest.fixture
async def duel(mesh: Mesh) -> Duel:
    return await Duel(mesh).begin()


async def test_what_belongs_to_another_worker_can_not_be_ended_started_returned_or_abandoned(duel: Duel) -> None:
    hostile, held = duel.hostile, duel.held
    ref = pb.JobRef(job_id=held.job_id, fence=held.fence)
    assert await hostile.result(held) not in ("RECORDED", "DUPLICATE")
    assert await hostile.result(held, OUTCOME_STATE_FAILED) not in ("RECORDED", "DUPLICATE")
    await hostile.send(started=pb.Started(jobs=[ref]))
    returned = pb.Result(job_id=held.job_id, fence=held.fence, returned=True)
    await hostile.send(result=pb.Results(results=[returned]))
    await hostile.barrier()
    assert (await duel.job(held.job_id)).state == job_pb2.JOB_STATE_ASSIGNED
    abandoned = pb.HeldJob(job_id=held.job_id, fence=held.fence, phase=pb.HELD_PHASE_RECEIVED)
    await hostile.send(goodbye=pb.Goodbye(abandoned=[abandoned]))
    await end_of(hostile)
    # Nor can a hello claim it.
    liar = duel.hello("liar")
    for phase in (pb.HELD_PHASE_RUNNING, pb.HELD_PHASE_FINISHED, pb.HELD_PHASE_SELF_FENCED):
        liar.held.add(job_id=held.job_id, fence=held.fence, phase=phase)
    worker = await HandWorker(duel.workers, liar).connect()
    assert {verdict.action for verdict in worker.welcome.verdicts} <= {
        pb.VERDICT_ACTION_STOP,
        pb.VERDICT_ACTION_RESEND_RESULT,
    }
    job = await duel.job(held.job_id)
    assert (job.state, job.fence, job.lost_deliveries) == (job_pb2.JOB_STATE_ASSIGNED, held.fence, 0)
    await duel.all_is_well()


async def test_a_kill_is_not_confirmed_by_a_worker_that_does_not_have_the_job(duel: Duel) -> None:
    ref = pb.JobRef(job_id=duel.held.job_id, fence=duel.held.fence)
    kill = asyncio.ensure_future(duel.mesh.jobs.KillJob(job_service_pb2.KillJobRequest(id=duel.held.job_id)))
    await duel.honest.expect("cancel")
    await duel.hostile.send(cancel_ack=pb.CancelAck(jobs=[ref]))
    await duel.hostile.barrier()
    # The honest worker's stream breaks before it could confirm; it must hear of the kill again (P9).
    again = await duel.connect_again(duel.honest)
    cancel = (await again.expect("cancel")).cancel.jobs[0]
    assert (cancel.job_id, cancel.fence) == (ref.job_id, ref.fence)
    await again.send(cancel_ack=pb.CancelAck(jobs=[ref]))
    assert (await kill).job.state == job_pb2.JOB_STATE_KILLING


async def test_logs_of_others_jobs_and_logs_with_gaps_are_refused(duel: Duel) -> None:
    async def append(*requests: AppendLogsRequest) -> Any:
        async with asyncio.timeout(SECONDS):
            return await duel.workers.AppendLogs(iter(requests))

    def lines(offset: int, *texts: str, job: str = duel.held.job_id, fence: int = duel.held.fence) -> AppendLogsRequest:
        return AppendLogsRequest(job_id=job, fence=fence, offset=offset, records=[LogRecord(text=t) for t in texts])

    stored = await append(lines(0, "one"))
    assert [(ack.offset, ack.refused) for ack in stored.acks] == [(1, False)]
    # Fences that are not the job's, jobs that are none: refused, not failed, so that an honest worker forgets them.
    for strange in (
        lines(0, "x", fence=duel.held.fence + 1),
        lines(0, "x", fence=LONG_MAX),
        lines(0, "x", job="nonsense"),
        lines(0, "x", job=""),
    ):
        [ack] = (await append(strange)).acks
        assert ack.refused, strange
    for wrong in (lines(5, "gap"), lines(-1, "x"), lines(LONG_MAX, "x"), lines(1, "x", fence=-1)):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await append(wrong)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT, refused.value
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await append(lines(5, "gap"))
    assert remote_error(refused.value).reason == "LOG_GAP" and remote_error(refused.value).metadata["offset"] == "1"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await append(lines(1, "x" * (2 << 20)))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT and "1,048,576" in str(refused.value.details())
    tail = duel.mesh.jobs.TailLogs(job_service_pb2.TailLogsRequest(id=duel.held.job_id))
    assert [record.text async for part in tail for record in part.records] == ["one"]
    await duel.all_is_well()


Trick = Callable[[HandWorker], Awaitable[None]]


def frame(**content: Any) -> Trick:
    async def send(worker: HandWorker) -> None:
        await worker.send(**content)

    return send


def beat(lease: Duration) -> Trick:
    return frame(heartbeat=pb.Heartbeat(sequence=1, lease=lease))


def result(**content: Any) -> Trick:
    return frame(result=pb.Results(results=[pb.Result(**content)]))


SOME = encode(2**40)  # an id that a job could have
FORBIDDEN: dict[str, tuple[Trick, str]] = {
    "a second hello": (frame(hello=pb.Hello(worker_id="another", incarnation=b"x" * 16, slots=1)), "a second time"),
    "an empty frame": (frame(), "without content"),
    "a result of nothing": (result(outcome=Outcome(state=OUTCOME_STATE_SUCCESS)), "names no job"),
    "a result without an outcome": (result(job_id=SOME, fence=1), "has no outcome"),
    "a state of the future": (result(job_id=SOME, fence=1, outcome=Outcome(state=77)), "has no outcome"),  # type: ignore[arg-type]
    "a frame over its limit": (
        result(job_id=SOME, outcome=Outcome(state=OUTCOME_STATE_SUCCESS, message=LONG)),
        "1,048,576",
    ),
    "a lease of ages": (beat(Duration(seconds=200_000_000_000)), "7 days"),
    "a lease that is no duration": (beat(Duration(seconds=LONG_MAX, nanos=2**31 - 1)), "7 days"),
    "a lease below zero": (beat(Duration(seconds=-1)), "7 days"),
}


async def test_what_the_protocol_forbids_ends_the_stream_with_a_reason(duel: Duel) -> None:
    for name, (trick, words) in FORBIDDEN.items():
        hostile = await duel.connect("hostile")
        await trick(hostile)
        away = await end_of(hostile)
        assert away is not None and away.reason == pb.GO_AWAY_REASON_PROTOCOL_ERROR, name
        assert words in away.message, f"{name}: {away.message}"
    await duel.all_is_well()


async def test_a_flood_of_heartbeats_delays_nobody(duel: Duel) -> None:
    for number in range(20_000):
        beat = pb.Heartbeat(sequence=number, answered_sequence=number, lease=Duration(seconds=30))
        await duel.hostile.send(heartbeat=beat)
    await duel.all_is_well()


async def test_numbers_beyond_all_measure_change_nothing_for_others(duel: Duel) -> None:
    hostile = duel.hostile
    ref = pb.JobRef(job_id=duel.held.job_id, fence=LONG_MAX)
    for limit in (-1, -LONG_MAX, 0):
        await hostile.credit(limit)
    await hostile.send(assignment_ack=pb.AssignmentAck(fences=[-1, 0, LONG_MAX]))
    await hostile.send(started=pb.Started(jobs=[ref, pb.JobRef(job_id="nonsense", fence=-1)]))
    await hostile.send(cancel_ack=pb.CancelAck(jobs=[ref, pb.JobRef(job_id="nonsense", fence=-1)]))
    await hostile.send(heartbeat=pb.Heartbeat(sequence=-5, answered_sequence=LONG_MAX, busy_slots=-7))
    await hostile.send(heartbeat=pb.Heartbeat(sequence=LONG_MAX, answered_sequence=LONG_MAX, busy_slots=2**31 - 1))
    await hostile.send(inventory=pb.Inventory())
    await hostile.barrier()
    assert not hostile.received  # a credit below zero is none
    # A result with such numbers is a result; what can't be is cut.
    [mine] = await duel.give(hostile)
    outcome = Outcome(state=OUTCOME_STATE_FAILED, exit_code=-(2**31), reason="R" * 5000 + "\0", message="m\0" * 100_000)
    outcome.run_duration.CopyFrom(Duration(seconds=LONG_MAX, nanos=-(2**31)))
    result = pb.Result(job_id=mine.job_id, fence=mine.fence, outcome=outcome, log_end_offset=-LONG_MAX)
    await hostile.send(result=pb.Results(results=[result, result]))
    verdicts = (await hostile.expect("result_ack")).result_ack.verdicts
    assert pb.RESULT_STATUS_RECORDED in {verdict.status for verdict in verdicts}
    job = await duel.job(mine.job_id)
    assert job.state == job_pb2.JOB_STATE_FAILED
    assert len(job.outcome.message) <= 4000 and len(job.outcome.reason) <= 100
    assert job.start_time.ToNanoseconds() <= job.end_time.ToNanoseconds()
    listed = (await duel.mesh.jobs.ListJobs(job_service_pb2.ListJobsRequest())).jobs
    assert mine.job_id in {job.id for job in listed}
    await duel.all_is_well()


async def test_a_boundless_credit_does_not_swallow_the_queue(duel: Duel) -> None:
    await duel.hostile.credit(2**62)
    jobs = [job for _ in range(25) for job in await duel.submit(1000)]
    assert len(jobs) == len(set(jobs)) == 25_000
    received = await duel.hostile.assignments(20_000)
    assert len({assignment.job_id for assignment in received}) == len(received)
    await duel.hostile.barrier()
    assert len(duel.hostile.received) == 20_000  # twice the most slots that any worker has
    await duel.honest.credit(len(duel.honest.received) + 1)
    [one] = await duel.honest.assignments()
    assert await duel.honest.result(one) == "RECORDED"
    await duel.all_is_well()


async def test_a_worker_that_does_not_read_is_not_fed_on(duel: Duel) -> None:
    task = a_shell_task("x" * 250_000)
    await duel.hostile.credit(2**62)  # and it never reads
    specs = [job_pb2.JobSpec(task=task)] * 40
    for _ in range(12):
        await duel.mesh.jobs.BatchSubmitJobs(job_service_pb2.BatchSubmitJobsRequest(specs=specs))  # 10 MB each
    await duel.all_is_well()


async def test_a_stream_that_never_says_hello_is_refused(duel: Duel) -> None:
    async with grpc.aio.insecure_channel(duel.mesh.schedulers[0].address) as channel:  # with no limits of ours
        for what in ("no protobuf", "a message over the limit", "a heartbeat before hello", "silence"):
            await _never_says_hello(what, channel)
    await duel.all_is_well()


async def _never_says_hello(what: str, channel: grpc.aio.Channel) -> None:
    call: Any = channel.stream_stream("/farhand.api.worker.v1.WorkerService/Connect")()
    first = {
        "no protobuf": b"\xff\xff\xff",
        "a message over the limit": pb.ConnectRequest(hello=pb.Hello(host="x" * (17 << 20))).SerializeToString(),
        "a heartbeat before hello": pb.ConnectRequest(heartbeat=pb.Heartbeat(sequence=1)).SerializeToString(),
    }
    if what == "silence":
        await call.done_writing()
    else:
        await call.write(first[what])
    async with asyncio.timeout(SECONDS):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            while await call.read() is not grpc.aio.EOF:
                pass
            raise await refusal_of(call)
    expected = "RESOURCE_EXHAUSTED" if what == "a message over the limit" else "INVALID_ARGUMENT"
    assert refused.value.code().name == expected, refused.value


async def refusal_of(call: Any) -> Exception:
    """The error of a call that has ended."""
    return grpc.aio.AioRpcError(
        await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    )
