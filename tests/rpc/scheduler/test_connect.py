"""The worker stream, frame by frame, against a real scheduler: design.md, "The worker stream"."""

import asyncio
import secrets

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict

from farhand.api.registry.v1.worker_pb2 import WORKER_STATE_LOST
from farhand.api.scheduler.v1.job_service_pb2 import GetJobRequest
from farhand.api.scheduler.v1.worker_control_service_pb2 import DrainWorkerRequest, FenceWorkerRequest
from farhand.api.worker.v1 import session_pb2 as pb
from farhand.kernel.protocol import PROTOCOL_VERSION
from farhand.runtime.database import connect
from farhand.runtime.grpc_channel import remote_error
from tests.fixtures.scheduler_service import SchedulerService

INCARNATION = secrets.token_bytes(16)


async def test_a_job_goes_out_and_its_result_comes_back(scheduler: SchedulerService) -> None:
    worker = await scheduler.worker()
    job = await scheduler.submit()
    await worker.credit(1)
    [assignment] = await worker.assignments()
    assert assignment.job_id == job.id and assignment.fence > 0 and assignment.tenant == "main"
    assert MessageToDict(assignment.task.properties) == {"commands": ["true"]}
    await worker.send(started=pb.Started(jobs=[pb.JobRef(job_id=job.id, fence=assignment.fence)]))
    await scheduler.until(job.id, "RUNNING")
    assert await worker.result(assignment) == "RECORDED"
    ended = await scheduler.until(job.id, "SUCCESS")
    assert ended.worker == worker.hello.worker_id and ended.fence == assignment.fence
    assert await worker.result(assignment) == "DUPLICATE"


async def test_no_more_is_assigned_than_the_credit_says(scheduler: SchedulerService) -> None:
    worker = await scheduler.worker()
    ids = await scheduler.submit_many(10)
    await worker.credit(3)
    first = await worker.assignments(3)
    await worker.barrier()
    assert [assignment.job_id for assignment in worker.received] == ids[:3]
    for assignment in first:
        await worker.result(assignment)
    await worker.barrier()
    assert len(worker.received) == 3  # a result is no credit
    await worker.credit(5)
    await worker.assignments(2)
    await worker.barrier()
    assert [assignment.job_id for assignment in worker.received] == ids[:5]  # P7: cumulative


async def test_an_older_credit_does_not_take_back_a_newer_one(scheduler: SchedulerService) -> None:
    worker = await scheduler.worker()
    await worker.credit(2)
    await worker.credit(1)
    await scheduler.submit_many(2)
    assert len(await worker.assignments(2)) == 2


async def test_jobs_go_only_to_workers_of_their_group_and_type(scheduler: SchedulerService) -> None:
    gpu = await scheduler.worker(group="gpu")
    other = await scheduler.worker(group="gpu", task_types=["some.Other"])
    await other.credit(5)
    await gpu.credit(5)
    await scheduler.submit(group="")
    wanted = await scheduler.submit(group="gpu")
    assert [assignment.job_id for assignment in await gpu.assignments()] == [wanted.id]
    await other.barrier()
    assert other.received == []


async def test_a_claim_looks_again_at_the_tenants_that_the_group_allows(scheduler: SchedulerService) -> None:
    forbidden, allowed = await scheduler.submit(tenant="main"), await scheduler.submit(tenant="other")
    connection = await connect(scheduler.database)
    await connection.execute("UPDATE scheduler.worker_group SET allowed_tenants = '{other}'")
    await connection.close()
    worker = await scheduler.worker()
    await worker.credit(5)
    assert [assignment.job_id for assignment in await worker.assignments()] == [allowed.id]
    await worker.barrier()
    assert len(worker.received) == 1 and await scheduler.state(forbidden.id) in ("CREATED", "FAILED")  # P10


