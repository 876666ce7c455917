"""TenantService over a real port."""

import asyncio

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from farhand.api.registry.v1.tenant_pb2 import Tenant
from farhand.api.registry.v1.tenant_service_pb2 import (
    CreateTenantRequest,
    DeleteTenantRequest,
    GetTenantRequest,
    ListTenantsRequest,
    UpdateTenantRequest,
)
from farhand.api.registry.v1.worker_group_pb2 import WorkerGroup
from farhand.api.registry.v1.worker_group_service_pb2 import CreateWorkerGroupRequest, DeleteWorkerGroupRequest
from farhand.api.types.v1.fallback_pb2 import FALLBACK_FAIL, FALLBACK_UNSPECIFIED, FALLBACK_WAIT
from tests.rpc.refusal import refused
from tests.rpc.registry.registry_house import House, paths


async def make(house: House, tenant: Tenant, request_id: str = "") -> Tenant:
    return (await house.tenants().CreateTenant(CreateTenantRequest(tenant=tenant, request_id=request_id))).tenant


async def get(house: House, tenant_id: str, caller: str = "admin") -> Tenant:
    return (await house.tenants(caller).GetTenant(GetTenantRequest(id=tenant_id))).tenant


async def update(house: House, tenant: Tenant, *mask: str) -> Tenant:
    request = UpdateTenantRequest(tenant=tenant, update_mask=FieldMask(paths=mask))
    return (await house.tenants().UpdateTenant(request)).tenant


async def make_group(house: House, key: str, *allowed: str) -> None:
    group = WorkerGroup(key=key, allowed_tenants=allowed)
    await house.groups().CreateWorkerGroup(CreateWorkerGroupRequest(worker_group=group))


async def test_a_tenant_is_created_as_asked_and_read_back(house: House) -> None:
    asked = Tenant(id="new", description="words", default_worker_group="", default_fallback=FALLBACK_FAIL)
    made = await make(house, asked)
    assert (made.id, made.description, made.default_worker_group, made.default_fallback) == (
        "new",
        "words",
        "",
        FALLBACK_FAIL,
    )
    assert made.HasField("default_worker_group") and made.etag and made.create_time == made.update_time
    assert await get(house, "new") == made
    plain = await make(house, Tenant(id="plain"))
    assert not plain.HasField("default_worker_group") and plain.default_fallback == FALLBACK_UNSPECIFIED


async def test_the_default_group_may_be_named_by_its_id(house: House) -> None:
    made = await make(house, Tenant(id="new", default_worker_group="_default"))
    assert made.HasField("default_worker_group") and made.default_worker_group == ""


async def test_output_only_fields_of_a_request_are_ignored(house: House) -> None:
    first = await make(house, Tenant(id="new", etag="rubbish"), "r")
    first_time = first.create_time
    again = await make(house, Tenant(id="new", create_time=first_time), "r")
    assert again == first


async def test_all_that_is_wrong_is_said_at_once_with_its_path(house: House) -> None:
    tenant = Tenant(id="Not This", description="a\0b", default_worker_group="-x", default_fallback=9)  # type: ignore[arg-type]
    error = await refused(house.tenants().CreateTenant(CreateTenantRequest(tenant=tenant, request_id="x" * 101)))
    assert paths(error) == [
        "tenant.default_fallback",
        "tenant.id",
        "tenant.description",
        "tenant.default_worker_group",
        "request_id",
    ]
    assert error.reason == "INVALID_ARGUMENT"
    assert paths(await refused(house.tenants().CreateTenant(CreateTenantRequest()))) == ["tenant.id"]


async def test_a_taken_id_is_refused(house: House) -> None:
    error = await refused(make(house, Tenant(id="acme")))
    assert (error.code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "RESOURCE_EXISTS")


async def test_a_default_group_that_is_not_there_is_refused_with_near_matches(house: House) -> None:
    await make_group(house, "gpu")
    error = await refused(make(house, Tenant(id="new", default_worker_group="gpuu")))
    assert (error.code, error.metadata["near"]) == (grpc.StatusCode.NOT_FOUND, "gpu")
    assert "Did you mean 'gpu'?" in error.message
    assert (await refused(get(house, "new"))).code is grpc.StatusCode.NOT_FOUND


