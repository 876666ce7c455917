"""All schedulers are rolled under load: no job is restarted, none is lost or doubled, and submits go on."""

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from farhand.api.scheduler.v1 import job_pb2, job_service_pb2
from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceStub
from tests.fixtures.mesh import Mesh
from tests.tasks import a_shell_task

if TYPE_CHECKING:
    from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceAsyncStub

TICKING = 30  # ticks of a long job, 0.2 s each: it outlives every stop


class Load:
    """Clients that submit short jobs for as long as they are told, to whichever scheduler answers."""

    def __init__(self, mesh: Mesh, ran: Path) -> None:
        self.mesh = mesh
        self.ran = ran
        self.ids: list[str] = []
        self.slowest = 0.0
        self.stop = asyncio.Event()

    async def run(self, client: int) -> None:
        number = 0
        while not self.stop.is_set():
            name = f"{client}-{number}"
            task = a_shell_task(f"echo {name} >> {self.ran}")
            request = job_service_pb2.SubmitJobRequest(spec=job_pb2.JobSpec(task=task), request_id=name)
            began = time.monotonic()
            self.ids.append((await self._submit(request)).id)
            self.slowest = max(self.slowest, time.monotonic() - began)
            number += 1
            await asyncio.sleep(0.1)

    async def _submit(self, request: job_service_pb2.SubmitJobRequest) -> job_pb2.Job:
        while True:
            for scheduler in self.mesh.schedulers:
                try:
                    stub = JobServiceStub(self.mesh.channel(scheduler))
                    return (await stub.SubmitJob(request, timeout=5)).job
                except grpc.aio.AioRpcError as error:
                    assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), error.details()
            await asyncio.sleep(0.05)


async def ended(jobs: "JobServiceAsyncStub", job_id: str) -> job_pb2.Job:
    """The job once it has ended; asks again while the channel still remembers that its server was away."""
    async with asyncio.timeout(60):
        while True:
            try:
                job: job_pb2.Job = (await jobs.WaitJob(job_service_pb2.WaitJobRequest(id=job_id), timeout=90)).job
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE, error.details()
                await asyncio.sleep(0.05)
                continue
            if job.HasField("end_time"):
                return job


async def test_schedulers_that_are_rolled_under_load_restart_no_job(mesh: Mesh, tmp_path: Path) -> None:
    await mesh.add_registry()
    first = await mesh.add_scheduler()
    second = await mesh.add_scheduler()
    await mesh.set_group("", lease=6.0)
    both = f"{first.address},{second.address}"
    await asyncio.gather(*(mesh.add_worker("", slots=6, scheduler=both, name=f"w{n}") for n in range(3)))
    load = Load(mesh, tmp_path / "ran")
    clients = [asyncio.create_task(load.run(client)) for client in range(2)]
    ticks = [tmp_path / f"ticks-{n}" for n in range(6)]
    long_jobs = []
    for file in ticks:
        command = f"echo start >> {file}; for i in $(seq {TICKING}); do echo tick >> {file}; sleep 0.2; done"
        request = job_service_pb2.SubmitJobRequest(spec=job_pb2.JobSpec(task=a_shell_task(command)))
        long_jobs.append((await mesh.jobs.SubmitJob(request)).job.id)
    async with asyncio.timeout(20):
        while not all(file.exists() for file in ticks):
            await asyncio.sleep(0.05)
    stops = []
    for scheduler in (first, second):
        began = time.monotonic()
        scheduler.terminate()
        assert await scheduler.ended() == 0
        stops.append(time.monotonic() - began)
        await scheduler.restart()
    load.stop.set()
    await asyncio.gather(*clients)
    jobs = JobServiceStub(mesh.channel(second))
    for job_id in [*long_jobs, *load.ids]:
        job = await ended(jobs, job_id)
        assert job.state == job_pb2.JOB_STATE_SUCCESS and job.lost_deliveries == 0, job
    assert all(file.read_text().split().count("start") == 1 for file in ticks)
    lines = (tmp_path / "ran").read_text().split()
    assert len(lines) == len(set(lines)) == len(load.ids) > 10
    assert max(stops) < 8.0, f"the schedulers waited for workers that had left: {stops}"
    for worker in mesh.workers.values():
        assert "the lease ran out" not in worker.log.read_text()


async def test_a_lone_scheduler_that_restarts_is_let_go_at_once_and_restarts_no_job(mesh: Mesh, tmp_path: Path) -> None:
    await mesh.start(workers=[""], lease=10.0)
    command = f"echo start >> {tmp_path}/ran; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done"
    request = job_service_pb2.SubmitJobRequest(spec=job_pb2.JobSpec(task=a_shell_task(command)))
    job_id = (await mesh.jobs.SubmitJob(request)).job.id
    async with asyncio.timeout(20):
        while not (tmp_path / "ran").exists():
            await asyncio.sleep(0.05)
    began = time.monotonic()
    mesh.schedulers[0].terminate()
    assert await mesh.schedulers[0].ended() == 0
    assert time.monotonic() - began < 8.0
    await mesh.schedulers[0].restart()
    (tmp_path / "go").touch()
    jobs = JobServiceStub(mesh.channel(mesh.schedulers[0]))
    job = await ended(jobs, job_id)
    assert job.state == job_pb2.JOB_STATE_SUCCESS and job.lost_deliveries == 0
    assert (tmp_path / "ran").read_text() == "start\n"
