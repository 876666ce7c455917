"""Files over a real mesh: from one job to the next, from a namespace, and while the scheduler dies."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict

from farhand.api.registry.v1.namespace_file_pb2 import NamespaceFile
from farhand.api.registry.v1.namespace_file_service_pb2 import PutNamespaceFileRequest
from farhand.api.registry.v1.namespace_file_service_pb2_grpc import NamespaceFileServiceStub
from farhand.api.scheduler.v1 import job_pb2, job_service_pb2
from farhand.api.types.v1.task_pb2 import Task
from farhand.runtime.database import connect
from tests.fixtures.mesh import Mesh
from tests.tasks import SHELL


def a_task(*commands: str, timeout: int = 0, **properties: Any) -> Task:
    task = Task(type=SHELL)
    task.properties.update({"commands": list(commands), **properties})
    if timeout:
        task.timeout.CopyFrom(Duration(seconds=timeout))
    return task


async def submit(mesh: Mesh, task: Task, namespace: str = "") -> str:
    request = job_service_pb2.SubmitJobRequest(spec=job_pb2.JobSpec(task=task, namespace=namespace))
    return str((await mesh.jobs.SubmitJob(request)).job.id)


async def ended(mesh: Mesh, job_id: str) -> job_pb2.Job:
    """The job at its end, also over a scheduler that is away for a while."""
    async with asyncio.timeout(60):
        while True:
            try:
                await mesh.jobs.WaitJob(job_service_pb2.WaitJobRequest(id=job_id))
                job: job_pb2.Job = (await mesh.jobs.GetJob(job_service_pb2.GetJobRequest(id=job_id))).job
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE, error
                await asyncio.sleep(0.05)
            else:
                if job.HasField("end_time"):
                    return job


async def outputs(mesh: Mesh, job_id: str) -> dict[str, Any]:
    job = await ended(mesh, job_id)
    assert job.state == job_pb2.JOB_STATE_SUCCESS, job
    return MessageToDict(job.outcome.outputs)


async def lines(mesh: Mesh, job_id: str) -> list[str]:
    request = job_service_pb2.TailLogsRequest(id=job_id, follow=True)
    return [record.text async for answer in mesh.jobs.TailLogs(request) for record in answer.records]


async def put(mesh: Mesh, namespace: str, path: str, content: bytes) -> None:
    async def requests() -> AsyncIterator[PutNamespaceFileRequest]:
        yield PutNamespaceFileRequest(file=NamespaceFile(namespace=namespace, path=path))
        yield PutNamespaceFileRequest(chunk=content)

    await NamespaceFileServiceStub(mesh.channel(mesh.registries[0])).PutNamespaceFile(requests())


async def exists(path: Path) -> None:
    async with asyncio.timeout(90):
        while not path.exists():
            await asyncio.sleep(0.02)


async def test_what_one_job_writes_another_reads(mesh: Mesh) -> None:
    await mesh.start(workers=["", "gpu"])
    first = await submit(
        mesh, a_task("mkdir d; head -c 3000000 /dev/urandom > d/x.bin; sha256sum < d/x.bin", outputFiles=["d/*"])
    )
    stored = (await outputs(mesh, first))["outputFiles"]
    assert list(stored) == ["d/x.bin"]
    task = a_task("sha256sum < in.bin; cat note", inputFiles={"in.bin": stored["d/x.bin"], "note": "hello"})
    request = job_service_pb2.SubmitJobRequest(spec=job_pb2.JobSpec(task=task, worker_group="gpu"))
    second = (await mesh.jobs.SubmitJob(request)).job.id
    await ended(mesh, second)
    assert await lines(mesh, second) == [*(await lines(mesh, first)), "hello"]


async def test_namespace_files_are_fetched_once(mesh: Mesh) -> None:
    await mesh.start()
    await put(mesh, "company", "lib/tool.sh", b"echo from the company")
    await put(mesh, "company.team", "data.csv", b"1,2")
    await put(mesh, "company.other", "not-ours", b"x")
    task = a_task(
        "sh lib/tool.sh; cat data.csv; find . -type f | wc -l; echo spoiled > data.csv",
        namespaceFiles={"enabled": True},
    )
    first = await submit(mesh, task, "company.team")
    await ended(mesh, first)
    assert await lines(mesh, first) == ["from the company", "1,22"]
    connection = await connect(mesh.database_url)
    await connection.execute("DELETE FROM registry.file_piece")  # so that they can't be fetched any more
    second = await submit(mesh, task, "company.team")
    await ended(mesh, second)
    assert await lines(mesh, second) == await lines(mesh, first)
    await put(mesh, "company.team", "data.csv", b"3,4")
    third = await submit(mesh, task, "company.team")
    await ended(mesh, third)
    assert await lines(mesh, third) == ["from the company", "3,42"]
    await connection.close()


async def test_a_scheduler_that_is_killed_during_an_upload_costs_nothing(mesh: Mesh, tmp_path: Path) -> None:
    await mesh.add_registry()
    await mesh.set_group("", lease=20.0)
    scheduler = await mesh.add_scheduler(FARHAND_CRASH_POINT="file arriving:5")
    await mesh.add_worker("")
    runs = tmp_path / "runs"
    job = await submit(
        mesh,
        a_task(f"echo run >> {runs}; head -c 4000000 /dev/zero > big", outputFiles=["big"]),
    )
    await scheduler.ended(60)
    del scheduler.environment["FARHAND_CRASH_POINT"]
    await scheduler.restart()
    uri = (await outputs(mesh, job))["outputFiles"]["big"]
    assert runs.read_text() == "run\n"
    stored = mesh.folder / "files" / uri.removeprefix("farhand:///")
    assert stored.read_bytes() == bytes(4_000_000)


async def test_a_scheduler_that_stays_away_ends_an_upload_at_its_timeout(mesh: Mesh, tmp_path: Path) -> None:
    await mesh.add_registry()
    await mesh.set_group("", lease=60.0)
    scheduler = await mesh.add_scheduler()
    worker = await mesh.add_worker("")
    task = a_task(
        f"echo 1 > out; touch {tmp_path}/there; while [ ! -e {tmp_path}/open ]; do sleep 0.05; done",
        outputFiles=["out"],
        timeout=6,
    )
    job = await submit(mesh, task)
    await exists(tmp_path / "there")
    scheduler.kill()
    await scheduler.ended()
    (tmp_path / "open").touch()
    async with asyncio.timeout(90):
        while "a job ended" not in worker.tail():
            await asyncio.sleep(0.05)
    await scheduler.restart()
    found = await ended(mesh, job)
    assert (found.state, found.outcome.reason) == (job_pb2.JOB_STATE_FAILED, "TIMEOUT")
    assert "while it stored the output file out" in found.outcome.message


async def test_schedulers_that_share_a_folder_share_its_files(mesh: Mesh) -> None:
    await mesh.start()
    await mesh.set_group("gpu", lease=3.0)
    second = await mesh.add_scheduler()
    await mesh.add_worker("gpu", scheduler=second)
    stored = (await outputs(mesh, await submit(mesh, a_task("echo 1 > a", outputFiles=["a"]))))["outputFiles"]
    task = a_task("cat b", inputFiles={"b": stored["a"]})
    request = job_service_pb2.SubmitJobRequest(spec=job_pb2.JobSpec(task=task, worker_group="gpu"))
    other = (await mesh.jobs.SubmitJob(request)).job.id
    await ended(mesh, other)
    assert await lines(mesh, other) == ["1"]
