"""WorkerGroupService over a real port, deletions apart (test_group_deletion.py)."""

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from farhand.api.registry.v1.tenant_service_pb2 import DeleteTenantRequest
from farhand.api.registry.v1.worker_group_pb2 import WORKER_GROUP_STATE_ACTIVE, TenantQuota, WorkerGroup
from farhand.api.registry.v1.worker_group_service_pb2 import (
    CreateWorkerGroupRequest,
    GetWorkerGroupRequest,
    ListWorkerGroupsRequest,
    UpdateWorkerGroupRequest,
)
from tests.rpc.refusal import refused
from tests.rpc.registry.registry_house import House, paths


async def make(house: House, group: WorkerGroup, request_id: str = "") -> WorkerGroup:
    request = CreateWorkerGroupRequest(worker_group=group, request_id=request_id)
    return (await house.groups().CreateWorkerGroup(request)).worker_group


async def get(house: House, key: str, caller: str = "admin") -> WorkerGroup:
    return (await house.groups(caller).GetWorkerGroup(GetWorkerGroupRequest(key=key))).worker_group


async def update(house: House, group: WorkerGroup, *mask: str) -> WorkerGroup:
    request = UpdateWorkerGroupRequest(worker_group=group, update_mask=FieldMask(paths=mask))
    return (await house.groups().UpdateWorkerGroup(request)).worker_group


async def listed(house: House, caller: str) -> list[str]:
    page = await house.groups(caller).ListWorkerGroups(ListWorkerGroupsRequest())
    return [group.key for group in page.worker_groups]


async def test_a_group_is_created_with_a_uid_and_a_lease_of_a_minute(house: House) -> None:
    made = await make(house, WorkerGroup(key="gpu", description="d", allowed_tenants=["rival", "acme", "rival"]))
    assert made.key == "gpu" and made.uid.startswith("wg_") and made.state == WORKER_GROUP_STATE_ACTIVE
    assert made.lease == Duration(seconds=60) and not made.paused
    assert list(made.allowed_tenants) == ["acme", "rival"]
    assert await get(house, "gpu") == made
    other = await make(house, WorkerGroup(key="GPU", lease=Duration(seconds=1, nanos=500_000_000), paused=True))
    assert other.uid != made.uid and other.paused and other.lease == Duration(seconds=1, nanos=500_000_000)


async def test_the_same_request_gives_the_same_group(house: House) -> None:
    first = await make(house, WorkerGroup(key="gpu", allowed_tenants=["acme", "main"]), "r")
    assert await make(house, WorkerGroup(key="gpu", allowed_tenants=["main", "acme"], uid="mine"), "r") == first
    assert (await refused(make(house, WorkerGroup(key="gpu"), "r"))).reason == "REQUEST_ID_REUSED"
    assert (await refused(make(house, WorkerGroup(key="gpu")))).reason == "RESOURCE_EXISTS"


async def test_all_that_is_wrong_is_said_at_once_with_its_path(house: House) -> None:
    bad = WorkerGroup(key="a b", description="\0", allowed_tenants=["acme", "!"], lease=Duration(nanos=999_000_000))
    error = await refused(make(house, bad, "x" * 101))
    assert paths(error) == [
        "worker_group.key",
        "worker_group.description",
        "worker_group.allowed_tenants[1]",
        "worker_group.lease",
        "request_id",
    ]
    for key in ("", "_default", "x" * 101, "-a"):
        assert paths(await refused(make(house, WorkerGroup(key=key)))) == ["worker_group.key"]


async def test_a_lease_that_no_clock_can_tell_is_refused(house: House) -> None:
    for lease in (Duration(seconds=2**62), Duration(seconds=-(2**62)), Duration(nanos=999_999_999), Duration()):
        assert paths(await refused(make(house, WorkerGroup(key="gpu", lease=lease)))) == ["worker_group.lease"]


async def test_an_allowed_tenant_that_is_not_there_is_refused_with_near_matches(house: House) -> None:
    error = await refused(make(house, WorkerGroup(key="gpu", allowed_tenants=["acme", "rivall"])))
    assert (error.code, error.metadata["near"]) == (grpc.StatusCode.NOT_FOUND, "rival")
    await make(house, WorkerGroup(key="gpu"))
    error = await refused(update(house, WorkerGroup(key="gpu", allowed_tenants=["rivall"])))
    assert error.code is grpc.StatusCode.NOT_FOUND


async def test_an_update_goes_by_mask(house: House) -> None:
    made = await make(house, WorkerGroup(key="gpu", description="d", allowed_tenants=["acme"], paused=True))
    same = await update(house, WorkerGroup(key="gpu", paused=False))  # not set, so not meant
    assert same == made
    changed = await update(house, WorkerGroup(key="gpu", etag=made.etag), "paused", "allowed_tenants", "lease")
    assert not changed.paused and not changed.allowed_tenants and changed.lease == Duration(seconds=60)
    assert (changed.description, changed.uid) == ("d", made.uid) and changed.etag != made.etag
    cleared = await update(house, WorkerGroup(key="gpu", lease=Duration(seconds=2)), "*")
    assert cleared.description == "" and cleared.lease == Duration(seconds=2)


