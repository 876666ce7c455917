"""A process is killed at every named place between two effects; afterwards every job has ended once, as it should.

runtime/crash_points.py names the places. Each job writes its starts and ends with
its fence; a second run is right only where the first was lost with its worker.
"""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import grpc
import pytest

from farhand.api.scheduler.v1 import job_pb2, job_service_pb2
from farhand.runtime.crash_points import POINTS
from tests.fixtures.mesh import Mesh, Process
from tests.tasks import a_shell_task

JOBS = 6
OF_A_WORKER = {name for name, where in POINTS.items() if where.startswith("worker")}
# Where the worker lives on, nothing may be started twice: a scheduler's death costs no delivery.
RERUNS = {"process started", "lease expired"}


async def submit(mesh: Mesh, folder: Path, number: int) -> str:
    """A job that writes down what it does; again and again until it is acknowledged."""
    file = folder / f"job-{number}"
    task = a_shell_task(f"echo start >> {file}; sleep 0.3; echo end >> {file}")
    request = job_service_pb2.SubmitJobRequest(spec=job_pb2.JobSpec(task=task), request_id=f"job-{number}")
    job_id: str = (await patiently(mesh, "SubmitJob", request)).job.id
    return job_id


async def patiently(mesh: Mesh, method: str, request: object) -> Any:
    """Call until the scheduler is there to answer."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await getattr(mesh.jobs, method)(request, timeout=10)
            except grpc.aio.AioRpcError as error:
                assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED), error
                await asyncio.sleep(0.05)


async def ended(mesh: Mesh, job_id: str) -> job_pb2.Job:
    while True:
        job: job_pb2.Job = (await patiently(mesh, "WaitJob", job_service_pb2.WaitJobRequest(id=job_id))).job
        if job.HasField("end_time"):
            return job


async def revive(process: Process) -> None:
    """Once it has died at its point: the same process without one."""
    await process.ended(60)
    process.environment.pop("FARHAND_CRASH_POINT")
    await process.restart()


@pytest.mark.parametrize("point", POINTS)
async def test_a_death_between_two_effects_loses_nothing_and_doubles_nothing(
    mesh: Mesh, tmp_path: Path, point: str
) -> None:
    await mesh.add_registry()
    await mesh.set_group("", lease=3.0)
    scheduler_dies = point not in OF_A_WORKER
    crash = {"FARHAND_CRASH_POINT": point}
    scheduler = await mesh.add_scheduler(**(crash if scheduler_dies else {}))
    revival = asyncio.create_task(revive(scheduler)) if scheduler_dies else None
    worker = await mesh.add_worker("", slots=3, **({} if scheduler_dies else crash))
    revival = revival or asyncio.create_task(revive(worker))
    ids = await asyncio.gather(*(submit(mesh, tmp_path, number) for number in range(JOBS)))

    killed = ""
    if point == "kill marked":
        killed = ids[-1]
        with contextlib.suppress(grpc.aio.AioRpcError):
            while True:  # it may wait still, or have ended; what is wanted is a kill of one that runs
                job = (await patiently(mesh, "GetJob", job_service_pb2.GetJobRequest(id=killed))).job
                if job.state in (job_pb2.JOB_STATE_ASSIGNED, job_pb2.JOB_STATE_RUNNING) or job.HasField("end_time"):
                    break
            await mesh.jobs.KillJob(job_service_pb2.KillJobRequest(id=killed))
    if point == "drain committed":
        worker.terminate()
    if point == "lease expired":
        worker.kill()
    await revival
    if point in ("drain committed", "lease expired"):
        await mesh.add_worker("", name="successor")

    jobs = [await ended(mesh, job_id) for job_id in ids]
    for number, job in enumerate(jobs):
        lines = (tmp_path / f"job-{number}").read_text().split() if (tmp_path / f"job-{number}").exists() else []
        if job.id == killed and job.state == job_pb2.JOB_STATE_KILLED:
            continue
        assert job.state == job_pb2.JOB_STATE_SUCCESS, (number, job)
        # A run whose end was on no disk yet is lost with its worker, and says so.
        assert lines[-2:] == ["start", "end"], (number, lines)
        assert lines.count("end") <= lines.count("start") <= 1 + job.lost_deliveries, (number, lines)
        if scheduler_dies and point not in RERUNS:
            assert lines.count("start") == 1, (number, lines)
            # A worker that drains with nothing to do does not wait for its scheduler, and what was just on its way
            # to it was delivered in vain.
            assert job.lost_deliveries == 0 or point == "drain committed", (number, job)
