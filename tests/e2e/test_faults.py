"""Real processes are killed, stopped and restarted under real jobs; what the jobs wrote tells what happened.

Each job appends a line at its start and at its end to a file of its own, with its
fence, so a run that overlapped, was lost or came twice stands there.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from farhand.api.scheduler.v1 import job_pb2, job_service_pb2
from farhand.api.types.v1.fallback_pb2 import Fallback
from farhand.api.types.v1.outcome_pb2 import OUTCOME_STATE_SUCCESS
from farhand.api.worker.v1 import session_pb2 as pb
from farhand.api.worker.v1.worker_service_pb2_grpc import WorkerServiceStub
from tests.fixtures.mesh import Mesh
from tests.fixtures.scheduler_service import HandWorker
from tests.tasks import SHELL, a_shell_task

SECONDS = 40.0


class Story:
    """A job that writes down what it does."""

    def __init__(self, mesh: Mesh, folder: Path, name: str) -> None:
        self.mesh = mesh
        self.file = folder / f"{name}.txt"
        self.go_on = folder / f"{name}.go"
        self.id = ""

    def command(self) -> str:
        """Start, then wait for the test's word, then end."""
        return (
            f'echo "start $FARHAND_FENCE $$" >> {self.file}; while [ ! -e {self.go_on} ]; do sleep 0.05; done; '
            f'echo "end $FARHAND_FENCE $$" >> {self.file}'
        )

    async def submit(self, *, group: str = "", fallback: str = "WAIT", request_id: str = "") -> "Story":
        task = a_shell_task(self.command())
        spec = job_pb2.JobSpec(task=task, worker_group=group, fallback=Fallback.Value(f"FALLBACK_{fallback}"))
        request = job_service_pb2.SubmitJobRequest(spec=spec, request_id=request_id)
        self.id = (await self.mesh.jobs.SubmitJob(request)).job.id
        return self

    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.file.read_text().splitlines()] if self.file.exists() else []

    def pids(self) -> list[int]:
        return [int(line[2]) for line in self.lines() if line[0] == "start"]

    async def starts(self, count: int = 1) -> int:
        """Once it has started so often: the fence of the last start."""
        await until(lambda: len(self.pids()) >= count, f"{count} starts of {self.file.name}: {self.lines()}")
        return int([line for line in self.lines() if line[0] == "start"][-1][1])

    def release(self) -> None:
        self.go_on.touch()

    async def job(self) -> job_pb2.Job:
        return (await self.mesh.jobs.GetJob(job_service_pb2.GetJobRequest(id=self.id))).job

    async def ends(self) -> job_pb2.Job:
        """Once it has ended; waits through a scheduler that is away."""
        async with asyncio.timeout(SECONDS):
            while True:
                try:
                    job = (await self.mesh.jobs.WaitJob(job_service_pb2.WaitJobRequest(id=self.id))).job
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise
                    await asyncio.sleep(0.1)
                    continue
                if job.HasField("end_time"):
                    return job


async def until(true: Callable[[], bool], what: str) -> None:
    """Looks until it is true."""
    try:
        async with asyncio.timeout(SECONDS):
            while not true():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"never came: {what}") from None


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def story(mesh: Mesh, tmp_path: Path) -> Callable[[str], Story]:
    return lambda name: Story(mesh, tmp_path, name)


async def test_a_worker_that_is_killed_takes_its_processes_along_and_its_job_runs_again_elsewhere(
    mesh: Mesh, story: Callable[[str], Story]
) -> None:
    await mesh.start(workers=[""], lease=2.0)
    job = await story("a").submit()
    first = await job.starts()
    [pid] = job.pids()
    mesh.worker().kill()
    await until(lambda: not alive(pid), "the end of the job's process")
    await mesh.add_worker("")
    second = await job.starts(2)
    assert second > first
    # A worker that has the old assignment's result is told that it is stale, and changes nothing.
    hello = pb.Hello(protocol_version=1, worker_id="default", incarnation=os.urandom(16), slots=1, task_types=[SHELL])
    old = await HandWorker(WorkerServiceStub(mesh.channel(mesh.schedulers[0])), hello).connect()
    late = pb.Assignment(job_id=job.id, fence=first)
    assert await old.result(late, OUTCOME_STATE_SUCCESS) == "STALE"
    await old.close()
    job.release()
    ended = await job.ends()
    assert ended.state == job_pb2.JOB_STATE_SUCCESS and ended.fence == second and ended.lost_deliveries == 1
    assert [line[:2] for line in job.lines()] == [["start", str(first)], ["start", str(second)], ["end", str(second)]]


async def test_a_worker_that_stands_still_past_its_lease_loses_its_job_before_another_starts_it(
    mesh: Mesh, story: Callable[[str], Story]
) -> None:
    await mesh.start(workers=[""], lease=3.0)
    job = await story("a").submit()
    await job.starts()
    [pid] = job.pids()
    mesh.worker().pause()
    await mesh.add_worker("")
    await job.starts(2)
    assert not alive(pid)  # P1: the warden ended it first
    mesh.worker().resume()
    job.release()
    ended = await job.ends()
    assert ended.state == job_pb2.JOB_STATE_SUCCESS
    assert [line[0] for line in job.lines()] == ["start", "start", "end"]


