"""Submits against a real scheduler: once per request_id (P6), to the right workers (P10), decided at once (P11)."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from farhand.api.scheduler.v1 import job_pb2
from farhand.api.scheduler.v1.job_service_pb2 import (
    BatchSubmitJobsRequest,
    GetJobRequest,
    ListJobsRequest,
    SubmitJobRequest,
)
from farhand.api.worker.v1.worker_service_pb2_grpc import WorkerServiceStub
from farhand.runtime.grpc_channel import make_channel, remote_error
from farhand.runtime.settings import DialSettings
from farhand.scheduler.core.declared import Group, RemovedGroup
from tests.fixtures.fake_registry import FakeRegistry
from tests.fixtures.scheduler_service import SchedulerService, a_scheduler, declare
from tests.tasks import SHELL


async def test_the_same_request_id_gives_the_same_job(scheduler: SchedulerService) -> None:
    request = SubmitJobRequest(spec=scheduler.spec(), request_id="once")
    first = (await scheduler.jobs.SubmitJob(request)).job
    again = (await scheduler.jobs.SubmitJob(request)).job
    assert again.id == first.id
    assert len((await scheduler.jobs.ListJobs(ListJobsRequest())).jobs) == 1


async def test_a_submit_answers_what_a_read_would(scheduler: SchedulerService) -> None:
    job = await scheduler.submit(group="gpu", namespace="company.team", max_deliveries=2)
    assert job == (await scheduler.jobs.GetJob(GetJobRequest(id=job.id))).job
    assert job.spec.max_deliveries == 2 and job.spec.task.type == SHELL


async def test_the_same_request_id_at_once_on_two_replicas_makes_one_job(
    scheduler: SchedulerService, second_scheduler: SchedulerService
) -> None:
    request = SubmitJobRequest(spec=scheduler.spec(), request_id="once")
    answers = await asyncio.gather(
        *(replica.jobs.SubmitJob(request) for replica in (scheduler, second_scheduler) for _ in range(10))
    )
    assert len({answer.job.id for answer in answers}) == 1
    assert len((await scheduler.jobs.ListJobs(ListJobsRequest())).jobs) == 1


async def test_the_same_request_id_for_something_else_is_refused(scheduler: SchedulerService) -> None:
    await scheduler.jobs.SubmitJob(SubmitJobRequest(spec=scheduler.spec(), request_id="once"))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await scheduler.jobs.SubmitJob(SubmitJobRequest(spec=scheduler.spec(fallback="FAIL"), request_id="once"))
    assert remote_error(refused.value).reason == "REQUEST_ID_REUSED"


async def test_a_repeated_batch_gets_the_same_answers_for_its_good_and_its_bad_rows(
    scheduler: SchedulerService,
) -> None:
    bad = scheduler.spec()
    bad.task.properties.update({"commands": ["a\0b"]})
    request = BatchSubmitJobsRequest(specs=[*[scheduler.spec()] * 250, bad, *[scheduler.spec()] * 250], request_id="b")
    first = await scheduler.jobs.BatchSubmitJobs(request)
    assert [index for index, result in enumerate(first.results) if result.HasField("error")] == [250]
    again = await scheduler.jobs.BatchSubmitJobs(request)
    assert [result.job_id for result in again.results] == [result.job_id for result in first.results]
    assert again.results[250].error.message == first.results[250].error.message


@pytest.fixture
async def following(fresh_database: str, registry: FakeRegistry) -> AsyncIterator[SchedulerService]:
    """A scheduler that follows a registry with the default group alone."""
    async with a_scheduler(fresh_database, registry=registry.address) as service:
        yield service


async def test_a_request_that_made_no_job_may_be_tried_again_with_its_id(
    following: SchedulerService, registry: FakeRegistry
) -> None:
    one = SubmitJobRequest(spec=following.spec(group="gpu"), request_id="one")
    many = BatchSubmitJobsRequest(specs=[following.spec(group="gpu")] * 3, request_id="many")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await following.jobs.SubmitJob(one)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert all(row.HasField("error") for row in (await following.jobs.BatchSubmitJobs(many)).results)

    await registry.declare(Group("u-gpu", "gpu"))
    job = (await following.jobs.SubmitJob(one)).job
    rows = (await following.jobs.BatchSubmitJobs(many)).results
    assert job.worker_group == "gpu" and all(row.job_id for row in rows)

    # What made a job is remembered, also when nothing could be made of it any more.
    await registry.declare(RemovedGroup("u-gpu"))
    await following.until(job.id, "KILLED")
    assert (await following.jobs.SubmitJob(one)).job.id == job.id
    assert (await following.jobs.BatchSubmitJobs(many)).results == rows


async def test_of_a_batch_with_a_job_the_refusals_are_remembered_too(
    following: SchedulerService, registry: FakeRegistry
) -> None:
    request = BatchSubmitJobsRequest(specs=[following.spec(), following.spec(group="gpu")], request_id="both")
    first = await following.jobs.BatchSubmitJobs(request)
    assert [row.WhichOneof("result") for row in first.results] == ["job_id", "error"]
    await registry.declare(Group("u-gpu", "gpu"))
    await following.submit(group="gpu")
    assert await following.jobs.BatchSubmitJobs(request) == first


async def test_jobs_submitted_one_after_another_are_assigned_in_that_order(scheduler: SchedulerService) -> None:
    ids = [(await scheduler.submit()).id for _ in range(20)]
    worker = await scheduler.worker()
    await worker.credit(20)
    assert [assignment.job_id for assignment in await worker.assignments(20)] == ids  # P5


@pytest.mark.parametrize(("fallback", "state"), [("WAIT", "CREATED"), ("FAIL", "FAILED"), ("CANCEL", "KILLED")])
async def test_a_fallback_is_decided_with_the_submit(scheduler: SchedulerService, fallback: str, state: str) -> None:
    job = await scheduler.submit(group="gpu", fallback=fallback)
    assert job_pb2.JobState.Name(job.state) == f"JOB_STATE_{state}"
    worker = await scheduler.worker(group="gpu")
    served = await scheduler.submit(group="gpu", fallback=fallback)
    assert job_pb2.JobState.Name(served.state) == "JOB_STATE_CREATED"
    await worker.close()


@pytest.fixture
async def guarded(fresh_database: str, tmp_path: Path) -> AsyncIterator[SchedulerService]:
    """A scheduler that asks for tokens: an admin's, and workers' for one tenant or for another group."""
    tokens = tmp_path / "tokens.toml"
    entries = [
        ("admin", 'role = "admin"'),
        ("of-other", 'role = "worker"\nworker_group = "_default"\ntenants = ["other"]'),
        ("of-gpu", 'role = "worker"\nworker_group = "gpu"'),
    ]
    tokens.write_text(
        "\n".join(
            f'[[token]]\nname = "{name}"\nsha256 = "{hashlib.sha256(name.encode()).hexdigest()}"\n{rest}'
            for name, rest in entries
        )
    )
    await declare(fresh_database, ["", "gpu"])
    async with a_scheduler(fresh_database, tokens=tokens, token="admin") as service:
        yield service


async def test_a_worker_gets_only_jobs_of_tenants_that_its_credential_admits(guarded: SchedulerService) -> None:
    async with make_channel(guarded.address, DialSettings(token="of-other")) as channel:
        guarded.workers = WorkerServiceStub(channel)
        worker = await guarded.worker()
        await guarded.submit(tenant="main")
        mine = await guarded.submit(tenant="other")
        await worker.credit(5)
        assert [assignment.job_id for assignment in await worker.assignments()] == [mine.id]
        await worker.barrier()
        assert len(worker.received) == 1  # P10
        await worker.close()


async def test_a_worker_s_credential_is_for_its_group_alone(guarded: SchedulerService) -> None:
    async with make_channel(guarded.address, DialSettings(token="of-gpu")) as channel:
        guarded.workers = WorkerServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await guarded.worker(group="")
        assert remote_error(refused.value).reason == "GROUP_NOT_ALLOWED"


async def test_a_worker_s_token_submits_nothing(guarded: SchedulerService) -> None:
    async with make_channel(guarded.address, DialSettings(token="of-gpu")) as channel:
        guarded.jobs = type(guarded.jobs)(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await guarded.submit()
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_nobody_without_a_token_is_heard(guarded: SchedulerService) -> None:
    async with make_channel(guarded.address, DialSettings()) as channel:
        guarded.jobs = type(guarded.jobs)(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await guarded.submit()
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
