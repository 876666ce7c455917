"""Clients that submit quick and slow jobs under idempotent ids, kill some, and write down what they were told."""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc

from farhand.api.scheduler.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc
from farhand.api.types.v1.task_pb2 import Task
from tests.fixtures.mesh import Mesh

SHELL = "io.kestra.plugin.scripts.shell.Commands"
CLIENTS = 6
PAUSE = 0.15  # seconds between two submits of one client
LINE = (
    'echo "{\\"kind\\":\\"%s\\",\\"job\\":\\"$FARHAND_JOB_ID\\",\\"fence\\":$FARHAND_FENCE'
    ',\\"worker\\":\\"$CHAOS_WORKER\\",\\"group\\":\\"$CHAOS_GROUP\\"'
    ',\\"t\\":$(cut -d" " -f1 /proc/uptime)}" >> "$CHAOS_FILE"'
)


def now() -> float:
    """The clock that the jobs read too, at the resolution that they have."""
    return float(Path("/proc/uptime").read_text().split()[0])


class Clients:
    """See the module."""

    def __init__(self, mesh: Mesh, folder: Path, groups: Sequence[str]) -> None:
        self._mesh = mesh
        self._file = (folder / "clients.jsonl").open("a", buffering=1)
        self._groups = groups
        self._going = True
        self._jobs: dict[str, bool] = {}  # job → whether it has ended

    @property
    def count(self) -> int:
        return len(self._jobs)

    @property
    def under_way(self) -> int:
        """Acknowledged, and not seen to end."""
        return sum(not ended for ended in self._jobs.values())

    def stop(self) -> None:
        self._going = False

    async def run(self) -> None:
        """Submit until stopped; look now and then which jobs have ended."""
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(self._client(number))
            group.create_task(self._watch())

    async def finish(self, seconds: float) -> int:
        """Wait for every acknowledged job and write down how it ended. Answers how many did not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for job_id in list(self._jobs):
                    job: job_pb2.Job = (await self._call("WaitJob", job_service_pb2.WaitJobRequest(id=job_id))).job
                    while not job.HasField("end_time"):
                        job = (await self._call("WaitJob", job_service_pb2.WaitJobRequest(id=job_id))).job
                    self._jobs[job_id] = True
                    state = job_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_")
                    job = (await self._call("GetJob", job_service_pb2.GetJobRequest(id=job_id))).job
                    back = [lost.reason for lost in job.lost]
                    self._note(kind="ended", job=job_id, state=state, lost=job.lost_deliveries, given_back=back)
        self._file.close()
        return self.under_way

    async def _client(self, number: int) -> None:
        for count in range(10**9):
            if not self._going:
                return
            request_id, group = f"client-{number}-{count}", self._groups[(number + count) % len(self._groups)]
            task = Task(type=SHELL)
            seconds = (0, 0, 0.2, 1, 3)[count % 5]
            task.properties.update({"commands": [LINE % "start", f"sleep {seconds}", LINE % "end"]})
            spec = job_pb2.JobSpec(task=task, worker_group=group, max_deliveries=50)
            self._note(kind="submitting", request=request_id, t=now())
            request = job_service_pb2.SubmitJobRequest(spec=spec, request_id=request_id)
            job_id = (await self._call("SubmitJob", request)).job.id
            self._note(kind="acknowledged", request=request_id, job=job_id, group=group, t=now())
            self._jobs[job_id] = False
            if count % 11 == 10:
                await self._call("KillJob", job_service_pb2.KillJobRequest(id=job_id))
                self._note(kind="kill acknowledged", job=job_id, t=now())
            await asyncio.sleep(PAUSE)

    async def _watch(self) -> None:
        while self._going:
            await asyncio.sleep(0.5)
            left = [job_id for job_id, ended in self._jobs.items() if not ended][:200]
            for job_id in left:
                job: job_pb2.Job = (await self._call("GetJob", job_service_pb2.GetJobRequest(id=job_id))).job
                self._jobs[job_id] = job.HasField("end_time")

    async def _call(self, method: str, request: Any) -> Any:
        """Of whichever scheduler answers, as a client library would."""
        while True:
            for scheduler in self._mesh.schedulers:
                stub = job_service_pb2_grpc.JobServiceStub(self._mesh.channel(scheduler))
                try:
                    return await getattr(stub, method)(request, timeout=5)
                except grpc.aio.AioRpcError as error:
                    if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                        raise
            await asyncio.sleep(0.1)

    def _note(self, **line: Any) -> None:
        self._file.write(json.dumps(line) + "\n")
