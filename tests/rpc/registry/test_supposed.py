"""ValidateFlow with what would be declared first: flows are looked at as if it was, and it is looked at itself."""

import grpc
from google.protobuf.duration_pb2 import Duration

from farhand.api.registry.v1 import flow_service_pb2 as api
from farhand.api.registry.v1.flow_pb2 import FlowProblem
from farhand.api.registry.v1.namespace_pb2 import Namespace
from farhand.api.registry.v1.namespace_service_pb2 import UpdateNamespaceRequest
from farhand.api.registry.v1.tenant_pb2 import Tenant
from farhand.api.registry.v1.worker_group_pb2 import WORKER_GROUP_STATE_DELETING, TenantQuota, WorkerGroup
from farhand.api.registry.v1.worker_group_service_pb2 import UpdateWorkerGroupRequest
from tests.rpc.refusal import refused
from tests.rpc.registry.flow_calls import (
    a_default,
    create,
    make_group,
    make_namespace,
    on_group,
    source,
    validate,
)
from tests.rpc.registry.registry_house import House


async def suppose(
    house: House,
    text: str = "",
    *,
    tenant: str = "acme",
    caller: str = "admin",
    tenants: tuple[Tenant, ...] = (),
    namespaces: tuple[Namespace, ...] = (),
    groups: tuple[WorkerGroup, ...] = (),
) -> list[FlowProblem]:
    supposed = api.Declarations(tenants=tenants, namespaces=namespaces, worker_groups=groups)
    request = api.ValidateFlowRequest(tenant=tenant, source=text, supposed=supposed)
    return list((await house.flows(caller).ValidateFlow(request)).problems)


async def told(house: House, **given: tuple[Tenant, ...] | tuple[Namespace, ...] | tuple[WorkerGroup, ...]) -> str:
    """The one problem of what is supposed."""
    (problem,) = await suppose(house, **given)  # type: ignore[arg-type]
    return f"{problem.path}: {problem.message}"


async def test_a_group_that_would_be_made_may_be_named_by_flows_and_is_not_made(house: House) -> None:
    gpu = WorkerGroup(key="gpu")
    assert await suppose(house, on_group("gpu"), groups=(gpu,)) == []
    (problem,) = await validate(house, on_group("gpu"))
    assert "there is no worker group 'gpu'" in problem.message


async def test_a_group_counts_as_it_would_be_and_not_as_it_is(house: House) -> None:
    await make_group(house, "gpu", "rival")
    assert await suppose(house, on_group("gpu"), groups=(WorkerGroup(key="gpu"),)) == []
    (problem,) = await suppose(house, on_group("gpu"), groups=(WorkerGroup(key="gpu", allowed_tenants=["rival"]),))
    assert (problem.line, "does not allow the tenant 'acme'" in problem.message) == (8, True)
    going = WorkerGroup(key="gpu", state=WORKER_GROUP_STATE_DELETING)
    (problem,) = await suppose(house, on_group("gpu"), groups=(going,))
    assert "is being deleted" in problem.message


async def test_a_flow_of_a_tenant_that_would_be_made_is_looked_at(house: House) -> None:
    assert await suppose(house, source(), tenant="fresh", tenants=(Tenant(id="fresh"),)) == []
    error = await refused(house.flows().ValidateFlow(api.ValidateFlowRequest(tenant="fresh", source=source())))
    assert error.code is grpc.StatusCode.NOT_FOUND


async def test_plugin_defaults_count_as_they_would_be(house: House) -> None:
    text = "id: a\nnamespace: company.team\ntasks:\n  - {id: t, type: io.kestra.plugin.core.log.Log}\n"
    (problem,) = await validate(house, text)
    assert "message" in problem.path
    namespace = Namespace(
        tenant="acme", name="company", plugin_defaults=[a_default("io.kestra.plugin.core.log", message="hi")]
    )
    assert await suppose(house, text, namespaces=(namespace,)) == []
    elsewhere = Namespace(
        tenant="rival", name="company", plugin_defaults=[a_default("io.kestra.plugin.core.log", message="hi")]
    )
    assert await suppose(house, text, namespaces=(elsewhere,)) == [problem]


