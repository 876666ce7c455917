"""What a scheduler makes of reports that come late, of drains that nobody was there to hear, of jobs that are gone."""

import asyncio
import secrets
from typing import Any, cast

import pytest

from farhand.api.scheduler.v1.job_service_pb2 import KillJobRequest
from farhand.api.scheduler.v1.worker_control_service_pb2 import DrainWorkerRequest
from farhand.api.worker.v1 import session_pb2 as pb
from farhand.kernel.job_id import decode
from farhand.runtime.database import connect
from farhand.scheduler.core.lease import LeaseTerms
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.loops.sessions import Sessions
from farhand.scheduler.loops.stream import Outbox, Stream, Streams
from tests.fixtures.scheduler_service import SECONDS, SchedulerService


async def test_a_job_is_handed_back_only_under_its_fence(scheduler: SchedulerService) -> None:
    worker = await scheduler.worker()
    job = await scheduler.submit()
    await worker.credit(1)
    [assignment] = await worker.assignments()
    stale = pb.Result(job_id=job.id, fence=assignment.fence - 1, returned=True)
    await worker.send(result=pb.Results(results=[stale]))
    await worker.barrier()
    assert await scheduler.state(job.id) == "ASSIGNED"  # P4
    assert await worker.result(assignment) == "RECORDED"


async def test_a_worker_that_was_away_is_told_that_it_drains(scheduler: SchedulerService) -> None:
    incarnation = secrets.token_bytes(16)
    worker = await scheduler.worker("w", incarnation=incarnation)
    await worker.close()
    await scheduler.control.DrainWorker(DrainWorkerRequest(id="w"))
    again = await scheduler.worker("w", incarnation=incarnation)
    await again.expect("drain")
    assert (await again.expect("drain_ack")).drain_ack.epoch == again.welcome.epoch


async def test_a_kill_ends_when_its_job_is_forgotten_meanwhile(scheduler: SchedulerService) -> None:
    job = await scheduler.submit()
    connection = await connect(scheduler.database)
    key = decode(job.id)
    await connection.execute("DELETE FROM scheduler.queue WHERE key = $1", key)  # nowhere: its end is forgotten first
    killing = asyncio.ensure_future(scheduler.jobs.KillJob(KillJobRequest(id=job.id)))
    looks = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%kill_acked%' AND pid <> pg_backend_pid()"
    async with asyncio.timeout(SECONDS):
        while not await connection.fetchval(looks):
            await asyncio.sleep(0)
    await connection.execute("DELETE FROM scheduler.job WHERE key = $1", key)
    await connection.close()
    async with asyncio.timeout(SECONDS / 4):
        await asyncio.wait([killing])
    assert killing.done()


async def test_a_stream_ends_quietly_while_the_database_is_away(caplog: pytest.LogCaptureFixture) -> None:
    class Away:
        def acquire(self) -> "Away":
            return self

        async def __aenter__(self) -> None:
            raise ConnectionRefusedError

    streams, anything = Streams(), cast(Any, None)
    sessions = Sessions(
        cast(Any, Away()), HotConnection(""), streams, anything, lambda uid: 60_000, writer="w", encode_log=str.encode
    )
    stream = Stream(1, 1, "w", "g", "", None, frozenset(), LeaseTerms(0), Outbox())
    streams.add(stream)
    caplog.set_level("INFO")
    await sessions.closed(stream)
    assert streams.all() == [] and "its lease tells" in caplog.text
