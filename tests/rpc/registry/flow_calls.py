"""Short ways to say what tests of flows ask of a house, and flows to ask for."""

from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from farhand.api.registry.v1 import flow_service_pb2 as api
from farhand.api.registry.v1.flow_pb2 import FLOW_PROBLEM_SEVERITY_ERROR, Flow, FlowProblem
from farhand.api.registry.v1.namespace_pb2 import Namespace
from farhand.api.registry.v1.namespace_service_pb2 import CreateNamespaceRequest, UpdateNamespaceRequest
from farhand.api.registry.v1.tenant_pb2 import Tenant
from farhand.api.registry.v1.tenant_service_pb2 import UpdateTenantRequest
from farhand.api.registry.v1.worker_group_pb2 import WorkerGroup
from farhand.api.registry.v1.worker_group_service_pb2 import CreateWorkerGroupRequest
from farhand.api.types.v1.plugin_default_pb2 import PluginDefault
from tests.rpc.registry.registry_house import House

LOG = "io.kestra.plugin.core.log.Log"


def source(flow_id: str = "hello", namespace: str = "company.team", more: str = "", message: str = "hi") -> str:
    """A flow of one task `t`, whose further lines come last, and so belong to it or to the flow."""
    return f"id: {flow_id}\nnamespace: {namespace}\ntasks:\n  - id: t\n    type: {LOG}\n    message: {message}\n{more}"


def on_group(key: str, **given: str) -> str:
    """The same, whose task names a worker group in line 8."""
    return source(**given, more=f'    workerGroup:\n      key: "{key}"\n')


async def create(house: House, text: str, tenant: str = "acme", caller: str = "admin", request_id: str = "") -> Flow:
    request = api.CreateFlowRequest(tenant=tenant, source=text, request_id=request_id)
    return (await house.flows(caller).CreateFlow(request)).flow


async def update(house: House, text: str, etag: str = "", tenant: str = "acme", caller: str = "admin") -> Flow:
    return (await house.flows(caller).UpdateFlow(api.UpdateFlowRequest(tenant=tenant, source=text, etag=etag))).flow


async def validate(house: House, text: str, tenant: str = "acme", caller: str = "admin") -> list[FlowProblem]:
    request = api.ValidateFlowRequest(tenant=tenant, source=text)
    return list((await house.flows(caller).ValidateFlow(request)).problems)


async def get(
    house: House, flow_id: str = "hello", revision: int = 0, tenant: str = "acme", namespace: str = "company.team"
) -> Flow:
    request = api.GetFlowRequest(tenant=tenant, namespace=namespace, id=flow_id, revision=revision)
    return (await house.flows().GetFlow(request)).flow


async def delete(house: House, flow_id: str = "hello", etag: str = "") -> None:
    await house.flows().DeleteFlow(
        api.DeleteFlowRequest(tenant="acme", namespace="company.team", id=flow_id, etag=etag)
    )


async def explain(house: House, text: str, tenant: str = "acme") -> api.ExplainFlowResponse:
    return await house.flows().ExplainFlow(api.ExplainFlowRequest(tenant=tenant, source=text))


async def make_group(house: House, key: str, *allowed: str) -> None:
    group = WorkerGroup(key=key, allowed_tenants=allowed)
    await house.groups().CreateWorkerGroup(CreateWorkerGroupRequest(worker_group=group))


def a_default(type_name: str, *, forced: bool = False, **values: Any) -> PluginDefault:
    default = PluginDefault(type=type_name, forced=forced)
    default.values.update(values)
    return default


async def make_namespace(house: House, name: str, *defaults: PluginDefault, group: str | None = None) -> None:
    namespace = Namespace(tenant="acme", name=name, default_worker_group=group, plugin_defaults=defaults)
    await house.namespaces().CreateNamespace(CreateNamespaceRequest(namespace=namespace))


async def set_namespace_defaults(house: House, name: str, *defaults: PluginDefault) -> Namespace:
    namespace = Namespace(tenant="acme", name=name, plugin_defaults=defaults)
    request = UpdateNamespaceRequest(namespace=namespace, update_mask=FieldMask(paths=["plugin_defaults"]))
    return (await house.namespaces().UpdateNamespace(request)).namespace


async def set_tenant_defaults(house: House, *defaults: PluginDefault) -> Tenant:
    request = UpdateTenantRequest(tenant=Tenant(id="acme", plugin_defaults=defaults))
    request.update_mask.paths.append("plugin_defaults")
    return (await house.tenants().UpdateTenant(request)).tenant


def errors(problems: list[FlowProblem]) -> list[tuple[int, str]]:
    """Line and path of each error."""
    return [(each.line, each.path) for each in problems if each.severity == FLOW_PROBLEM_SEVERITY_ERROR]
