"""What a watch sends becomes what the scheduler knows."""

from farhand.api.registry.v1.namespace_pb2 import Namespace as NamespaceMessage
from farhand.api.registry.v1.tenant_pb2 import Tenant as TenantMessage
from farhand.api.registry.v1.watch_service_pb2 import Change as ChangeMessage
from farhand.api.registry.v1.watch_service_pb2 import Snapshot as SnapshotMessage
from farhand.api.registry.v1.watch_service_pb2 import TriggeredFlow as TriggeredFlowMessage
from farhand.api.registry.v1.watch_service_pb2 import WatchResponse
from farhand.api.types.v1.plugin_default_pb2 import PluginDefault as DefaultMessage
from farhand.kernel.flow import PluginDefault
from farhand.scheduler.core.declared import (
    Change,
    Declared,
    Namespace,
    RemovedTriggeredFlow,
    Snapshot,
    Tenant,
    TriggeredFlow,
)
from farhand.scheduler.loops.registry_steps import step_of

INHERITED = PluginDefault.model_validate(
    {"type": "a.b", "forced": True, "values": {"retry": {"type": "constant", "interval": "PT1S", "maxAttempts": 3}}}
)


def a_default() -> DefaultMessage:
    message = DefaultMessage(type="a.b", forced=True)
    message.values.update({"retry": {"type": "constant", "interval": "PT1S", "maxAttempts": 3}})
    return message


def test_plugin_defaults_come_with_snapshots_and_changes_and_whole_numbers_stay_whole() -> None:
    tenant = TenantMessage(id="acme", plugin_defaults=[a_default()])
    namespace = NamespaceMessage(tenant="acme", name="a", plugin_defaults=[a_default()])
    inherits = Tenant("acme", plugin_defaults=(INHERITED,)), Namespace("acme", "a", plugin_defaults=(INHERITED,))
    snapshot = SnapshotMessage(revision=3, tenants=[tenant], namespaces=[namespace])
    assert step_of(WatchResponse(snapshot=snapshot)) == Snapshot(Declared.of(3, inherits[:1], inherits[1:], []))
    for revision, message in ((4, ChangeMessage(tenant=tenant)), (5, ChangeMessage(namespace=namespace))):
        message.revision = revision
        assert step_of(WatchResponse(change=message)) == Change(revision, inherits[revision - 4])


def test_flows_with_triggers_come_with_snapshots_and_changes() -> None:
    flow, message = TriggeredFlow("acme", "a.b", "c", 3), TriggeredFlowMessage(tenant="acme", namespace="a.b", id="c")
    gone = ChangeMessage(revision=5, removed_triggered_flow=message)
    message.revision = 3
    snapshot = SnapshotMessage(revision=3, triggered_flows=[message])
    assert step_of(WatchResponse(snapshot=snapshot)) == Snapshot(Declared(3), (flow,))
    assert step_of(WatchResponse(change=ChangeMessage(revision=4, triggered_flow=message))) == Change(4, flow)
    assert step_of(WatchResponse(change=gone)) == Change(5, RemovedTriggeredFlow("acme", "a.b", "c"))
