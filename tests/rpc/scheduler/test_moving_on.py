"""Make before break, from the scheduler's side: it serves workers that it sends on until they have other streams."""

import asyncio
import dataclasses
import secrets
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio

from farhand.api.worker.v1 import session_pb2 as pb
from farhand.runtime.grpc_channel import remote_error
from tests.fixtures.scheduler_service import SchedulerService

INCARNATION = secrets.token_bytes(16)


@pytest_asyncio.fixture
async def patient(scheduler: SchedulerService) -> AsyncIterator[SchedulerService]:
    """A replica whose stop waits for its workers; `scheduler` is the one beside it."""
    service = SchedulerService(scheduler.database, dataclasses.replace(scheduler.settings, drain_timeout=15.0))
    await service.start()
    yield service
    await service.stop()


async def test_a_stopping_scheduler_records_results_until_its_workers_have_left(
    scheduler: SchedulerService, patient: SchedulerService
) -> None:
    worker = await patient.worker("w", incarnation=INCARNATION)
    job = await scheduler.submit()
    await worker.credit(1)
    [assignment] = await worker.assignments()
    patient.lifecycle.stopping.set()
    assert (await worker.expect("go_away")).go_away.reason == pb.GO_AWAY_REASON_SHUTDOWN
    await worker.barrier()  # heartbeats are answered
    assert await worker.result(assignment) == "RECORDED"
    assert not patient.task.done()
    held = pb.HeldJob(job_id=job.id, fence=assignment.fence, phase=pb.HELD_PHASE_FINISHED)
    moved = await scheduler.worker("w", incarnation=INCARNATION, held=[held])
    assert await moved.result(assignment) == "DUPLICATE"
    assert (await worker.expect("go_away")).go_away.reason == pb.GO_AWAY_REASON_SUPERSEDED
    await asyncio.wait_for(patient.task, 10)  # the last one has left, so it is over before the time is


async def test_a_stopping_scheduler_takes_no_more_streams_and_answers_everything_else(
    scheduler: SchedulerService, patient: SchedulerService
) -> None:
    worker = await patient.worker()
    patient.lifecycle.stopping.set()
    await worker.expect("go_away")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await patient.worker()
    assert remote_error(refused.value).reason == "SHUTTING_DOWN"
    job = await patient.submit()
    other = await scheduler.worker()
    await other.credit(1)
    assert [assignment.job_id for assignment in await other.assignments()] == [job.id]
    await worker.close()
    await asyncio.wait_for(patient.task, 10)


async def test_nothing_is_assigned_behind_go_away(scheduler: SchedulerService, patient: SchedulerService) -> None:
    worker = await patient.worker()
    await worker.credit(1000)
    submits = asyncio.create_task(scheduler.submit_many(200))
    await worker.barrier()
    patient.lifecycle.stopping.set()
    await worker.expect("go_away")
    so_far = len(worker.received)
    await submits
    await scheduler.submit_many(5)
    await worker.send(heartbeat=pb.Heartbeat(sequence=2, lease=worker.welcome.lease))
    await worker.expect("heartbeat_ack")
    assert len(worker.received) == so_far
    await worker.close()


async def test_a_worker_that_does_not_leave_is_cut_off_when_the_time_is_over(scheduler: SchedulerService) -> None:
    worker = await scheduler.worker()  # this one waits 0.2 s
    scheduler.lifecycle.stopping.set()
    await worker.expect("go_away")
    assert (await worker.expect("go_away")).go_away.reason == pb.GO_AWAY_REASON_SHUTDOWN
    assert await worker.next() is None
    await scheduler.task


async def test_an_old_stream_is_sent_on_and_served_until_its_worker_has_another(scheduler: SchedulerService) -> None:
    service = SchedulerService(scheduler.database, dataclasses.replace(scheduler.settings, session_age=1.0))
    await service.start()
    worker = await service.worker("w", incarnation=INCARNATION)
    await scheduler.submit()
    await worker.credit(1)
    [assignment] = await worker.assignments()
    assert (await worker.expect("go_away")).go_away.reason == pb.GO_AWAY_REASON_REBALANCE
    held = pb.HeldJob(job_id=assignment.job_id, fence=assignment.fence, phase=pb.HELD_PHASE_RUNNING)
    other = await service.worker()
    await other.expect("go_away")  # the loop has looked again
    assert await worker.result(assignment) == "RECORDED"
    moved = await service.worker("w", incarnation=INCARNATION, held=[held])
    assert (await worker.expect("go_away")).go_away.reason == pb.GO_AWAY_REASON_SUPERSEDED
    await moved.close()
    await service.stop()


async def test_a_replica_that_joins_is_given_some_of_the_streams(scheduler: SchedulerService) -> None:
    workers = [await scheduler.worker() for _ in range(6)]
    joined = SchedulerService(scheduler.database, scheduler.settings)
    await joined.start()
    waits = [asyncio.create_task(worker.expect("go_away")) for worker in workers]
    done, rest = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    assert {task.result().go_away.reason for task in done} == {pb.GO_AWAY_REASON_REBALANCE}
    assert len(done) == 1  # one at a time
    for task in rest:
        task.cancel()
    await asyncio.wait(rest)
    for worker in workers:
        await worker.close()
    await joined.stop()
