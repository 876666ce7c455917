"""What `WatchService.Watch` sends, as values of the core."""

from farhand.api.registry.v1.namespace_pb2 import Namespace as NamespaceMessage
from farhand.api.registry.v1.tenant_pb2 import Tenant as TenantMessage
from farhand.api.registry.v1.watch_service_pb2 import Change as ChangeMessage
from farhand.api.registry.v1.watch_service_pb2 import DeclaredWorkerGroup, WatchResponse
from farhand.api.registry.v1.watch_service_pb2 import Snapshot as SnapshotMessage
from farhand.api.registry.v1.watch_service_pb2 import TriggeredFlow as TriggeredFlowMessage
from farhand.api.registry.v1.worker_group_pb2 import WORKER_GROUP_STATE_DELETING, TenantQuota
from farhand.api.types.v1 import fallback_pb2
from farhand.kernel.flow import PluginDefault
from farhand.kernel.quotas import Quota
from farhand.kernel.resolution import Fallback
from farhand.runtime.wire import plain
from farhand.scheduler.core.declared import (
    Change,
    Declared,
    Group,
    Namespace,
    RemovedGroup,
    RemovedNamespace,
    RemovedTenant,
    RemovedTriggeredFlow,
    Resource,
    Snapshot,
    Tenant,
    TriggeredFlow,
)

_FALLBACKS: dict[int, Fallback] = {
    fallback_pb2.FALLBACK_WAIT: Fallback.WAIT,
    fallback_pb2.FALLBACK_FAIL: Fallback.FAIL,
    fallback_pb2.FALLBACK_CANCEL: Fallback.CANCEL,
}


def step_of(response: WatchResponse) -> Snapshot | Change | int | None:
    """A snapshot, a change, the revision of a heartbeat, or None for a step that this version does not know."""
    match response.WhichOneof("step"):
        case "snapshot":
            return _snapshot(response.snapshot)
        case "change":
            return Change(response.change.revision, _resource(response.change))
        case "heartbeat_revision":
            return response.heartbeat_revision
        case _:
            return None


def _snapshot(snapshot: SnapshotMessage) -> Snapshot:
    declared = Declared.of(
        snapshot.revision,
        [_tenant(message) for message in snapshot.tenants],
        [_namespace(message) for message in snapshot.namespaces],
        [_group(message) for message in snapshot.worker_groups],
    )
    return Snapshot(declared, tuple(map(_triggered, snapshot.triggered_flows)))


def _resource(change: ChangeMessage) -> Resource | None:
    match change.WhichOneof("resource"):
        case "tenant":
            return _tenant(change.tenant)
        case "namespace":
            return _namespace(change.namespace)
        case "worker_group":
            return _group(change.worker_group)
        case "removed_tenant":
            return RemovedTenant(change.removed_tenant)
        case "removed_namespace":
            return RemovedNamespace(change.removed_namespace.tenant, change.removed_namespace.name)
        case "removed_worker_group_uid":
            return RemovedGroup(change.removed_worker_group_uid)
        case "triggered_flow":
            return _triggered(change.triggered_flow)
        case "removed_triggered_flow":
            gone = change.removed_triggered_flow
            return RemovedTriggeredFlow(gone.tenant, gone.namespace, gone.id)
        case _:
            return None


def _tenant(message: TenantMessage) -> Tenant:
    return Tenant(
        message.id,
        _default_group(message),
        _FALLBACKS.get(message.default_fallback),
        _plugin_defaults(message),
    )


def _namespace(message: NamespaceMessage) -> Namespace:
    return Namespace(
        message.tenant,
        message.name,
        _default_group(message),
        _FALLBACKS.get(message.default_fallback),
        _plugin_defaults(message),
    )


def _triggered(message: TriggeredFlowMessage) -> TriggeredFlow:
    return TriggeredFlow(message.tenant, message.namespace, message.id, message.revision)


def _plugin_defaults(message: TenantMessage | NamespaceMessage) -> tuple[PluginDefault, ...]:
    return tuple(
        PluginDefault.model_validate({"type": each.type, "forced": each.forced, "values": plain(each.values)})
        for each in message.plugin_defaults
    )


def _default_group(message: TenantMessage | NamespaceMessage) -> str | None:
    return message.default_worker_group if message.HasField("default_worker_group") else None


def _group(message: DeclaredWorkerGroup) -> Group:
    group = message.worker_group
    return Group(
        uid=group.uid,
        key=group.key,
        allowed_tenants=frozenset(group.allowed_tenants),
        lease_ms=group.lease.ToMilliseconds(),
        paused=group.paused,
        deleting=group.state == WORKER_GROUP_STATE_DELETING,
        force_deletion=message.force_deletion,
        quotas=tuple(map(_quota, group.quotas)),
    )


def _quota(message: TenantQuota) -> Quota:
    return Quota(
        message.tenant,
        message.max_running if message.HasField("max_running") else None,
        message.max_queued if message.HasField("max_queued") else None,
    )
