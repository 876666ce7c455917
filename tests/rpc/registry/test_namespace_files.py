"""NamespaceFileService over a real port: files in and out, who may, and what is remembered."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from hashlib import sha256

import grpc
import sqlalchemy as sql

from farhand.api.registry.v1.namespace_file_pb2 import NamespaceFile
from farhand.api.registry.v1.namespace_file_service_pb2 import (
    DeleteNamespaceFileRequest,
    ListNamespaceFilesRequest,
    PutNamespaceFileRequest,
    ReadNamespaceFileRequest,
)
from farhand.api.registry.v1.tenant_service_pb2 import DeleteTenantRequest
from tests.rpc.refusal import refused, streamed
from tests.rpc.registry.registry_house import House, open_house, paths

MIB = 1 << 20


async def put(
    house: House,
    path: str,
    content: bytes = b"x",
    *,
    tenant: str = "acme",
    namespace: str = "a.b",
    caller: str = "admin",
    chunk: int = MIB,
    **more: str | int,
) -> NamespaceFile:
    async def requests() -> AsyncIterator[PutNamespaceFileRequest]:
        file = NamespaceFile(tenant=tenant, namespace=namespace, path=path, **more)  # type: ignore[arg-type]
        yield PutNamespaceFileRequest(file=file)
        for start in range(0, len(content), chunk):
            yield PutNamespaceFileRequest(chunk=content[start : start + chunk])

    return (await streamed(lambda: house.files(caller).PutNamespaceFile(requests()))).file


async def read(
    house: House, path: str, digest: str = "", *, tenant: str = "acme", namespace: str = "a.b", caller: str = "admin"
) -> tuple[NamespaceFile, bytes]:
    request = ReadNamespaceFileRequest(tenant=tenant, namespace=namespace, path=path, digest=digest)
    first, *rest = [answer async for answer in house.files(caller).ReadNamespaceFile(request)]
    assert all(len(answer.chunk) <= MIB for answer in rest)
    return first.file, b"".join(answer.chunk for answer in rest)


async def delete(house: House, path: str, namespace: str = "a.b", caller: str = "admin") -> None:
    request = DeleteNamespaceFileRequest(tenant="acme", namespace=namespace, path=path)
    await house.files(caller).DeleteNamespaceFile(request)


async def listed(house: House, namespace: str, *, inherited: bool = False, caller: str = "admin") -> list[str]:
    request = ListNamespaceFilesRequest(tenant="acme", namespace=namespace, inherited=inherited)
    return [f"{file.namespace}:{file.path}" for file in (await house.files(caller).ListNamespaceFiles(request)).files]


async def age(house: House, hours: int) -> None:
    async with house.transactions.changing() as connection:
        await connection.execute(
            sql.text(f"UPDATE registry.past_namespace_file SET past_since = past_since - interval '{hours} h'")
        )


async def contents(house: House) -> int:
    async with house.transactions.reading() as connection:
        return int((await connection.execute(sql.text("SELECT count(*) FROM registry.file_content"))).scalar_one())


async def test_a_file_is_read_as_it_was_put(house: House) -> None:
    content = b"".join(bytes([number]) * MIB for number in range(3)) + b"end"
    put_file = await put(house, "data/größe.bin", content, chunk=700_000)
    assert put_file.digest == sha256(content).hexdigest() and put_file.size == len(content)
    assert (put_file.tenant, put_file.namespace, put_file.path) == ("acme", "a.b", "data/größe.bin")
    assert await read(house, "data/größe.bin") == (put_file, content)
    empty = await put(house, "empty", b"")
    assert await read(house, "empty") == (empty, b"")
    assert (await put(house, "x", tenant="")).tenant == "main"


async def test_the_same_again_changes_nothing_and_one_content_is_stored_once(house: House) -> None:
    first = await put(house, "a")
    assert await put(house, "a") == first
    await asyncio.gather(*(put(house, f"copy-{number}") for number in range(5)))
    assert await contents(house) == 1
    changed = await put(house, "a", b"y")
    assert changed.create_time == first.create_time
    assert changed.update_time.ToNanoseconds() > first.update_time.ToNanoseconds()


async def test_a_replaced_content_is_remembered_for_a_day(house: House) -> None:
    old = await put(house, "a", b"old")
    new = await put(house, "a", b"new")
    assert (await read(house, "a"))[1] == b"new"
    assert (await read(house, "a", old.digest))[1] == b"old"
    assert (await read(house, "a", new.digest))[1] == b"new"
    await age(house, 25)
    error = await refused(read(house, "a", old.digest))
    assert error.code is grpc.StatusCode.NOT_FOUND and "other content" in error.message
    await put(house, "b", b"this clears away")
    assert await contents(house) == 2


async def test_a_deleted_file_is_gone_and_its_content_a_day_later(house: House) -> None:
    file = await put(house, "data/train.csv")
    await delete(house, "data/train.csv")
    assert (await refused(read(house, "data/train.csv"))).code is grpc.StatusCode.NOT_FOUND
    assert (await refused(delete(house, "data/train.csv"))).code is grpc.StatusCode.NOT_FOUND
    assert await read(house, "data/train.csv", file.digest) == (file, b"x")
    await age(house, 25)
    await put(house, "b", b"y")
    assert await contents(house) == 1
    assert (await put(house, "data/train.csv")).size == 1  # and may come again


async def test_a_content_that_two_paths_have_stays_while_one_has_it(house: House) -> None:
    await put(house, "a")
    await put(house, "b", namespace="other")
    await delete(house, "a")
    await age(house, 25)
    await put(house, "c", b"clears away")
    assert (await read(house, "b", namespace="other"))[1] == b"x"


async def test_lists_are_by_path_and_the_nearest_namespace_counts(house: House) -> None:
    await put(house, "shared", b"from a", namespace="a")
    await put(house, "shared", b"from a.b")
    await put(house, "only-a", namespace="a")
    await put(house, "zz")
    await put(house, "beside", namespace="a.bc")
    await put(house, "shared", b"rival's", tenant="rival")
    assert await listed(house, "a.b") == ["a.b:shared", "a.b:zz"]
    assert await listed(house, "a.b.c") == []
    assert await listed(house, "a.b.c", inherited=True) == ["a:only-a", "a.b:shared", "a.b:zz"]


async def test_pages_follow_one_another(house: House) -> None:
    for number in range(5):
        await put(house, f"f{number}", namespace="a" if number % 2 else "a.b")
    found: list[str] = []
    request = ListNamespaceFilesRequest(tenant="acme", namespace="a.b", inherited=True, page_size=2)
    while True:
        page = await house.files().ListNamespaceFiles(request)
        found += [file.path for file in page.files]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert found == [f"f{number}" for number in range(5)]
    request.namespace = "a"
    assert paths(await refused(house.files().ListNamespaceFiles(request))) == ["page_token"]


async def test_what_is_wrong_is_said_with_its_path(house: House) -> None:
    assert paths(await refused(put(house, "../x", namespace="a..b", digest="abc"))) == [
        "file.namespace",
        "file.path",
        "file.digest",
    ]
    assert paths(await refused(put(house, "a", digest="0" * 64, size=7))) == ["file.digest", "file.size"]
    assert paths(await refused(put(house, "a", size=65 * MIB))) == ["file.size"]
    assert paths(await refused(put(house, "a", b"x" * (2 * MIB), chunk=2 * MIB))) == ["chunk"]
    assert paths(await refused(read(house, ""))) == ["path"]
    assert paths(await refused(read(house, "a", "zz"))) == ["digest"]
    assert paths(await refused(listed(house, "a..b"))) == ["namespace"]
    assert await contents(house) == 0


async def test_a_stream_that_is_none_is_refused(house: House) -> None:
    async def chunk_first() -> AsyncIterator[PutNamespaceFileRequest]:
        yield PutNamespaceFileRequest(chunk=b"x")

    async def nothing() -> AsyncIterator[PutNamespaceFileRequest]:
        return
        yield

    async def twice() -> AsyncIterator[PutNamespaceFileRequest]:
        for _ in range(2):
            yield PutNamespaceFileRequest(file=NamespaceFile(tenant="acme", namespace="a", path="a"))

    assert paths(await refused(house.files().PutNamespaceFile(chunk_first()))) == ["file"]
    assert paths(await refused(house.files().PutNamespaceFile(nothing()))) == ["file"]
    assert paths(await refused(house.files().PutNamespaceFile(twice()))) == ["chunk"]


async def test_a_file_over_64_mib_is_refused_and_one_below_costs_little_memory(house: House) -> None:
    content = bytes(MIB) * 64
    error = await refused(put(house, "large", content + b"x"))
    assert paths(error) == ["file.size"] and "64 MiB" in error.message

    async def chunks() -> AsyncIterator[PutNamespaceFileRequest]:
        yield PutNamespaceFileRequest(file=NamespaceFile(tenant="acme", namespace="a.b", path="large"))
        for _ in range(64):
            yield PutNamespaceFileRequest(chunk=content[:MIB])

    tracemalloc.start()
    await house.files().PutNamespaceFile(chunks())
    size = 0
    async for answer in house.files().ReadNamespaceFile(
        ReadNamespaceFileRequest(tenant="acme", namespace="a.b", path="large")
    ):
        size += len(answer.chunk)
    _, peak = tracemalloc.get_traced_memory()  # of server and client, which share this process
    tracemalloc.stop()
    assert size == 64 * MIB and peak < 32 * MIB


async def test_clients_have_the_files_of_their_own_tenants(house: House) -> None:
    await put(house, "a", caller="acme")
    assert await listed(house, "a.b", caller="acme") == await listed(house, "a.b", caller="service") == ["a.b:a"]
    for call in (
        put(house, "a", caller="rival"),
        read(house, "a", caller="rival"),
        listed(house, "a.b", caller="rival"),
        delete(house, "a", caller="rival"),
    ):
        error = await refused(call)
        assert error.code is grpc.StatusCode.NOT_FOUND and "tenant" in error.message
    for caller, call in (("service", put(house, "a", caller="service")), ("worker", read(house, "a", caller="worker"))):
        assert (await refused(call)).code is grpc.StatusCode.PERMISSION_DENIED, caller
    await delete(house, "a", caller="acme")


async def test_a_file_that_is_not_there_is_named_with_near_matches(house: House) -> None:
    await put(house, "data/train.csv")
    await put(house, "data/trains.csv", tenant="rival")
    error = await refused(read(house, "data/trian.csv"))
    assert error.metadata["near"] == "data/train.csv" and "a.b" in error.message
    assert (await refused(read(house, "../x"))).code is grpc.StatusCode.NOT_FOUND
    assert (await refused(read(house, "a\0"))).code is grpc.StatusCode.NOT_FOUND


async def test_a_tenant_with_files_stays_until_they_are_gone(house: House) -> None:
    await put(house, "a")
    error = await refused(house.tenants().DeleteTenant(DeleteTenantRequest(id="acme")))
    assert error.reason == "IN_USE" and "a.b" in error.message
    await delete(house, "a")
    await house.tenants().DeleteTenant(DeleteTenantRequest(id="acme"))


async def test_replicas_that_put_replace_and_clear_at_once_lose_nothing(house: House, fresh_database: str) -> None:
    async with open_house(fresh_database) as other:

        async def churn(house: House, number: int) -> None:
            for turn in range(6):
                content = bytes([turn % 3]) * 3 * MIB  # three contents, which all of them share
                file = await put(house, f"f{number}", content, chunk=MIB)
                await age(house, 25)
                assert (await read(house, f"f{number}"))[1] == content and file.size == len(content)

        await asyncio.gather(*(churn(each, number) for number, each in enumerate((house, other) * 3)))
    await put(house, "last")
    assert await contents(house) <= 4