async def test_a_scheduler_that_is_killed_and_comes_back_restarts_no_job(
    mesh: Mesh, story: Callable[[str], Story]
) -> None:
    await mesh.start(workers=[""], slots=4, lease=10.0)
    jobs = [await story(f"job-{number}").submit() for number in range(4)]
    for job in jobs:
        await job.starts()
    waiting = await story("waiting").submit()
    mesh.schedulers[0].kill()
    jobs[0].release()  # its result waits on the worker's disk
    await until(lambda: len(jobs[0].lines()) == 2, "the end of a job while the scheduler is away")
    await mesh.schedulers[0].restart()
    for job in [*jobs, waiting]:
        job.release()
    for job in [*jobs, waiting]:
        ended = await job.ends()
        assert ended.state == job_pb2.JOB_STATE_SUCCESS and ended.lost_deliveries == 0
        assert [line[0] for line in job.lines()] == ["start", "end"]


async def test_a_worker_that_is_cut_off_and_comes_back_within_its_lease_keeps_its_job(
    mesh: Mesh, story: Callable[[str], Story]
) -> None:
    await mesh.start(workers=[""], lease=10.0)
    job = await story("a").submit()
    fence = await job.starts()
    mesh.schedulers[0].kill()
    await mesh.schedulers[0].restart()
    job.release()
    ended = await job.ends()
    assert ended.fence == fence and [line[0] for line in job.lines()] == ["start", "end"]


async def test_a_drain_finishes_what_runs_and_leaves_the_rest_to_others(
    mesh: Mesh, story: Callable[[str], Story]
) -> None:
    await mesh.start(workers=[""], slots=1, lease=10.0)
    running = await story("running").submit()
    await running.starts()
    waiting = await story("waiting").submit()
    mesh.worker().terminate()
    running.release()
    assert await mesh.worker().ended() == 0
    ended = await running.ends()
    assert ended.state == job_pb2.JOB_STATE_SUCCESS and ended.lost_deliveries == 0
    assert waiting.lines() == []
    await mesh.add_worker("")
    await waiting.starts()
    waiting.release()
    assert (await waiting.ends()).state == job_pb2.JOB_STATE_SUCCESS


async def test_a_failure_during_a_drain_is_still_reported(mesh: Mesh, tmp_path: Path) -> None:
    await mesh.start(workers=[""], lease=10.0)
    go = tmp_path / "go"
    task = a_shell_task(f"touch {tmp_path}/started; while [ ! -e {go} ]; do sleep 0.05; done; exit 7")
    request = job_service_pb2.SubmitJobRequest(spec=job_pb2.JobSpec(task=task))
    job_id = (await mesh.jobs.SubmitJob(request)).job.id
    await until((tmp_path / "started").exists, "the start")
    mesh.worker().terminate()
    go.touch()
    assert await mesh.worker().ended() == 0
    job = (await mesh.jobs.WaitJob(job_service_pb2.WaitJobRequest(id=job_id))).job
    assert job.state == job_pb2.JOB_STATE_FAILED and job.outcome.exit_code == 7


async def test_daemonised_grandchildren_die_with_a_killed_job(mesh: Mesh, tmp_path: Path) -> None:
    await mesh.start(workers=[""], lease=10.0)
    pids = tmp_path / "pids"
    task = a_shell_task(f"setsid sh -c 'echo $$ >> {pids}; exec sleep 1000' & echo $$ >> {pids}; sleep 1000")
    job = (await mesh.jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=job_pb2.JobSpec(task=task)))).job
    await until(lambda: pids.exists() and len(pids.read_text().split()) == 2, "both processes")
    both = [int(pid) for pid in pids.read_text().split()]
    assert all(alive(pid) for pid in both)
    await mesh.jobs.KillJob(job_service_pb2.KillJobRequest(id=job.id))
    ended = (await mesh.jobs.WaitJob(job_service_pb2.WaitJobRequest(id=job.id))).job
    assert ended.state == job_pb2.JOB_STATE_KILLED
    await until(lambda: not any(alive(pid) for pid in both), "the end of both")


async def test_running_and_queued_work_goes_on_while_the_registry_is_away(
    mesh: Mesh, story: Callable[[str], Story]
) -> None:
    await mesh.start(workers=[""], slots=1, lease=10.0)
    running = await story("running").submit()
    await running.starts()
    mesh.registries[0].kill()
    queued = await story("queued").submit()  # a group that is known already
    running.release()
    queued.release()
    for job in (running, queued):
        assert (await job.ends()).state == job_pb2.JOB_STATE_SUCCESS
    mesh.worker().kill()
    await mesh.worker().restart()  # known before: it may reconnect during the outage
    after = await story("after").submit()
    after.release()
    assert (await after.ends()).state == job_pb2.JOB_STATE_SUCCESS


async def test_a_job_that_may_not_wait_fails_when_its_last_worker_stops(
    mesh: Mesh, story: Callable[[str], Story]
) -> None:
    await mesh.start(workers=[""], slots=1, lease=10.0)
    running = await story("running").submit()
    await running.starts()
    fails = await story("fails").submit(fallback="FAIL")
    cancels = await story("cancels").submit(fallback="CANCEL")
    waits = await story("waits").submit()
    mesh.worker().terminate()
    assert (await fails.ends()).state == job_pb2.JOB_STATE_FAILED
    assert (await cancels.ends()).state == job_pb2.JOB_STATE_KILLED
    assert (await waits.job()).state == job_pb2.JOB_STATE_CREATED
    running.release()
    assert await mesh.worker().ended() == 0
