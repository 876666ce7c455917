"""PostgreSQL is killed under load, and nothing that was acknowledged is lost or comes twice (P2, P6)."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import grpc
import pytest

from farhand.api.scheduler.v1 import job_pb2, job_service_pb2
from farhand.api.types.v1.task_pb2 import Task
from tests.fixtures.mesh import Mesh, Process, postgres
from tests.tasks import NOOP, a_shell_task

RETRY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


@pytest.fixture
async def fragile(tmp_path: Path) -> AsyncIterator[tuple[Mesh, Process]]:
    """A mesh on a PostgreSQL of its own, with fsync, which the test may kill."""
    async with AsyncExitStack() as stack:
        database = await postgres(tmp_path).start()
        mesh = Mesh(tmp_path, str(database.facts["url"]), stack)
        mesh.processes.append(database)
        stack.push_async_callback(mesh.kill_all)
        yield mesh, database


async def kill_postgres(mesh: Mesh, database: Process) -> None:
    """SIGKILL to the server itself, then its supervisor is started anew."""
    connection = await asyncpg.connect(mesh.database_url)
    pid = await connection.fetchval("SELECT pg_backend_pid()")
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    connection.terminate()
    os.kill(parent, signal.SIGKILL)
    if database.running:
        database.kill()
    await database.restart()


async def submit(mesh: Mesh, number: int, acknowledged: list[str], files: Path) -> None:
    """A batch, again and again under the same request id until it is acknowledged."""
    noop, shell = Task(type=NOOP), a_shell_task(f"echo $FARHAND_JOB_ID >> {files}/ran-{number}")
    specs = [job_pb2.JobSpec(task=noop)] * 20 + [job_pb2.JobSpec(task=shell)]
    request = job_service_pb2.BatchSubmitJobsRequest(specs=specs, request_id=f"batch-{number}")
    while True:
        try:
            response = await mesh.jobs.BatchSubmitJobs(request, timeout=10)
        except grpc.aio.AioRpcError as error:
            assert error.code() in RETRY, error
            await asyncio.sleep(0.05)
            continue
        acknowledged += [result.job_id for result in response.results]
        return


async def test_nothing_acknowledged_is_lost_when_postgresql_is_killed_under_load(
    fragile: tuple[Mesh, Process], tmp_path: Path
) -> None:
    mesh, database = fragile
    await mesh.start(workers=[""], slots=32, lease=30.0)
    acknowledged: list[str] = []
    batches = 150
    done = asyncio.Event()

    async def client(numbers: range) -> None:
        for number in numbers:
            await submit(mesh, number, acknowledged, tmp_path)

    async def nemesis() -> None:
        for wanted in (batches * 21 // 4, batches * 21 // 2):
            while len(acknowledged) < wanted and not done.is_set():
                await asyncio.sleep(0.01)
            await kill_postgres(mesh, database)

    faults = asyncio.create_task(nemesis())
    await asyncio.gather(*(client(range(start, batches, 3)) for start in range(3)))
    done.set()
    await faults
    assert len(acknowledged) == len(set(acknowledged)) == batches * 21
    states = [job.state async for job in ended(mesh, acknowledged)]
    assert states == [job_pb2.JOB_STATE_SUCCESS] * len(acknowledged)
    ran = [line for number in range(batches) for line in (tmp_path / f"ran-{number}").read_text().split()]
    assert len(ran) == len(set(ran)) == batches  # no job ran twice, none was made twice


async def ended(mesh: Mesh, ids: list[str]) -> AsyncIterator[job_pb2.Job]:
    """Every job once it has ended."""
    for start in range(0, len(ids), 1000):
        final: dict[str, job_pb2.Job] = {}
        part = ids[start : start + 1000]
        async with asyncio.timeout(60):
            while len(final) < len(part):
                try:
                    async for response in mesh.jobs.WatchJobs(job_service_pb2.WatchJobsRequest(ids=part)):
                        final |= {job.id: job for job in response.jobs if job.HasField("end_time")}
                except grpc.aio.AioRpcError as error:
                    assert error.code() in RETRY, error
                    await asyncio.sleep(0.05)
        for job in final.values():
            yield job
