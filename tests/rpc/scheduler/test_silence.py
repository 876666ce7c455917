"""A worker that is connected and says nothing, or hears nothing, is let go before its lease is over; no job is."""

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest_asyncio
from asyncpg import Connection

from farhand.api.scheduler.v1 import job_service_pb2
from farhand.api.worker.v1 import session_pb2 as pb
from farhand.runtime.database import connect
from tests.fixtures.scheduler_service import SECONDS, SchedulerService, a_scheduler, declare

INCARNATION = secrets.token_bytes(16)


@pytest_asyncio.fixture
async def hasty(fresh_database: str) -> AsyncIterator[SchedulerService]:
    """A scheduler whose default group has a lease of 4 s."""
    await declare(fresh_database, [""], lease_ms=4_000)
    async with a_scheduler(fresh_database) as service:
        yield service


@pytest_asyncio.fixture
async def connection(fresh_database: str) -> AsyncIterator[Connection]:
    """A look into the tables."""
    opened = await connect(fresh_database)
    yield opened
    await opened.close()


async def session_state(connection: Connection) -> str:
    return str(await connection.fetchval("SELECT state FROM scheduler.session"))


async def test_a_silent_worker_is_disconnected_within_its_lease_and_keeps_its_job(
    hasty: SchedulerService, connection: Connection
) -> None:
    worker = await hasty.worker("w", incarnation=INCARNATION)
    job = await hasty.submit()
    await worker.credit(2)
    [assignment] = await worker.assignments()
    assert (await worker.expect("go_away")).go_away.reason == pb.GO_AWAY_REASON_SLOW_CONSUMER
    assert await session_state(connection) == "DISCONNECTED"
    held = pb.HeldJob(job_id=job.id, fence=assignment.fence, phase=pb.HELD_PHASE_RUNNING)
    back = await hasty.worker("w", incarnation=INCARNATION, held=[held])
    assert [verdict.action for verdict in back.welcome.verdicts] == [pb.VERDICT_ACTION_KEEP]
    assert await back.result(assignment) == "RECORDED"


async def test_a_stopped_worker_is_disconnected_also_where_its_stream_can_not_be_written_to(
    hasty: SchedulerService, connection: Connection
) -> None:
    worker = await hasty.worker()
    await worker.credit(100)
    # More than the buffers between the two ends hold, and none of it is read.
    big = hasty.spec()
    big.task.properties.update({"commands": ["#" * 200_000]})
    for _ in range(8):
        await hasty.jobs.BatchSubmitJobs(job_service_pb2.BatchSubmitJobsRequest(specs=[big] * 10))
    async with asyncio.timeout(SECONDS):
        while (state := await session_state(connection)) == "CONNECTED":
            await asyncio.sleep(0.05)
    assert state == "DISCONNECTED"
    await worker.close()


async def test_a_worker_whose_heartbeats_say_that_it_hears_nothing_is_sent_away(scheduler: SchedulerService) -> None:
    worker = await scheduler.worker()
    for sequence in range(1, 6):
        await worker.send(heartbeat=pb.Heartbeat(sequence=sequence, lease=worker.welcome.lease))
    assert (await worker.expect("go_away")).go_away.reason == pb.GO_AWAY_REASON_SLOW_CONSUMER
