"""Deleting a group: the administrator on one side, the scheduler on the other, the registry between them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from farhand.api.registry.v1.namespace_pb2 import Namespace
from farhand.api.registry.v1.namespace_service_pb2 import CreateNamespaceRequest
from farhand.api.registry.v1.tenant_pb2 import Tenant
from farhand.api.registry.v1.tenant_service_pb2 import UpdateTenantRequest
from farhand.api.registry.v1.watch_service_pb2 import DeclaredWorkerGroup, WatchRequest, WatchResponse
from farhand.api.registry.v1.worker_group_pb2 import (
    WORKER_GROUP_STATE_ACTIVE,
    WORKER_GROUP_STATE_DELETING,
    WorkerGroup,
)
from farhand.api.registry.v1.worker_group_service_pb2 import (
    CreateWorkerGroupRequest,
    DeleteWorkerGroupRequest,
    GetWorkerGroupRequest,
    ResolveWorkerGroupDeletionRequest,
    UpdateWorkerGroupRequest,
)
from tests.rpc.refusal import refused
from tests.rpc.registry.registry_house import House, open_house, paths


async def make(house: House, key: str = "gpu") -> WorkerGroup:
    request = CreateWorkerGroupRequest(worker_group=WorkerGroup(key=key))
    return (await house.groups().CreateWorkerGroup(request)).worker_group


async def get(house: House, key: str = "gpu") -> WorkerGroup:
    return (await house.groups().GetWorkerGroup(GetWorkerGroupRequest(key=key))).worker_group


async def delete(house: House, *, key: str = "gpu", etag: str = "", force: bool = False) -> WorkerGroup | None:
    """None: gone; else the group that is left."""
    request = DeleteWorkerGroupRequest(key=key, etag=etag, force=force)
    response = await house.groups().DeleteWorkerGroup(request)
    return response.worker_group if response.HasField("worker_group") else None


async def resolve(house: House, uid: str, queued: int = 0, running: int = 0) -> None:
    request = ResolveWorkerGroupDeletionRequest(uid=uid, queued_jobs=queued, running_jobs=running)
    await house.groups("service").ResolveWorkerGroupDeletion(request)


@asynccontextmanager
async def watching(house: House) -> AsyncIterator["asyncio.Queue[DeclaredWorkerGroup | str]"]:
    """What a scheduler hears of groups: each as it becomes, or the uid of one that is gone."""
    heard: asyncio.Queue[DeclaredWorkerGroup | str] = asyncio.Queue()
    call: Any = house.watches().Watch(WatchRequest())

    def hear(step: WatchResponse) -> None:
        match step.change.WhichOneof("resource"):
            case "worker_group":
                heard.put_nowait(step.change.worker_group)
            case "removed_worker_group_uid":
                heard.put_nowait(step.change.removed_worker_group_uid)

    async def read() -> None:
        while (step := await call.read()) is not grpc.aio.EOF:
            hear(step)

    assert (await call.read()).HasField("snapshot")  # all that follows is a change
    reading = asyncio.create_task(read())
    try:
        yield heard
    finally:
        reading.cancel()
        await asyncio.wait([reading])
        call.cancel()


async def a_deletion(heard: "asyncio.Queue[DeclaredWorkerGroup | str]") -> DeclaredWorkerGroup:
    """The next group that a scheduler hears to be DELETING."""
    async with asyncio.timeout(10):
        while True:
            step = await heard.get()
            if isinstance(step, DeclaredWorkerGroup) and step.worker_group.state == WORKER_GROUP_STATE_DELETING:
                return step


async def test_a_group_goes_once_the_scheduler_has_finished_with_it(fresh_database: str) -> None:
    async with open_house(fresh_database, deletion_wait=20) as house, watching(house) as heard:
        made = await make(house)
        deletion = asyncio.create_task(delete(house))
        asked = await a_deletion(heard)
        assert asked.worker_group.uid == made.uid and not asked.force_deletion
        assert (await get(house)).state == WORKER_GROUP_STATE_DELETING
        assert not deletion.done()
        await resolve(house, made.uid)
        assert await deletion is None
        assert await heard.get() == made.uid
        assert (await refused(get(house))).code is grpc.StatusCode.NOT_FOUND
        again = await make(house)
        assert again.uid != made.uid


async def test_a_group_with_jobs_is_active_again_and_the_caller_hears_both_counts(fresh_database: str) -> None:
    async with open_house(fresh_database, deletion_wait=20) as house, watching(house) as heard:
        made = await make(house)
        deletion = asyncio.create_task(refused(delete(house)))
        await a_deletion(heard)
        await resolve(house, made.uid, queued=3, running=1)
        error = await deletion
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "HAS_JOBS")
        assert error.metadata == {"queued_jobs": "3", "running_jobs": "1"}
        assert "3 queued and 1 running" in error.message
        left = await get(house)
        assert (left.state, left.uid) == (WORKER_GROUP_STATE_ACTIVE, made.uid)


async def test_an_answer_that_came_to_another_replica_is_heard(fresh_database: str) -> None:
    async with (
        open_house(fresh_database, deletion_wait=20) as house,
        open_house(fresh_database) as other,
        watching(other) as heard,
    ):
        made = await make(house)
        deletion = asyncio.create_task(delete(house))
        await a_deletion(heard)
        await resolve(other, made.uid)
        assert await deletion is None


async def test_with_no_scheduler_the_deletion_is_left_to_itself(house: House) -> None:
    made = await make(house)
    left = await delete(house)
    assert left is not None and (left.uid, left.state) == (made.uid, WORKER_GROUP_STATE_DELETING)
    await resolve(house, made.uid)
    assert (await refused(get(house))).code is grpc.StatusCode.NOT_FOUND


async def test_asking_again_joins_the_deletion_also_with_the_etag_from_before(house: House) -> None:
    made = await make(house)
    left = await delete(house, etag=made.etag)
    assert left is not None
    for etag in (made.etag, left.etag, ""):
        assert await delete(house, etag=etag) == left
    assert (await refused(delete(house, etag="r1"))).reason == "ETAG_MISMATCH"


async def test_force_is_told_to_the_scheduler_also_when_it_comes_later(house: House) -> None:
    async with watching(house) as heard:
        await make(house)
        await delete(house)
        assert not (await a_deletion(heard)).force_deletion
        await delete(house, force=True)
        assert (await a_deletion(heard)).force_deletion
        await delete(house)
        assert heard.empty()


async def test_a_refusal_ends_force_too(house: House) -> None:
    made = await make(house)
    await delete(house, force=True)
    await resolve(house, made.uid, running=1)
    async with watching(house) as heard:
        await delete(house)
        assert not (await a_deletion(heard)).force_deletion


async def test_answers_may_come_twice(house: House) -> None:
    made = await make(house)
    await delete(house)
    for _ in range(2):
        await resolve(house, made.uid, queued=2)
    await delete(house)
    for _ in range(2):
        await resolve(house, made.uid)
    assert (await refused(resolve(house, made.uid, queued=1))).code is grpc.StatusCode.NOT_FOUND


async def test_an_answer_to_no_question_is_refused(house: House) -> None:
    made = await make(house)
    for counts in (0, 1):
        error = await refused(resolve(house, made.uid, queued=counts))
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_DELETING")
    assert (await refused(resolve(house, "wg_nobody"))).code is grpc.StatusCode.NOT_FOUND
    assert paths(await refused(resolve(house, "", queued=-1, running=-2))) == ["uid", "queued_jobs", "running_jobs"]


async def test_a_group_that_is_somebodys_default_is_kept_and_they_are_listed(house: House) -> None:
    await make(house)
    await house.tenants().UpdateTenant(UpdateTenantRequest(tenant=Tenant(id="acme", default_worker_group="gpu")))
    namespace = Namespace(tenant="rival", name="a.b", default_worker_group="gpu")
    await house.namespaces().CreateNamespace(CreateNamespaceRequest(namespace=namespace))
    for force in (False, True):
        error = await refused(delete(house, force=force))
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "IN_USE")
        assert "acme" in error.message and "rival/a.b" in error.message
    assert (await get(house)).state == WORKER_GROUP_STATE_ACTIVE


async def test_a_group_that_is_being_deleted_can_not_be_named_nor_made_again(house: House) -> None:
    await make(house)
    await delete(house)
    named = UpdateTenantRequest(tenant=Tenant(id="acme", default_worker_group="gpu"))
    assert (await refused(house.tenants().UpdateTenant(named))).reason == "GROUP_DELETING"
    error = await refused(make(house))
    assert error.reason == "RESOURCE_EXISTS" and "being deleted" in error.message


async def test_a_group_that_is_being_deleted_can_still_be_changed(house: House) -> None:
    await make(house)
    left = await delete(house)
    assert left is not None
    request = UpdateWorkerGroupRequest(
        worker_group=WorkerGroup(key="gpu", paused=True), update_mask=FieldMask(paths=["paused"])
    )
    changed = (await house.groups().UpdateWorkerGroup(request)).worker_group
    assert changed.paused and changed.state == WORKER_GROUP_STATE_DELETING


async def test_the_default_group_can_not_be_deleted(house: House) -> None:
    for key in ("", "_default"):
        assert (await refused(delete(house, key=key, force=True))).reason == "PROTECTED"


async def test_a_missing_group_and_an_old_etag_are_refused(house: House) -> None:
    await make(house)
    error = await refused(delete(house, key="gpuu"))
    assert (error.code, error.metadata["near"]) == (grpc.StatusCode.NOT_FOUND, "gpu")
    error = await refused(delete(house, etag="r1"))
    assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert (await get(house)).state == WORKER_GROUP_STATE_ACTIVE


async def test_a_caller_that_hangs_up_stops_nothing(fresh_database: str) -> None:
    async with open_house(fresh_database, deletion_wait=20) as house, watching(house) as heard:
        made = await make(house)
        deletion = asyncio.create_task(delete(house))
        await a_deletion(heard)
        deletion.cancel()
        await asyncio.wait([deletion])
        await resolve(house, made.uid)
        assert await heard.get() == made.uid


async def test_a_registry_that_stops_sends_the_caller_away_to_ask_again(fresh_database: str) -> None:
    async with open_house(fresh_database, deletion_wait=20) as house, watching(house) as heard:
        await make(house)
        deletion = asyncio.create_task(refused(delete(house)))
        await a_deletion(heard)
        house.feed.close()
        assert (await deletion).reason == "SHUTTING_DOWN"
