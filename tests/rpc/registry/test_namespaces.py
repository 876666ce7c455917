"""NamespaceService over a real port: what it has beyond TenantService, whose manners it shares."""

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from farhand.api.registry.v1.namespace_pb2 import Namespace
from farhand.api.registry.v1.namespace_service_pb2 import (
    CreateNamespaceRequest,
    DeleteNamespaceRequest,
    GetNamespaceRequest,
    ListNamespacesRequest,
    UpdateNamespaceRequest,
)
from farhand.api.registry.v1.tenant_service_pb2 import DeleteTenantRequest
from farhand.api.registry.v1.worker_group_pb2 import WorkerGroup
from farhand.api.registry.v1.worker_group_service_pb2 import CreateWorkerGroupRequest
from farhand.api.types.v1.fallback_pb2 import FALLBACK_CANCEL, FALLBACK_UNSPECIFIED
from tests.rpc.refusal import refused
from tests.rpc.registry.registry_house import House, paths


async def make(house: House, namespace: Namespace, request_id: str = "") -> Namespace:
    request = CreateNamespaceRequest(namespace=namespace, request_id=request_id)
    return (await house.namespaces().CreateNamespace(request)).namespace


async def get(house: House, tenant: str, name: str, caller: str = "admin") -> Namespace:
    return (await house.namespaces(caller).GetNamespace(GetNamespaceRequest(tenant=tenant, name=name))).namespace


async def update(house: House, namespace: Namespace, *mask: str) -> Namespace:
    request = UpdateNamespaceRequest(namespace=namespace, update_mask=FieldMask(paths=mask))
    return (await house.namespaces().UpdateNamespace(request)).namespace


async def test_a_namespace_is_created_in_its_tenant_and_no_tenant_is_main(house: House) -> None:
    made = await make(house, Namespace(tenant="acme", name="a.b", description="d", default_fallback=FALLBACK_CANCEL))
    assert (made.tenant, made.name, made.default_fallback) == ("acme", "a.b", FALLBACK_CANCEL)
    assert not made.HasField("default_worker_group")
    assert await get(house, "acme", "a.b") == made
    assert (await make(house, Namespace(name="a.b"))).tenant == "main"
    assert (await get(house, "", "a.b")).tenant == "main"


async def test_the_same_request_gives_the_same_answer(house: House) -> None:
    first = await make(house, Namespace(tenant="acme", name="a"), "r")
    assert await make(house, Namespace(tenant="acme", name="a"), "r") == first
    assert (await refused(make(house, Namespace(tenant="main", name="a"), "r"))).reason == "REQUEST_ID_REUSED"
    assert (await refused(make(house, Namespace(tenant="acme", name="a")))).reason == "RESOURCE_EXISTS"


async def test_all_that_is_wrong_is_said_at_once_with_its_path(house: House) -> None:
    bad = Namespace(tenant="acme", name="a..b", description="x" * 1001, default_worker_group="?")
    assert paths(await refused(make(house, bad))) == [
        "namespace.name",
        "namespace.description",
        "namespace.default_worker_group",
    ]


async def test_a_tenant_that_is_not_there_is_named_with_near_matches(house: House) -> None:
    for call in (
        make(house, Namespace(tenant="acm", name="a")),
        get(house, "acm", "a"),
        house.namespaces().ListNamespaces(ListNamespacesRequest(tenant="acm")),
        house.namespaces().DeleteNamespace(DeleteNamespaceRequest(tenant="acm", name="a")),
    ):
        error = await refused(call)
        assert (error.code, error.metadata["near"]) == (grpc.StatusCode.NOT_FOUND, "acme")


async def test_a_namespace_that_is_not_there_is_named_with_near_matches_of_its_tenant(house: House) -> None:
    await make(house, Namespace(tenant="acme", name="company.team"))
    await make(house, Namespace(tenant="rival", name="company.tears"))
    error = await refused(get(house, "acme", "company.tean"))
    assert (error.code, error.metadata["near"]) == (grpc.StatusCode.NOT_FOUND, "company.team")
    assert (await refused(get(house, "main", "company.team"))).metadata == {}
    assert paths(await refused(get(house, "acme", ""))) == ["name"]


