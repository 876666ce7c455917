"""The steps of a watch, from the core to the wire."""

from farhand.api.registry.v1 import namespace_pb2
from farhand.api.registry.v1 import watch_service_pb2 as api
from farhand.registry.core.change import Change, Removed, Snapshot
from farhand.registry.core.namespace import Namespace
from farhand.registry.core.tenant import Tenant
from farhand.registry.core.triggered_flow import TriggeredFlow
from farhand.registry.core.worker_group import WorkerGroup
from farhand.registry.rpc import wire


def snapshot_step(snapshot: Snapshot) -> api.WatchResponse:
    """Everything, at one revision."""
    return api.WatchResponse(
        snapshot=api.Snapshot(
            revision=snapshot.revision,
            tenants=map(wire.tenant_message, snapshot.tenants),
            namespaces=map(wire.namespace_message, snapshot.namespaces),
            worker_groups=map(_declared, snapshot.worker_groups),
            triggered_flows=map(_triggered, snapshot.triggered_flows),
        )
    )


def change_step(change: Change) -> api.WatchResponse:
    """One revision."""
    message = api.Change(revision=change.revision)
    resource = change.step.resource
    match resource, isinstance(change.step, Removed):
        case Tenant(), False:
            message.tenant.CopyFrom(wire.tenant_message(resource))
        case Tenant(), True:
            message.removed_tenant = resource.id
        case Namespace(), False:
            message.namespace.CopyFrom(wire.namespace_message(resource))
        case Namespace(), True:
            message.removed_namespace.CopyFrom(namespace_pb2.Namespace(tenant=resource.tenant, name=resource.name))
        case WorkerGroup(), False:
            message.worker_group.CopyFrom(_declared(resource))
        case WorkerGroup(), True:
            message.removed_worker_group_uid = resource.uid
        case TriggeredFlow(), False:
            message.triggered_flow.CopyFrom(_triggered(resource))
        case TriggeredFlow(), True:
            gone = api.TriggeredFlow(tenant=resource.tenant, namespace=resource.namespace, id=resource.id)
            message.removed_triggered_flow.CopyFrom(gone)
    return api.WatchResponse(change=message)


def _declared(group: WorkerGroup) -> api.DeclaredWorkerGroup:
    return api.DeclaredWorkerGroup(worker_group=wire.worker_group_message(group), force_deletion=group.force_deletion)


def _triggered(flow: TriggeredFlow) -> api.TriggeredFlow:
    return api.TriggeredFlow(tenant=flow.tenant, namespace=flow.namespace, id=flow.id, revision=flow.flow_revision)
