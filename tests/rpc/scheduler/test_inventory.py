"""A worker whose heartbeats are at odds with what it was given is asked, and the difference is mended."""

import asyncio

from google.protobuf.duration_pb2 import Duration

from farhand.api.scheduler.v1.job_service_pb2 import GetJobRequest
from farhand.api.worker.v1 import session_pb2 as pb
from farhand.kernel.job_id import encode
from tests.fixtures.scheduler_service import HandWorker, SchedulerService

LEASE = Duration(seconds=60)


def held(assignment: pb.Assignment, phase: pb.HeldPhase.ValueType = pb.HELD_PHASE_RUNNING) -> pb.HeldJob:
    return pb.HeldJob(job_id=assignment.job_id, fence=assignment.fence, phase=phase)


async def beats(worker: HandWorker, busy: int, first: int = 1) -> None:
    """Two heartbeats that say so."""
    for sequence in (first, first + 1):
        await worker.send(
            heartbeat=pb.Heartbeat(sequence=sequence, answered_sequence=sequence - 1, lease=LEASE, busy_slots=busy)
        )
        await worker.expect("heartbeat_ack")


async def barrier(worker: HandWorker, busy: int) -> None:
    await worker.send(heartbeat=pb.Heartbeat(sequence=99, answered_sequence=98, lease=LEASE, busy_slots=busy))
    await worker.expect("heartbeat_ack")


async def test_what_was_sent_and_is_not_held_goes_back_to_its_place_at_no_cost(scheduler: SchedulerService) -> None:
    worker = await scheduler.worker()
    lost, kept = await scheduler.submit_many(2)
    await worker.credit(2)
    _, running = await worker.assignments(2)
    await beats(worker, busy=1)
    await worker.expect("inventory_request")
    await worker.send(inventory=pb.Inventory(held=[held(running)]))
    other = await scheduler.worker()
    await other.credit(1)
    [again] = await other.assignments()
    assert again.job_id == lost
    assert (await scheduler.jobs.GetJob(GetJobRequest(id=lost))).job.lost_deliveries == 0
    assert await worker.result(running) == "RECORDED"
    assert await scheduler.state(kept) == "SUCCESS"


async def test_an_assignment_that_came_after_the_question_is_not_judged_by_the_answer(
    scheduler: SchedulerService,
) -> None:
    worker = await scheduler.worker()
    await scheduler.submit()
    await worker.credit(1)
    [first] = await worker.assignments()
    await beats(worker, busy=0)
    await worker.expect("inventory_request")
    later = await scheduler.submit()
    await worker.credit(2)
    [second] = await worker.assignments()
    assert second.job_id == later.id
    await worker.send(inventory=pb.Inventory(held=[held(first)]))  # made before the second came
    await barrier(worker, busy=2)
    assert await worker.result(second) == "RECORDED"
    assert await worker.result(first) == "RECORDED"


async def test_a_result_that_waits_is_held_and_stays_the_worker_s(scheduler: SchedulerService) -> None:
    worker = await scheduler.worker()
    await scheduler.submit()
    await worker.credit(1)
    [assignment] = await worker.assignments()
    await beats(worker, busy=0)
    await worker.expect("inventory_request")
    await worker.send(inventory=pb.Inventory(held=[held(assignment, pb.HELD_PHASE_FINISHED)]))
    assert await worker.result(assignment) == "RECORDED"


async def test_what_is_held_and_was_never_assigned_is_to_end(scheduler: SchedulerService) -> None:
    worker = await scheduler.worker()
    await beats(worker, busy=1)
    await worker.expect("inventory_request")
    stray = pb.HeldJob(job_id=encode(77), fence=5, phase=pb.HELD_PHASE_RUNNING)
    await worker.send(inventory=pb.Inventory(held=[stray]))
    [cancel] = (await worker.expect("cancel")).cancel.jobs
    assert (cancel.job_id, cancel.fence) == (stray.job_id, stray.fence)


async def test_an_inventory_that_nobody_asked_for_changes_nothing(scheduler: SchedulerService) -> None:
    worker = await scheduler.worker()
    await scheduler.submit()
    await worker.credit(1)
    [assignment] = await worker.assignments()
    await worker.send(inventory=pb.Inventory())
    await barrier(worker, busy=1)
    assert await worker.result(assignment) == "RECORDED"


async def test_a_worker_whose_heartbeats_agree_is_not_asked(scheduler: SchedulerService) -> None:
    worker = await scheduler.worker()
    await scheduler.submit()
    await worker.credit(1)
    [assignment] = await worker.assignments()
    asked = asyncio.create_task(worker.expect("inventory_request"))
    for sequence in range(1, 6):
        await worker.send(
            heartbeat=pb.Heartbeat(sequence=sequence, answered_sequence=sequence - 1, lease=LEASE, busy_slots=1)
        )
    result = pb.Result(job_id=assignment.job_id, fence=assignment.fence, returned=True)
    await worker.send(result=pb.Results(results=[result]))
    await scheduler.until(assignment.job_id, "CREATED")
    assert not asked.done()
    asked.cancel()
    await asyncio.wait([asked])
