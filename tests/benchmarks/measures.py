"""What is measured of the mesh, from outside: by its API alone, and by what the system says of its processes."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from farhand.api.scheduler.v1 import group_service_pb2, job_pb2, job_service_pb2
from farhand.api.types.v1.task_pb2 import Task
from farhand.api.worker.v1 import session_pb2 as pb
from farhand.api.worker.v1.worker_service_pb2_grpc import WorkerServiceStub
from tests.fixtures.mesh import Mesh
from tests.fixtures.scheduler_service import HandWorker
from tests.tasks import NOOP

BATCH = 500
PAYLOAD = {"payload": "x" * 160}  # about 200 bytes with the rest of the task
JOBS_A_SECOND = 50
ASKED_JOBS = 400


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in so many seconds."""

    count: int
    seconds: float

    @property
    def per_second(self) -> float:
        return self.count / self.seconds

    def __str__(self) -> str:
        return f"{self.per_second:,.0f}"


@dataclass(frozen=True, slots=True)
class Latencies:
    """Seconds."""

    values: list[float]

    def percentile(self, share: int) -> float:
        """The value that `share` percent do not pass."""
        ordered = sorted(self.values)
        return ordered[min(len(ordered) - 1, len(ordered) * share // 100)]


class Measures:
    """See the module."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    def _spec(self, group: str = "") -> job_pb2.JobSpec:
        task = Task(type=NOOP)
        task.properties.update(PAYLOAD)
        return job_pb2.JobSpec(task=task, worker_group=group)

    async def _ended(self) -> int:
        request = group_service_pb2.GetGroupFiguresRequest(worker_group="_default")
        return (await self._mesh.figures.GetGroupFigures(request)).figures.ended_jobs

    async def warm_up(self) -> None:
        """Plans are made and caches filled."""
        await self.batches(5_000)

    async def batches(self, jobs: int) -> Rate:
        """From the first submit until every result is recorded; four callers."""
        request = job_service_pb2.BatchSubmitJobsRequest(specs=[self._spec()] * BATCH)
        before, began = await self._ended(), time.perf_counter()

        last = ""

        async def caller(calls: int) -> None:
            nonlocal last
            for _ in range(calls):
                last = (await self._mesh.jobs.BatchSubmitJobs(request)).results[-1].job_id

        callers, calls = 4, jobs // BATCH // 4
        await asyncio.gather(*(caller(calls) for _ in range(callers)))
        total = callers * calls * BATCH
        while await self._ended() < before + total:
            await asyncio.sleep(0.02)
        rate = Rate(total, time.perf_counter() - began)
        job = (await self._mesh.jobs.GetJob(job_service_pb2.GetJobRequest(id=last))).job
        if job.state != job_pb2.JOB_STATE_SUCCESS:
            raise RuntimeError(f"what is measured must succeed, and did not: {job.outcome.message}")
        return rate

    async def unary(self, jobs: int) -> Rate:
        """Submits of one job a call; nobody works on them meanwhile."""
        request = job_service_pb2.SubmitJobRequest(spec=self._spec("elsewhere"))
        began = time.perf_counter()

        async def caller() -> None:
            for _ in range(jobs // 64):
                await self._mesh.jobs.SubmitJob(request)

        await asyncio.gather(*(caller() for _ in range(64)))
        return Rate(jobs // 64 * 64, time.perf_counter() - began)

    async def latency(self) -> Latencies:
        """From before a submit until its assignment arrives at a worker that is free."""
        await self._mesh.set_group("prompt")
        hello = pb.Hello(
            protocol_version=1,
            worker_id="prompt",
            incarnation=b"prompt".ljust(16),
            worker_group="prompt",
            slots=1000,
            task_types=[NOOP],
        )
        worker = await HandWorker(WorkerServiceStub(self._mesh.channel(self._mesh.schedulers[0])), hello).connect()
        await worker.credit(100_000)
        arrived: dict[str, float] = {}
        began: dict[str, float] = {}

        async def read() -> None:
            while len(arrived) < ASKED_JOBS:
                for assignment in await worker.assignments():
                    arrived[assignment.job_id] = time.perf_counter()

        async def submit() -> None:
            now = time.perf_counter()
            response = await self._mesh.jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=self._spec("prompt")))
            began[response.job.id] = now

        reading = asyncio.create_task(read())
        async with asyncio.TaskGroup() as submits:
            for _ in range(ASKED_JOBS):
                submits.create_task(submit())
                await asyncio.sleep(1 / JOBS_A_SECOND)
        await reading
        await worker.close()
        return Latencies([arrived[job_id] - began[job_id] for job_id in began])

    async def memory(self) -> dict[str, float]:
        """Resident MiB of each service; a worker's with its warden's."""
        return {
            process.name: sum(_resident(pid) for pid in _family(process.pid))
            for process in self._mesh.processes
            if process.name != "postgres"
        }


def _family(pid: int) -> list[int]:
    children = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return [pid, *(one for child in children for one in _family(child))]


def _resident(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