async def test_work_spreads_over_the_workers_of_a_group(scheduler: SchedulerService) -> None:
    workers = [await scheduler.worker() for _ in range(3)]
    for worker in workers:
        await worker.credit(10)
        await worker.barrier()
    await scheduler.submit_many(6)
    for worker in workers:
        await worker.assignments(2)


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        ({"protocol_version": 99}, grpc.StatusCode.FAILED_PRECONDITION, "VERSION_UNSUPPORTED"),
        ({"slots": 0}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
        ({"incarnation": b"short"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
        ({"worker_id": "no spaces"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
        ({"worker_group": "gpuu"}, grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"),  # no registry to ask
    ],
)
async def test_a_bad_hello_is_refused_with_a_reason(
    scheduler: SchedulerService, change: dict[str, object], code: grpc.StatusCode, reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await scheduler.worker(**change)  # type: ignore[arg-type]
    assert refused.value.code() is code
    assert remote_error(refused.value).reason == reason


@pytest.mark.parametrize("theirs", [PROTOCOL_VERSION, PROTOCOL_VERSION + 1])
async def test_neighbouring_versions_agree_on_the_lower(scheduler: SchedulerService, theirs: int) -> None:
    worker = await scheduler.worker(protocol_version=theirs)
    assert worker.welcome.protocol_version == PROTOCOL_VERSION


async def test_a_version_that_is_too_far_away_is_refused_with_the_one_to_install(scheduler: SchedulerService) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await scheduler.worker(protocol_version=PROTOCOL_VERSION + 2)
    error = remote_error(refused.value)
    assert error.reason == "VERSION_UNSUPPORTED" and f"Install farhand {error.metadata['install']}" in error.message


async def test_a_first_frame_that_is_not_hello_is_refused(scheduler: SchedulerService) -> None:
    call = scheduler.workers.Connect()
    await call.write(pb.ConnectRequest(credit=pb.Credit(assignment_limit=1)))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.read()
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_second_hello_ends_the_stream(scheduler: SchedulerService) -> None:
    worker = await scheduler.worker()
    await worker.send(hello=worker.hello)
    assert (await worker.expect("go_away")).go_away.reason == pb.GO_AWAY_REASON_PROTOCOL_ERROR
    assert await worker.next() is None


async def test_a_newer_stream_wins_and_keeps_what_is_held(scheduler: SchedulerService) -> None:
    old = await scheduler.worker("w", incarnation=INCARNATION)
    job = await scheduler.submit()
    await old.credit(1)
    [assignment] = await old.assignments()
    held = pb.HeldJob(job_id=job.id, fence=assignment.fence, phase=pb.HELD_PHASE_RUNNING)
    new = await scheduler.worker("w", incarnation=INCARNATION, held=[held], lease=Duration(seconds=60))
    assert new.welcome.epoch > old.welcome.epoch
    assert [verdict.action for verdict in new.welcome.verdicts] == [pb.VERDICT_ACTION_KEEP]
    assert (await old.expect("go_away")).go_away.reason == pb.GO_AWAY_REASON_SUPERSEDED
    assert await new.result(assignment) == "RECORDED"


async def test_a_result_is_guarded_by_its_fence_and_not_by_the_epoch(scheduler: SchedulerService) -> None:
    old = await scheduler.worker("w", incarnation=INCARNATION)
    await scheduler.submit()
    await old.credit(1)
    [assignment] = await old.assignments()
    await old.close()
    held = pb.HeldJob(job_id=assignment.job_id, fence=assignment.fence, phase=pb.HELD_PHASE_FINISHED)
    new = await scheduler.worker("w", incarnation=INCARNATION, held=[held])
    assert [verdict.action for verdict in new.welcome.verdicts] == [pb.VERDICT_ACTION_RESEND_RESULT]
    assert await new.result(assignment) == "RECORDED"


async def test_what_was_assigned_and_never_arrived_goes_back_to_its_place(scheduler: SchedulerService) -> None:
    old = await scheduler.worker("w", incarnation=INCARNATION)
    ids = await scheduler.submit_many(2)
    await old.credit(1)
    [first] = await old.assignments()
    new = await scheduler.worker("w", incarnation=INCARNATION)
    await new.credit(2)
    again = await new.assignments(2)
    assert [assignment.job_id for assignment in again] == ids
    assert again[0].fence > first.fence
    assert await new.result(first) == "STALE"


async def test_a_stream_of_another_replica_is_superseded(
    scheduler: SchedulerService, second_scheduler: SchedulerService
) -> None:
    old = await scheduler.worker("w", incarnation=INCARNATION)
    await second_scheduler.worker("w", incarnation=INCARNATION)
    assert (await old.expect("go_away")).go_away.reason == pb.GO_AWAY_REASON_SUPERSEDED


async def test_a_submit_to_one_replica_reaches_a_worker_of_the_other(
    scheduler: SchedulerService, second_scheduler: SchedulerService
) -> None:
    worker = await second_scheduler.worker()
    await worker.credit(1)
    await worker.barrier()
    job = await scheduler.submit()
    [assignment] = await worker.assignments()
    await worker.result(assignment)
    await scheduler.until(job.id, "SUCCESS")


async def test_a_queued_job_is_killed_at_once(scheduler: SchedulerService) -> None:
    job = await scheduler.submit()
    assert (await scheduler.kill(job.id)).state == 8  # KILLED
    worker = await scheduler.worker()
    await worker.credit(1)
    await worker.barrier()
    assert worker.received == []


async def test_a_kill_is_confirmed_by_the_worker_and_ends_killed(scheduler: SchedulerService) -> None:
    worker = await scheduler.worker()
    job = await scheduler.submit()
    await worker.credit(1)
    [assignment] = await worker.assignments()
    kill = asyncio.create_task(scheduler.kill(job.id))
    cancel = (await worker.expect("cancel")).cancel
    assert [(one.job_id, one.fence) for one in cancel.jobs] == [(job.id, assignment.fence)]
    await worker.barrier()
    for _ in range(5):
        assert await scheduler.state(job.id) == "KILLING"
    assert not kill.done()  # P9: nobody has said yet that it won't start
    await worker.send(cancel_ack=pb.CancelAck(jobs=[pb.JobRef(job_id=job.id, fence=assignment.fence)]))
    assert (await kill).state == 4  # KILLING
    assert await worker.result(assignment) == "RECORDED"
    assert await scheduler.state(job.id) == "KILLED"  # whatever the worker made of it


async def test_a_kill_reaches_a_worker_of_another_replica(
    scheduler: SchedulerService, second_scheduler: SchedulerService
) -> None:
    worker = await second_scheduler.worker()
    job = await scheduler.submit()
    await worker.credit(1)
    [assignment] = await worker.assignments()
    kill = asyncio.create_task(scheduler.kill(job.id))
    await worker.expect("cancel")
    await worker.send(cancel_ack=pb.CancelAck(jobs=[pb.JobRef(job_id=job.id, fence=assignment.fence)]))
    await kill


async def test_nothing_is_assigned_after_a_drain_is_acknowledged(scheduler: SchedulerService) -> None:
    worker = await scheduler.worker()
    await worker.credit(100)
    submits = asyncio.create_task(scheduler.submit_many(50))
    await worker.send(draining=pb.Draining())
    await worker.expect("drain_ack")
    until_ack = len(worker.received)
    await submits
    await scheduler.submit_many(5)
    await worker.barrier()
    assert len(worker.received) == until_ack  # P8


async def test_an_operator_s_drain_reaches_the_worker_on_any_replica(
    scheduler: SchedulerService, second_scheduler: SchedulerService
) -> None:
    worker = await second_scheduler.worker("w")
    await worker.credit(5)
    await worker.barrier()
    answer = await scheduler.control.DrainWorker(DrainWorkerRequest(id="w"))
    assert answer.worker.state == 2  # DRAINING
    await scheduler.submit()
    await worker.expect("drain")
    await worker.expect("drain_ack")
    await worker.barrier()
    assert worker.received == []


async def test_draining_an_unknown_worker_names_those_that_look_like_it(scheduler: SchedulerService) -> None:
    await scheduler.worker("gpu-box-1")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await scheduler.control.DrainWorker(DrainWorkerRequest(id="gpu-box-2"))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert "gpu-box-1" in (refused.value.details() or "")


async def test_a_fenced_worker_is_sent_away_and_its_jobs_go_to_others_at_once(scheduler: SchedulerService) -> None:
    dead = await scheduler.worker("dead")
    job = await scheduler.submit()
    await dead.credit(1)
    [old] = await dead.assignments()
    answer = await scheduler.control.FenceWorker(FenceWorkerRequest(id="dead"))
    assert answer.worker.state == WORKER_STATE_LOST and answer.given_back_jobs == 1
    assert (await dead.expect("go_away")).go_away.reason == pb.GO_AWAY_REASON_LEASE_EXPIRED
    other = await scheduler.worker()
    await other.credit(1)
    [new] = await other.assignments()
    assert new.job_id == job.id and new.fence > old.fence
    again = await scheduler.worker("dead")
    assert await again.result(old) == "STALE"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await scheduler.control.FenceWorker(FenceWorkerRequest(id="deat"))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_goodbye_gives_back_what_is_held(scheduler: SchedulerService) -> None:
    worker = await scheduler.worker()
    ids = await scheduler.submit_many(2)
    await worker.credit(2)
    started, unstarted = await worker.assignments(2)
    await worker.send(
        goodbye=pb.Goodbye(
            abandoned=[
                pb.HeldJob(job_id=started.job_id, fence=started.fence, phase=pb.HELD_PHASE_RUNNING),
                pb.HeldJob(job_id=unstarted.job_id, fence=unstarted.fence, phase=pb.HELD_PHASE_RECEIVED),
            ]
        )
    )
    assert await worker.next() is None
    other = await scheduler.worker()
    await other.credit(2)
    assert [assignment.job_id for assignment in await other.assignments(2)] == ids
    lost = [(await scheduler.jobs.GetJob(GetJobRequest(id=job_id))).job.lost_deliveries for job_id in ids]
    assert lost == [1, 0]


async def test_a_result_that_was_never_started_goes_back_to_its_place(scheduler: SchedulerService) -> None:
    worker = await scheduler.worker()
    job = await scheduler.submit(max_deliveries=1)
    await worker.credit(1)
    [assignment] = await worker.assignments()
    returned = pb.Result(job_id=assignment.job_id, fence=assignment.fence, returned=True)
    await worker.send(result=pb.Results(results=[returned]))
    await worker.credit(2)
    [again] = await worker.assignments()
    assert again.job_id == job.id and again.fence > assignment.fence


async def test_a_heartbeat_is_answered_with_the_lease(scheduler: SchedulerService) -> None:
    worker = await scheduler.worker()
    assert worker.welcome.lease == Duration(seconds=60)
    await worker.send(heartbeat=pb.Heartbeat(sequence=1, lease=worker.welcome.lease))
    ack = (await worker.expect("heartbeat_ack")).heartbeat_ack
    assert ack.sequence == 1 and ack.lease == Duration(seconds=60) and ack.heartbeat_interval == Duration(seconds=10)


async def test_a_stopping_scheduler_sends_its_workers_on(scheduler: SchedulerService) -> None:
    worker = await scheduler.worker()
    scheduler.lifecycle.stopping.set()
    assert (await worker.expect("go_away")).go_away.reason == pb.GO_AWAY_REASON_SHUTDOWN
    await scheduler.task
