"""A storm of workers is admitted at a bounded rate, and a replica takes no more streams than it is told."""

import dataclasses
import secrets
from typing import Any

import grpc

from farhand.api.worker.v1 import session_pb2 as pb
from farhand.kernel.job_id import encode
from farhand.runtime.grpc_channel import RemoteError, remote_error
from tests.fixtures.scheduler_service import HandWorker, SchedulerService


async def a_replica(scheduler: SchedulerService, **settings: Any) -> SchedulerService:
    service = SchedulerService(scheduler.database, dataclasses.replace(scheduler.settings, **settings))
    await service.start()
    return service


async def tried(scheduler: SchedulerService, **hello: Any) -> HandWorker | RemoteError:
    try:
        return await scheduler.worker(**hello)
    except grpc.aio.AioRpcError as error:
        return remote_error(error)


async def test_who_comes_too_fast_is_told_when_to_come_again(scheduler: SchedulerService) -> None:
    strict = await a_replica(scheduler, admit_rate=0.01)
    assert isinstance(await tried(strict), HandWorker)
    refused = await tried(strict)
    assert isinstance(refused, RemoteError)
    assert refused.code is grpc.StatusCode.UNAVAILABLE and refused.reason == "OVERLOADED"
    assert refused.retry_delay is not None and refused.retry_delay > 0
    await strict.stop()


async def test_workers_that_hold_jobs_are_admitted_before_idle_ones(scheduler: SchedulerService) -> None:
    strict = await a_replica(scheduler, admit_rate=4.0)
    answers = [await tried(strict) for _ in range(4)]
    assert isinstance(answers[-1], RemoteError)
    held = [pb.HeldJob(job_id=encode(1), fence=1, phase=pb.HELD_PHASE_FINISHED)]
    assert isinstance(await tried(strict, held=held), HandWorker)
    await strict.stop()


async def test_a_full_replica_takes_no_more_streams_but_the_next_one_of_a_worker_that_it_has(
    scheduler: SchedulerService,
) -> None:
    small = await a_replica(scheduler, max_workers=1)
    incarnation = secrets.token_bytes(16)
    first = await small.worker("w", incarnation=incarnation)
    refused = await tried(small)
    assert isinstance(refused, RemoteError) and refused.reason == "OVERLOADED"
    assert isinstance(await tried(small, worker_id="w", incarnation=incarnation), HandWorker)
    assert (await first.expect("go_away")).go_away.reason == pb.GO_AWAY_REASON_SUPERSEDED
    await small.stop()