async def test_what_could_not_be_declared_is_told_with_its_path_all_at_once(house: House) -> None:
    problems = await suppose(
        house,
        tenants=(Tenant(id="Fresh"), Tenant(id="fresh", description="d" * 1001)),
        namespaces=(Namespace(tenant="acme", name="a..b", default_fallback=9),),  # type: ignore[arg-type]
        groups=(WorkerGroup(key="g", lease=Duration(nanos=1)), WorkerGroup(key="_g", lease=Duration(nanos=1_000_000))),
    )
    assert [problem.path for problem in problems] == [
        "supposed.namespaces[0].default_fallback",
        "supposed.worker_groups[0].lease",
        "supposed.tenants[0].id",
        "supposed.tenants[1].description",
        "supposed.namespaces[0].name",
        "supposed.worker_groups[1].key",
        "supposed.worker_groups[1].lease",
    ]


async def test_what_is_supposed_may_name_each_other_and_nothing_that_is_not_there(house: House) -> None:
    await make_group(house, "gpu-1", "rival")
    fresh = Tenant(id="fresh", default_worker_group="own", plugin_defaults=[a_default("x", workerGroup={"key": "own"})])
    own = WorkerGroup(key="own", allowed_tenants=["fresh", "acme"])
    assert await suppose(house, tenants=(fresh,), groups=(own,)) == []
    near = "there is no tenant 'frehs'. Did you mean 'fresh'?"
    missing = WorkerGroup(key="own", allowed_tenants=["frehs"])
    path = "supposed.worker_groups[0].allowed_tenants"
    problems = await suppose(house, tenants=(Tenant(id="fresh"),), groups=(missing,))
    assert [(each.path, each.message) for each in problems] == [(path, near[0].upper() + near[1:])]
    bound = WorkerGroup(key="own", quotas=[TenantQuota(tenant="frehs")])
    told_of = await told(house, tenants=(Tenant(id="fresh"),), groups=(bound,))
    assert told_of == "supposed.worker_groups[0].quotas: T" + near[1:]
    namespace = Namespace(tenant="acme", name="a", default_worker_group="gpu-1")
    forbidden = "supposed.namespaces[0].default_worker_group: the worker group 'gpu-1' does not allow the tenant 'acme'"
    assert await told(house, namespaces=(namespace,)) == forbidden
    named = Namespace(tenant="acme", name="a", plugin_defaults=[a_default("x", workerGroup={"key": "gpu-2"})])
    unknown = "supposed.namespaces[0].plugin_defaults[0].values.workerGroup.key: There is no worker group 'gpu-2'."
    assert await told(house, namespaces=(named,)) == f"{unknown} Did you mean 'gpu-1'?"


async def test_a_group_that_was_named_before_it_was_narrowed_may_be_named_further(house: House) -> None:
    await make_group(house, "gpu")
    await make_namespace(house, "a", a_default("x", workerGroup={"key": "gpu"}), group="gpu")
    narrow = UpdateWorkerGroupRequest(worker_group=WorkerGroup(key="gpu", allowed_tenants=["rival"]))
    await house.groups().UpdateWorkerGroup(narrow)
    defaults = [a_default("y", workerGroup={"key": "gpu"})]
    space = Namespace(tenant="acme", name="a", description="new", default_worker_group="gpu", plugin_defaults=defaults)
    assert await suppose(house, namespaces=(space,)) == []
    await house.namespaces().UpdateNamespace(UpdateNamespaceRequest(namespace=space))
    space.name = "b"
    assert len(await suppose(house, namespaces=(space,))) == 2


async def test_who_does_not_see_every_tenant_supposes_nothing(house: House) -> None:
    supposed = api.Declarations(worker_groups=[WorkerGroup(key="gpu")])
    request = api.ValidateFlowRequest(tenant="acme", source=source(), supposed=supposed)
    error = await refused(house.flows("acme").ValidateFlow(request))
    assert error.code is grpc.StatusCode.PERMISSION_DENIED


async def test_a_flow_that_is_saved_keeps_to_warnings_also_of_what_would_be(house: House) -> None:
    await make_group(house, "gpu")
    await create(house, on_group("gpu"))
    going = WorkerGroup(key="gpu", state=WORKER_GROUP_STATE_DELETING)
    (problem,) = await suppose(house, on_group("gpu"), groups=(going,))
    assert problem.severity == 2