async def test_quotas_are_kept_by_tenant_and_changed_as_a_whole(house: House) -> None:
    acme, others = TenantQuota(tenant="acme", max_running=4, max_queued=100), TenantQuota(max_running=0)
    made = await make(house, WorkerGroup(key="gpu", quotas=[acme, others]), "r")
    assert list(made.quotas) == [TenantQuota(tenant="*", max_running=0), acme]
    assert await make(house, WorkerGroup(key="gpu", quotas=[TenantQuota(tenant="*", max_running=0), acme]), "r") == made
    assert await get(house, "gpu") == made == await update(house, WorkerGroup(key="gpu", quotas=[acme, others]))
    changed = await update(house, WorkerGroup(key="gpu", quotas=[TenantQuota(tenant="rival")]))
    assert list(changed.quotas) == [TenantQuota(tenant="rival")]
    assert not (await update(house, WorkerGroup(key="gpu"), "quotas")).quotas
    error = await refused(make(house, WorkerGroup(key="bad", quotas=[acme, acme, TenantQuota(max_queued=-1)])))
    assert paths(error) == ["worker_group.quotas[1].tenant", "worker_group.quotas[2].max_queued"]


async def test_a_quota_names_a_tenant_that_is_there_and_stays(house: House) -> None:
    error = await refused(make(house, WorkerGroup(key="gpu", quotas=[TenantQuota(tenant="rivall", max_running=1)])))
    assert (error.code, error.metadata["near"]) == (grpc.StatusCode.NOT_FOUND, "rival")
    await make(house, WorkerGroup(key="gpu", quotas=[TenantQuota(tenant="acme")]))
    error = await refused(house.tenants().DeleteTenant(DeleteTenantRequest(id="acme")))
    assert error.reason == "IN_USE" and "the quotas of the worker groups gpu" in error.message
    await update(house, WorkerGroup(key="gpu"), "quotas")
    await house.tenants().DeleteTenant(DeleteTenantRequest(id="acme"))


async def test_a_client_sees_the_quotas_of_its_own_tenants_and_everyone_s(house: House) -> None:
    names = ("*", "acme", "rival")
    await make(house, WorkerGroup(key="gpu", quotas=[TenantQuota(tenant=name, max_running=1) for name in names]))
    assert [quota.tenant for quota in (await get(house, "gpu", "acme")).quotas] == ["*", "acme"]
    assert [quota.tenant for quota in (await get(house, "gpu", "service")).quotas] == list(names)


async def test_an_update_checks_what_it_changes(house: House) -> None:
    made = await make(house, WorkerGroup(key="gpu"))
    bad = WorkerGroup(key="gpu", lease=Duration(seconds=2**62), description="x" * 1001)
    assert paths(await refused(update(house, bad))) == ["worker_group.lease", "worker_group.description"]
    assert paths(await refused(update(house, bad, "lease"))) == ["worker_group.lease"]
    error = await refused(update(house, made, "key", "uid", "state", "lease.seconds", "paused"))
    assert paths(error) == ["update_mask"] * 4
    await update(house, WorkerGroup(key="gpu", description="new"))
    assert (await refused(update(house, made, "paused"))).reason == "ETAG_MISMATCH"


async def test_the_default_group_is_known_by_its_id_and_by_nothing_and_can_be_changed(house: House) -> None:
    default = await get(house, "_default")
    assert default == await get(house, "") and default.key == ""
    for key in ("", "_default"):
        changed = await update(house, WorkerGroup(key=key, description=f"by {key!r}", paused=True))
        assert changed.description == f"by {key!r}" and changed.paused and changed.uid == default.uid


async def test_keys_are_case_sensitive_and_a_missing_one_is_named_with_near_matches(house: House) -> None:
    await make(house, WorkerGroup(key="gpu"))
    for call in (get(house, "GPU"), get(house, "gpuu"), update(house, WorkerGroup(key="gpv")), get(house, "gpu!")):
        error = await refused(call)
        assert (error.code, error.metadata["near"]) == (grpc.StatusCode.NOT_FOUND, "gpu")
    assert (await refused(get(house, "x" * 1_000_000))).code is grpc.StatusCode.NOT_FOUND


async def test_the_default_group_is_first_of_the_pages(house: House) -> None:
    for key in ("b", "a"):
        await make(house, WorkerGroup(key=key))
    first = await house.groups().ListWorkerGroups(ListWorkerGroupsRequest(page_size=1))
    assert [group.key for group in first.worker_groups] == [""]
    token = first.next_page_token
    rest = await house.groups().ListWorkerGroups(ListWorkerGroupsRequest(page_token=token))
    assert [group.key for group in rest.worker_groups] == ["a", "b"] and not rest.next_page_token


async def test_a_client_sees_the_groups_that_its_tenants_may_use_without_other_tenants_names(house: House) -> None:
    await make(house, WorkerGroup(key="shared", allowed_tenants=["acme", "rival"]))
    await make(house, WorkerGroup(key="theirs", allowed_tenants=["rival"]))
    assert await listed(house, "acme") == ["", "shared"]
    assert await listed(house, "rival") == ["", "shared", "theirs"]
    assert await listed(house, "nobody") == []
    assert await listed(house, "service") == ["", "shared", "theirs"]
    assert list((await get(house, "shared", "acme")).allowed_tenants) == ["acme"]
    page = await house.groups("rival").ListWorkerGroups(ListWorkerGroupsRequest())
    assert [list(group.allowed_tenants) for group in page.worker_groups] == [[], ["rival"], ["rival"]]
    error = await refused(get(house, "theirs", "acme"))
    assert error.code is grpc.StatusCode.NOT_FOUND and not error.metadata