async def test_a_default_group_that_does_not_allow_the_tenant_is_refused(house: House) -> None:
    await make_group(house, "gpu", "acme")
    error = await refused(make(house, Tenant(id="new", default_worker_group="gpu")))
    assert paths(error) == ["tenant.default_worker_group"]
    assert (await update(house, Tenant(id="acme", default_worker_group="gpu"))).default_worker_group == "gpu"


async def test_the_same_request_gives_the_same_answer_even_after_changes(house: House) -> None:
    first = await make(house, Tenant(id="new", description="a"), "r1")
    await update(house, Tenant(id="new", description="b"))
    assert await make(house, Tenant(id="new", description="a"), "r1") == first
    await house.tenants().DeleteTenant(DeleteTenantRequest(id="new"))
    assert await make(house, Tenant(id="new", description="a"), "r1") == first
    assert (await refused(get(house, "new"))).code is grpc.StatusCode.NOT_FOUND


async def test_the_same_request_at_the_same_time_is_made_once(house: House) -> None:
    made = await asyncio.gather(*(make(house, Tenant(id="new"), "r1") for _ in range(8)))
    assert all(tenant == made[0] for tenant in made)


async def test_a_request_id_with_another_body_is_refused(house: House) -> None:
    await make(house, Tenant(id="new"), "r1")
    error = await refused(make(house, Tenant(id="new", description="x"), "r1"))
    assert (error.code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_a_request_that_was_refused_may_come_again_with_its_id(house: House) -> None:
    await refused(make(house, Tenant(id="new", default_worker_group="gpu"), "r1"))
    await make_group(house, "gpu")
    assert (await make(house, Tenant(id="new", default_worker_group="gpu"), "r1")).id == "new"


async def test_an_update_changes_what_the_mask_names_and_nothing_else(house: House) -> None:
    before = await make(
        house, Tenant(id="new", description="a", default_fallback=FALLBACK_FAIL, default_worker_group="")
    )
    after = await update(house, Tenant(id="new", description="b", default_fallback=FALLBACK_WAIT), "description")
    assert (after.description, after.default_fallback, after.default_worker_group) == ("b", FALLBACK_FAIL, "")
    assert after.etag != before.etag and after.update_time.ToNanoseconds() > before.update_time.ToNanoseconds()
    assert after.create_time == before.create_time
    cleared = await update(house, Tenant(id="new"), "default_worker_group", "default_fallback")
    assert not cleared.HasField("default_worker_group") and cleared.default_fallback == FALLBACK_UNSPECIFIED
    assert cleared.description == "b"


async def test_an_update_without_a_mask_changes_what_is_set(house: House) -> None:
    await make(house, Tenant(id="new", description="a", default_fallback=FALLBACK_FAIL))
    after = await update(house, Tenant(id="new", default_worker_group=""))
    assert (after.description, after.default_fallback) == ("a", FALLBACK_FAIL)
    assert after.HasField("default_worker_group")


async def test_an_update_that_changes_nothing_is_no_change(house: House) -> None:
    before = await get(house, "acme")
    assert await update(house, Tenant(id="acme"), "description", "default_fallback") == before
    assert await update(house, Tenant(id="acme")) == before


async def test_unknown_and_immutable_fields_of_a_mask_are_refused(house: House) -> None:
    error = await refused(update(house, Tenant(id="acme"), "id", "etag", "colour", "description"))
    assert paths(error) == ["update_mask"] * 3
    assert "'colour'" in error.message


async def test_an_update_checks_the_fields_that_it_changes(house: House) -> None:
    bad = Tenant(id="acme", description="x" * 1001, default_worker_group="!", default_fallback=77)  # type: ignore[arg-type]
    assert paths(await refused(update(house, bad, "description"))) == ["tenant.description"]
    assert paths(await refused(update(house, bad))) == [
        "tenant.default_fallback",
        "tenant.description",
        "tenant.default_worker_group",
    ]
    assert paths(await refused(update(house, Tenant()))) == ["tenant.id"]


async def test_an_old_etag_is_refused_and_the_current_one_accepted(house: House) -> None:
    old = await get(house, "acme")
    new = await update(house, Tenant(id="acme", description="a", etag=old.etag))
    for call in (
        update(house, Tenant(id="acme", description="b", etag=old.etag)),
        house.tenants().DeleteTenant(DeleteTenantRequest(id="acme", etag=old.etag)),
    ):
        error = await refused(call)
        assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    await house.tenants().DeleteTenant(DeleteTenantRequest(id="acme", etag=new.etag))


async def test_a_tenant_made_again_has_another_etag(house: House) -> None:
    first = await get(house, "acme")
    await house.tenants().DeleteTenant(DeleteTenantRequest(id="acme"))
    assert (await make(house, Tenant(id="acme"))).etag != first.etag


async def test_a_missing_tenant_is_named_with_near_matches(house: House) -> None:
    for call in (
        get(house, "acmee"),
        update(house, Tenant(id="Acme")),
        house.tenants().DeleteTenant(DeleteTenantRequest(id="acm")),
        get(house, "ac\0me"),
    ):
        error = await refused(call)
        assert (error.code, error.reason, error.metadata["near"]) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND", "acme")
    assert paths(await refused(get(house, ""))) == ["id"]


async def test_main_is_protected(house: House) -> None:
    error = await refused(house.tenants().DeleteTenant(DeleteTenantRequest(id="main")))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PROTECTED")
    assert (await update(house, Tenant(id="main", description="ours"))).description == "ours"


async def test_a_tenant_in_use_is_kept_and_its_users_are_listed(house: House) -> None:
    await make_group(house, "gpu", "acme")
    error = await refused(house.tenants().DeleteTenant(DeleteTenantRequest(id="acme")))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "IN_USE")
    assert "gpu" in error.message
    assert (await get(house, "acme")).id == "acme"


