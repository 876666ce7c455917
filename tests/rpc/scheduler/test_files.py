"""FileService over a real port, with a real registry behind it: what is kept, and what a hostile worker gets."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from farhand.api.registry.v1.namespace_file_pb2 import NamespaceFile
from farhand.api.registry.v1.namespace_file_service_pb2 import DeleteNamespaceFileRequest, PutNamespaceFileRequest
from farhand.api.registry.v1.tenant_pb2 import Tenant
from farhand.api.registry.v1.tenant_service_pb2 import CreateTenantRequest
from farhand.api.scheduler.v1.execution_service_pb2 import ReadFileRequest
from farhand.api.scheduler.v1.execution_service_pb2_grpc import ExecutionServiceStub
from farhand.api.worker.v1.file_service_pb2 import (
    DownloadFileRequest,
    JobNamespaceFile,
    ListNamespaceFilesRequest,
    UploadFileHeader,
    UploadFileRequest,
)
from farhand.api.worker.v1.file_service_pb2_grpc import FileServiceStub
from farhand.api.worker.v1.session_pb2 import Assignment
from farhand.api.worker.v1.worker_service_pb2_grpc import WorkerServiceStub
from farhand.kernel.file_uri import FileUri
from farhand.runtime.grpc_channel import make_channel
from farhand.runtime.settings import DialSettings
from tests.fixtures.scheduler_service import HandWorker, SchedulerService, a_scheduler, declare
from tests.rpc.refusal import refused, streamed
from tests.rpc.registry.registry_house import House, open_house, paths
from tests.tasks import SHELL

if TYPE_CHECKING:
    from farhand.api.worker.v1.file_service_pb2_grpc import FileServiceAsyncStub
    from farhand.api.worker.v1.worker_service_pb2_grpc import WorkerServiceAsyncStub

MIB = 1 << 20
MAX_FILE = 40 * MIB

CALLERS = {"admin": 'role = "admin"', "one": 'role = "worker"\nworker_group = "_default"'}
CALLERS["other"] = CALLERS["one"]
CALLERS["client"] = 'role = "client"\ntenants = ["main"]'
CALLERS["stranger"] = 'role = "client"\ntenants = ["other"]'


@dataclass
class Caller:
    """A credential of a worker, and what it calls."""

    files: "FileServiceAsyncStub"
    workers: "WorkerServiceAsyncStub"

    async def upload(self, job: Assignment, path: str, *chunks: bytes, size: int | None = None) -> str:
        async def requests() -> AsyncIterator[UploadFileRequest]:
            announced = sum(map(len, chunks)) if size is None else size
            yield UploadFileRequest(
                header=UploadFileHeader(job_id=job.job_id, fence=job.fence, path=path, size=announced)
            )
            for chunk in chunks:
                yield UploadFileRequest(chunk=chunk)

        return str((await streamed(lambda: self.files.UploadFile(requests()))).uri)

    async def download(self, job: Assignment, uri: str = "", file: JobNamespaceFile | None = None) -> bytes:
        request = DownloadFileRequest(job_id=job.job_id, fence=job.fence)
        if file is None:
            request.uri = uri
        else:
            request.namespace_file.CopyFrom(file)
        return b"".join([answer.chunk async for answer in self.files.DownloadFile(request)])

    async def listed(self, job: Assignment) -> list[JobNamespaceFile]:
        request = ListNamespaceFilesRequest(job_id=job.job_id, fence=job.fence)
        return list((await self.files.ListNamespaceFiles(request)).files)


class Place:
    """A registry, a scheduler, and workers with two credentials of the default group."""

    def __init__(self, house: House, scheduler: SchedulerService, files: Path) -> None:
        self.house = house
        self.scheduler = scheduler
        self.files = files
        self.callers: dict[str, Caller] = {}
        self.channels: dict[str, grpc.aio.Channel] = {}

    async def assigned(self, caller: str = "one", tenant: str = "main", namespace: str = "a.b") -> Assignment:
        """A job that a fresh worker with this credential has."""
        await self.scheduler.submit(tenant=tenant, namespace=namespace)
        [assignment] = await (await self.worker(caller)).assignments()
        return assignment

    async def worker(self, caller: str) -> HandWorker:
        scheduler = SchedulerService(self.scheduler.database, self.scheduler.settings)
        scheduler.workers = self.callers[caller].workers
        worker = await scheduler.worker(task_types=[SHELL])
        await worker.credit(1)
        return worker

    async def put(self, path: str, content: bytes, namespace: str = "a.b", tenant: str = "main") -> NamespaceFile:
        async def requests() -> AsyncIterator[PutNamespaceFileRequest]:
            yield PutNamespaceFileRequest(file=NamespaceFile(tenant=tenant, namespace=namespace, path=path))
            for start in range(0, len(content), MIB):
                yield PutNamespaceFileRequest(chunk=content[start : start + MIB])

        return (await self.house.files().PutNamespaceFile(requests())).file


@pytest.fixture
async def place(fresh_database: str, tmp_path: Path) -> AsyncIterator[Place]:
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(
        "\n".join(
            f'[[token]]\nname = "{name}"\n{what}\nsha256 = "{sha256(name.encode()).hexdigest()}"'
            for name, what in CALLERS.items()
        )
    )
    async with open_house(fresh_database, ["main", "other"]) as house:
        await house.tenants().CreateTenant(CreateTenantRequest(tenant=Tenant(id="other")))
        async with a_scheduler(
            fresh_database,
            registry=house.address,
            registry_token="service",
            tokens=tokens,
            token="admin",
            files=tmp_path / "files",
            max_file=MAX_FILE,
        ) as scheduler:
            it = Place(house, scheduler, tmp_path / "files")
            channels = it.channels = {
                name: make_channel(scheduler.address, DialSettings(token=name)) for name in CALLERS
            }
            it.callers = {
                name: Caller(FileServiceStub(channel), WorkerServiceStub(channel)) for name, channel in channels.items()
            }
            yield it
            for channel in channels.values():
                await channel.close()


async def test_a_file_comes_back_as_it_was_stored(place: Place) -> None:
    job, one = await place.assigned(), place.callers["one"]
    uri = await one.upload(job, "plots/größe 1.png", b"a" * MIB, b"b")
    assert uri == f"farhand:///main/{job.job_id}/{job.job_id}/{job.fence}/plots/gr%C3%B6%C3%9Fe%201.png"
    assert await one.download(job, uri) == b"a" * MIB + b"b"
    assert await one.download(job, await one.upload(job, "empty")) == b""


async def test_the_same_path_under_the_same_fence_replaces(place: Place) -> None:
    job, one = await place.assigned(), place.callers["one"]
    first = await one.upload(job, "a", b"one")
    assert await one.upload(job, "a", b"two") == first
    assert await one.download(job, first) == b"two"


async def test_another_job_of_the_tenant_reads_what_one_stored(place: Place) -> None:
    first, second = await place.assigned("one"), await place.assigned("other")
    uri = await place.callers["one"].upload(first, "a", b"x")
    assert await place.callers["other"].download(second, uri) == b"x"


async def test_another_tenants_file_is_not_there(place: Place) -> None:
    theirs, ours = await place.assigned(tenant="other"), await place.assigned(tenant="main")
    one = place.callers["one"]
    uri = await one.upload(theirs, "secret", b"x")
    assert uri.startswith("farhand:///other/")
    for wanted in (uri, uri.replace("/secret", "/nothing")):
        error = await refused(one.download(ours, wanted))
        assert error.code is grpc.StatusCode.NOT_FOUND and "There is no file" in error.message
    forged = uri.replace("/other/", "/main/")
    assert (await refused(one.download(ours, forged))).code is grpc.StatusCode.NOT_FOUND


async def test_only_who_has_the_job_under_the_fence_is_served(place: Place) -> None:
    job, one, other = await place.assigned(), place.callers["one"], place.callers["other"]
    uri = await one.upload(job, "a", b"x")
    wrong = [
        (other, job),
        (one, Assignment(job_id=job.job_id, fence=job.fence + 1)),
        (one, Assignment(job_id=job.job_id, fence=job.fence - 1)),
        (one, Assignment(job_id=job.job_id)),
        (one, Assignment(job_id="nonsense", fence=job.fence)),
        (place.callers["admin"], job),
    ]
    for caller, claimed in wrong:
        for call in (
            caller.upload(claimed, "a", b"mine"),
            caller.download(claimed, uri),
            caller.listed(claimed),
        ):
            error = await refused(call)
            assert error.reason == ("PERMISSION_DENIED" if caller is place.callers["admin"] else "STALE_FENCE")
    assert await one.download(job, uri) == b"x"


async def test_a_job_that_has_ended_takes_no_more_files(place: Place) -> None:
    await place.scheduler.submit()
    worker = await place.worker("one")
    [job] = await worker.assignments()
    assert await worker.result(job) == "RECORDED"
    assert (await refused(place.callers["one"].upload(job, "a", b"x"))).reason == "STALE_FENCE"


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "", "a//b", "a\0b", "./a"])
async def test_a_path_that_leads_elsewhere_is_refused(place: Place, path: str) -> None:
    job = await place.assigned()
    assert paths(await refused(place.callers["one"].upload(job, path, b"x"))) == ["header.path"]
    assert [each.name for each in place.files.iterdir()] == [".arriving"]


async def test_an_address_with_tricks_is_refused(place: Place) -> None:
    job, one = await place.assigned(), place.callers["one"]
    own = f"farhand:///main/{job.job_id}/{job.job_id}/{job.fence}/"
    for uri in (own + "..%2F..%2F..%2Fx", own + "%2e%2e/x", "farhand:///main/../x", "file:///etc/passwd", own, ""):
        if uri:
            assert paths(await refused(one.download(job, uri))) == ["uri"], uri
    assert paths(await refused(one.download(job, ""))) == ["uri"]


async def test_what_is_not_as_long_as_announced_is_not_stored(place: Place) -> None:
    job, one = await place.assigned(), place.callers["one"]
    for size in (0, 2, 4, -1):
        assert paths(await refused(one.upload(job, "a", b"xyz", size=size))) == ["header.size"]
    uri = str(FileUri("main", job.job_id, job.job_id, job.fence, "a"))
    assert (await refused(one.download(job, uri))).code is grpc.StatusCode.NOT_FOUND


async def test_a_file_over_the_limit_is_refused_also_one_that_lies(place: Place) -> None:
    job, one = await place.assigned(), place.callers["one"]
    for size in (MAX_FILE + 1, 5):
        error = await refused(one.upload(job, "a", *[bytes(MIB)] * 41, size=size))
        assert error.reason == "FILE_TOO_LARGE" and "--max-file" in error.message
    assert paths(await refused(one.upload(job, "a", bytes(2 * MIB)))) == ["chunk"]


async def test_a_file_where_a_folder_is_has_a_reason(place: Place) -> None:
    job, one = await place.assigned(), place.callers["one"]
    await one.upload(job, "a/b", b"x")
    assert paths(await refused(one.upload(job, "a", b"x"))) == ["header.path"]


async def test_a_stream_that_is_none_is_refused(place: Place) -> None:
    async def chunk_first() -> AsyncIterator[UploadFileRequest]:
        yield UploadFileRequest(chunk=b"x")

    assert paths(await refused(place.callers["one"].files.UploadFile(chunk_first()))) == ["header"]


async def test_large_files_cost_little_memory(place: Place) -> None:
    job, one = await place.assigned(), place.callers["one"]
    chunk = bytes(MIB)
    tracemalloc.start()
    uri = await one.upload(job, "large", *[chunk] * 40)
    size = 0
    async for answer in one.files.DownloadFile(DownloadFileRequest(job_id=job.job_id, fence=job.fence, uri=uri)):
        size += len(answer.chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size == 40 * MIB and peak < 24 * MIB


async def test_namespace_files_are_those_that_the_job_inherits(place: Place) -> None:
    content = b"x" * (2 * MIB + 5)
    await place.put("data/shared", content)
    await place.put("data/shared", b"from above", namespace="a")
    await place.put("only-above", b"y", namespace="a")
    await place.put("beside", b"z", namespace="a.bc")
    await place.put("theirs", b"secret", tenant="other")
    job, one = await place.assigned(), place.callers["one"]
    files = await one.listed(job)
    assert [(file.namespace, file.path) for file in files] == [("a.b", "data/shared"), ("a", "only-above")]
    assert (files[0].size, files[0].digest) == (len(content), sha256(content).hexdigest())
    assert [await one.download(job, file=file) for file in files] == [content, b"y"]
    assert await one.listed(await place.assigned(namespace="c")) == []


async def test_a_job_gets_no_file_of_a_namespace_beside_its_own(place: Place) -> None:
    await place.put("beside", b"z", namespace="a.bc")
    await place.put("below", b"z", namespace="a.b.c")
    await place.put("theirs", b"z", tenant="other")
    job, one = await place.assigned(), place.callers["one"]
    for namespace, path in (("a.bc", "beside"), ("a.b.c", "below"), ("a.b", "theirs"), ("", "x"), ("a.b", "../x")):
        error = await refused(one.download(job, file=JobNamespaceFile(namespace=namespace, path=path)))
        assert error.code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT), (namespace, path)


async def test_a_namespace_file_that_was_replaced_or_deleted_is_still_had_by_its_digest(place: Place) -> None:
    await place.put("a", b"old")
    job, one = await place.assigned(), place.callers["one"]
    [file] = await one.listed(job)
    await place.put("a", b"new")
    assert await one.download(job, file=file) == b"old"
    await place.house.files().DeleteNamespaceFile(DeleteNamespaceFileRequest(namespace="a.b", path="a"))
    assert await one.download(job, file=file) == b"old"


async def test_without_a_registry_namespace_files_are_unavailable_and_output_files_are_not(
    fresh_database: str,
) -> None:
    await declare(fresh_database, [""])
    async with a_scheduler(fresh_database) as scheduler:
        worker = await scheduler.worker()
        await scheduler.submit(namespace="a")
        await worker.credit(1)
        [job] = await worker.assignments()
        one = Caller(scheduler.files, scheduler.workers)
        assert (await refused(one.listed(job))).reason == "UNAVAILABLE"
        file = JobNamespaceFile(namespace="a", path="a")
        assert (await refused(one.download(job, file=file))).reason == "UNAVAILABLE"
        assert await one.download(job, await one.upload(job, "a", b"x")) == b"x"


async def test_people_read_files_of_their_own_tenants(place: Place) -> None:
    job = await place.assigned()
    uri = await place.callers["one"].upload(job, "a", b"x" * MIB, b"y")

    async def read(caller: str, uri: str = uri) -> tuple[int, bytes]:
        stub = ExecutionServiceStub(place.channels[caller])
        first, *rest = [answer async for answer in stub.ReadFile(ReadFileRequest(uri=uri))]
        return first.size, b"".join(answer.chunk for answer in rest)

    assert await read("admin") == await read("client") == (MIB + 1, b"x" * MIB + b"y")
    for caller, wanted in (("stranger", uri), ("client", uri + "x")):
        error = await refused(read(caller, wanted))
        assert error.code is grpc.StatusCode.NOT_FOUND and "There is no file" in error.message
    assert paths(await refused(read("client", "nonsense"))) == ["uri"]
    assert (await refused(read("one"))).reason == "PERMISSION_DENIED"


async def test_many_upload_at_once(place: Place) -> None:
    job, one = await place.assigned(), place.callers["one"]
    uris = await asyncio.gather(*(one.upload(job, f"f{number}", bytes([number])) for number in range(100)))
    assert [await one.download(job, uri) for uri in uris] == [bytes([number]) for number in range(100)]