async def test_an_update_goes_by_mask_and_etag(house: House) -> None:
    made = await make(house, Namespace(tenant="acme", name="a", default_fallback=FALLBACK_CANCEL))
    changed = await update(house, Namespace(tenant="acme", name="a", etag=made.etag), "default_fallback")
    assert changed.default_fallback == FALLBACK_UNSPECIFIED and changed.etag != made.etag
    assert await update(house, changed) == changed
    error = await refused(update(house, Namespace(tenant="acme", name="a", description="x", etag=made.etag)))
    assert error.reason == "ETAG_MISMATCH"
    assert paths(await refused(update(house, changed, "name", "tenant"))) == ["update_mask"] * 2


async def test_a_default_group_must_allow_the_namespaces_tenant(house: House) -> None:
    group = WorkerGroup(key="gpu", allowed_tenants=["rival"])
    await house.groups().CreateWorkerGroup(CreateWorkerGroupRequest(worker_group=group))
    bad = Namespace(tenant="acme", name="a", default_worker_group="gpu")
    assert paths(await refused(make(house, bad))) == ["namespace.default_worker_group"]
    await make(house, Namespace(tenant="acme", name="a"))
    assert paths(await refused(update(house, bad))) == ["namespace.default_worker_group"]
    assert (await make(house, Namespace(tenant="rival", name="a", default_worker_group="gpu"))).name == "a"


async def test_a_tenant_with_namespaces_stays_until_they_are_gone(house: House) -> None:
    made = await make(house, Namespace(tenant="acme", name="a.b"))
    error = await refused(house.tenants().DeleteTenant(DeleteTenantRequest(id="acme")))
    assert error.reason == "IN_USE" and "a.b" in error.message
    assert (await refused(delete(house, "acme", "a.b", "r0"))).reason == "ETAG_MISMATCH"
    await delete(house, "acme", "a.b", made.etag)
    assert (await refused(delete(house, "acme", "a.b"))).code is grpc.StatusCode.NOT_FOUND
    await house.tenants().DeleteTenant(DeleteTenantRequest(id="acme"))


async def delete(house: House, tenant: str, name: str, etag: str = "") -> None:
    await house.namespaces().DeleteNamespace(DeleteNamespaceRequest(tenant=tenant, name=name, etag=etag))


async def test_pages_are_of_one_tenant_and_so_are_their_tokens(house: House) -> None:
    for tenant in ("acme", "rival"):
        for name in ("a", "a.b", "b"):
            await make(house, Namespace(tenant=tenant, name=name))
    first = await house.namespaces().ListNamespaces(ListNamespacesRequest(tenant="acme", page_size=2))
    assert [(n.tenant, n.name) for n in first.namespaces] == [("acme", "a"), ("acme", "a.b")]
    token = first.next_page_token
    rest = await house.namespaces().ListNamespaces(ListNamespacesRequest(tenant="acme", page_token=token))
    assert [n.name for n in rest.namespaces] == ["b"] and not rest.next_page_token
    other = ListNamespacesRequest(tenant="rival", page_token=token)
    assert paths(await refused(house.namespaces().ListNamespaces(other))) == ["page_token"]


async def test_a_client_sees_its_own_tenants_namespaces_only(house: House) -> None:
    for tenant in ("acme", "rival"):
        await make(house, Namespace(tenant=tenant, name="a"))
    assert (await get(house, "acme", "a", "acme")).tenant == "acme"
    for call in (
        get(house, "rival", "a", "acme"),
        get(house, "", "a", "acme"),
        house.namespaces("acme").ListNamespaces(ListNamespacesRequest(tenant="rival")),
    ):
        error = await refused(call)
        assert error.code is grpc.StatusCode.NOT_FOUND and "tenant" in error.message