async def test_a_default_group_can_not_be_deleted_and_named_at_the_same_time(house: House) -> None:
    await make_group(house, "gpu")
    deletion = asyncio.ensure_future(house.groups().DeleteWorkerGroup(DeleteWorkerGroupRequest(key="gpu")))
    error = None
    try:
        await make(house, Tenant(id="new", default_worker_group="gpu"))
    except grpc.aio.AioRpcError as refusal:
        error = refusal
    outcome = await asyncio.gather(deletion, return_exceptions=True)
    # Whichever came first, the other was refused.
    if error is None:
        assert isinstance(outcome[0], grpc.aio.AioRpcError)
    else:
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert not isinstance(outcome[0], BaseException)


async def test_pages_hold_every_tenant_once_in_order(house: House) -> None:
    for number in range(5):
        await make(house, Tenant(id=f"t{number}"))
    seen: list[str] = []
    token = ""
    while True:
        page = await house.tenants().ListTenants(ListTenantsRequest(page_size=3, page_token=token))
        assert 0 < len(page.tenants) <= 3
        seen += [tenant.id for tenant in page.tenants]
        token = page.next_page_token
        if not token:
            break
    assert seen == ["acme", "main", "rival", "t0", "t1", "t2", "t3", "t4"]
    exact = await house.tenants().ListTenants(ListTenantsRequest(page_size=8))
    assert len(exact.tenants) == 8 and not exact.next_page_token


async def test_a_token_that_is_not_ours_is_refused(house: House) -> None:
    for request, path in (
        (ListTenantsRequest(page_token="rubbish"), "page_token"),
        (ListTenantsRequest(page_size=-1), "page_size"),
    ):
        assert paths(await refused(house.tenants().ListTenants(request))) == [path]


async def test_a_client_sees_its_own_tenants_only(house: House) -> None:
    assert (await get(house, "acme", "acme")).id == "acme"
    listed = await house.tenants("acme").ListTenants(ListTenantsRequest())
    assert [tenant.id for tenant in listed.tenants] == ["acme"]
    assert not (await house.tenants("nobody").ListTenants(ListTenantsRequest())).tenants
    error = await refused(get(house, "rival", "acme"))
    assert error.code is grpc.StatusCode.NOT_FOUND
    # The same words as for a tenant that is not there at all, with no other tenant's name.
    await house.tenants().DeleteTenant(DeleteTenantRequest(id="rival"))
    assert error == await refused(get(house, "rival", "acme"))
    assert len((await house.tenants("service").ListTenants(ListTenantsRequest())).tenants) == 2
