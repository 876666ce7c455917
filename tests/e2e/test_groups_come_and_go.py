"""Worker groups are made, narrowed and deleted in a real registry while a real scheduler has jobs in them."""

import asyncio

import grpc
import pytest

from farhand.api.registry.v1 import (
    roll_service_pb2,
    tenant_pb2,
    tenant_service_pb2,
    worker_group_pb2,
    worker_group_service_pb2,
    worker_pb2,
)
from farhand.api.scheduler.v1 import job_pb2, job_service_pb2
from farhand.runtime.grpc_channel import RemoteError, remote_error
from tests.fixtures.mesh import Mesh
from tests.tasks import a_shell_task

SECONDS = 30.0


async def submit(mesh: Mesh, group: str, command: str = "true", tenant: str = "") -> str:
    spec = job_pb2.JobSpec(task=a_shell_task(command), worker_group=group, tenant=tenant)
    return (await mesh.jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec))).job.id


async def refusal(mesh: Mesh, group: str, tenant: str = "") -> RemoteError:
    """Why a submit to this group is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await submit(mesh, group, tenant=tenant)
    return remote_error(refused.value)


async def state(mesh: Mesh, job: str, wanted: "job_pb2.JobState.ValueType") -> job_pb2.Job:
    """The job, once it is in this state."""
    async with asyncio.timeout(SECONDS):
        async for update in mesh.jobs.WatchJobs(job_service_pb2.WatchJobsRequest(ids=[job])):
            if update.jobs and update.jobs[0].state == wanted:
                break
    return (await mesh.jobs.GetJob(job_service_pb2.GetJobRequest(id=job))).job


async def delete(mesh: Mesh, group: str, *, force: bool = False) -> None:
    request = worker_group_service_pb2.DeleteWorkerGroupRequest(key=group, force=force)
    answer = await mesh.groups.DeleteWorkerGroup(request)
    assert not answer.HasField("worker_group"), "no scheduler has answered"


async def uid_of(mesh: Mesh, group: str) -> str:
    request = worker_group_service_pb2.GetWorkerGroupRequest(key=group)
    return (await mesh.groups.GetWorkerGroup(request)).worker_group.uid


async def rolled(mesh: Mesh, worker: str, wanted: "worker_pb2.WorkerState.ValueType") -> worker_pb2.Worker:
    """The worker's row of the roll, once it is in this state."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                row = (await mesh.roll.GetWorker(roll_service_pb2.GetWorkerRequest(id=worker))).worker
                if row.state == wanted:
                    return row
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.NOT_FOUND
            await asyncio.sleep(0.1)


async def test_a_group_works_at_once_stays_while_it_has_jobs_and_goes_with_them_by_force(mesh: Mesh) -> None:
    await mesh.start(workers=[])
    await mesh.set_group("gpu", lease=5.0)
    waiting = await submit(mesh, "gpu")  # made a moment ago, and it works

    near = await refusal(mesh, "gpuu")
    assert (near.code, near.metadata["near"]) == (grpc.StatusCode.NOT_FOUND, "gpu")

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await delete(mesh, "gpu")
    told = remote_error(refused.value)
    assert told.reason == "HAS_JOBS" and "1" in told.message
    assert (await state(mesh, waiting, job_pb2.JOB_STATE_CREATED)).worker_group == "gpu"

    await mesh.add_worker("gpu", slots=1)
    await state(mesh, waiting, job_pb2.JOB_STATE_SUCCESS)  # the refusal left the group as it was
    running, queued = await submit(mesh, "gpu", "sleep 600"), await submit(mesh, "gpu")
    await state(mesh, running, job_pb2.JOB_STATE_RUNNING)
    row = await rolled(mesh, "gpu", worker_pb2.WORKER_STATE_CONNECTED)
    assert (row.worker_group, row.slots) == ("gpu", 1)

    before = await uid_of(mesh, "gpu")
    await delete(mesh, "gpu", force=True)
    assert (await state(mesh, running, job_pb2.JOB_STATE_KILLED)).worker_group_uid == before
    assert (await state(mesh, queued, job_pb2.JOB_STATE_KILLED)).outcome.reason == "GROUP_DELETED"
    assert (await refusal(mesh, "gpu")).code is grpc.StatusCode.NOT_FOUND

    await mesh.set_group("gpu", lease=5.0)
    assert await uid_of(mesh, "gpu") != before
    again = await submit(mesh, "gpu")
    assert (await state(mesh, again, job_pb2.JOB_STATE_CREATED)).worker_group_uid == await uid_of(mesh, "gpu")


async def test_a_narrowed_group_ends_what_waits_there_for_others(mesh: Mesh) -> None:
    await mesh.start(workers=[])
    await mesh.set_group("shared")
    await mesh.tenants.CreateTenant(tenant_service_pb2.CreateTenantRequest(tenant=tenant_pb2.Tenant(id="acme")))
    stays, goes = await submit(mesh, "shared"), await submit(mesh, "shared", tenant="acme")

    group = worker_group_pb2.WorkerGroup(key="shared", allowed_tenants=["main"])
    await mesh.groups.UpdateWorkerGroup(worker_group_service_pb2.UpdateWorkerGroupRequest(worker_group=group))

    ended = await state(mesh, goes, job_pb2.JOB_STATE_FAILED)
    assert ended.outcome.reason == "TENANT_NOT_ALLOWED" and "acme" in ended.outcome.message
    await state(mesh, stays, job_pb2.JOB_STATE_CREATED)
    told = await refusal(mesh, "shared", tenant="acme")
    assert (told.code, told.reason) == (grpc.StatusCode.PERMISSION_DENIED, "TENANT_NOT_ALLOWED")
    assert (await refusal(mesh, "shared", tenant="acmee")).code is grpc.StatusCode.NOT_FOUND


async def test_without_its_registry_a_scheduler_serves_what_it_knows_and_guesses_nothing(mesh: Mesh) -> None:
    await mesh.start(workers=[])
    await mesh.set_group("known")
    await submit(mesh, "known")
    mesh.registries[0].kill()
    await submit(mesh, "known")
    away = await refusal(mesh, "unknown")
    assert away.code is grpc.StatusCode.UNAVAILABLE and "registry" in away.message
    await mesh.registries[0].restart()
    async with asyncio.timeout(SECONDS):
        while (told := await refusal(mesh, "unknown")).code is not grpc.StatusCode.NOT_FOUND:
            assert told.code is grpc.StatusCode.UNAVAILABLE
            await asyncio.sleep(0.1)
