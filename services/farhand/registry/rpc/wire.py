"""Declared resources between the wire and the core.

What comes in is taken as it is, for the core to judge. Only what the core has no
value for (an enum's unknown number, a time out of range, plugin defaults that are
none) is judged here: it is added to ``violations``, and the value is left at its default.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration

from farhand.api.registry.v1 import namespace_pb2, tenant_pb2, worker_group_pb2
from farhand.api.registry.v1.flow_service_pb2 import Declarations
from farhand.api.registry.v1.worker_group_pb2 import WorkerGroupState
from farhand.api.types.v1.fallback_pb2 import (
    FALLBACK_CANCEL,
    FALLBACK_FAIL,
    FALLBACK_UNSPECIFIED,
    FALLBACK_WAIT,
)
from farhand.api.types.v1.fallback_pb2 import Fallback as WireFallback
from farhand.api.types.v1.plugin_default_pb2 import PluginDefault as WirePluginDefault
from farhand.kernel import names
from farhand.kernel.errors import Violation
from farhand.kernel.flow import PluginDefault
from farhand.kernel.quotas import EVERYONE, Quota
from farhand.kernel.resolution import Fallback
from farhand.registry.core import plugin_defaults
from farhand.registry.core.etag import etag
from farhand.registry.core.namespace import Namespace
from farhand.registry.core.supposed import Supposed, moved, path_of
from farhand.registry.core.tenant import Tenant
from farhand.registry.core.worker_group import DEFAULT_LEASE, GroupState, WorkerGroup
from farhand.runtime.wire import duration, plain, timestamp

Resource = TypeVar("Resource", Tenant, Namespace, WorkerGroup)

FALLBACKS: dict[Fallback | None, WireFallback.ValueType] = {
    None: FALLBACK_UNSPECIFIED,
    Fallback.WAIT: FALLBACK_WAIT,
    Fallback.FAIL: FALLBACK_FAIL,
    Fallback.CANCEL: FALLBACK_CANCEL,
}
_FALLBACK_OF = {number: fallback for fallback, number in FALLBACKS.items()}
_STATES: dict[GroupState, WorkerGroupState.ValueType] = {
    GroupState.ACTIVE: worker_group_pb2.WORKER_GROUP_STATE_ACTIVE,
    GroupState.DELETING: worker_group_pb2.WORKER_GROUP_STATE_DELETING,
}


def tenant_asked(message: tenant_pb2.Tenant, violations: list[Violation]) -> Tenant:
    """The tenant that a request asks for."""
    return Tenant(
        id=message.id,
        description=message.description,
        default_worker_group=_default_group(message),
        default_fallback=_fallback("tenant.default_fallback", message.default_fallback, violations),
        plugin_defaults=_plugin_defaults("tenant.plugin_defaults", message.plugin_defaults, violations),
    )


def tenant_message(tenant: Tenant) -> tenant_pb2.Tenant:
    """A stored tenant."""
    return tenant_pb2.Tenant(
        id=tenant.id,
        description=tenant.description,
        default_worker_group=tenant.default_worker_group,
        default_fallback=FALLBACKS[tenant.default_fallback],
        plugin_defaults=map(_plugin_default_message, tenant.plugin_defaults),
        etag=etag(tenant.revision),
        create_time=timestamp(tenant.create_time),
        update_time=timestamp(tenant.update_time),
    )


def namespace_asked(message: namespace_pb2.Namespace, violations: list[Violation]) -> Namespace:
    """The namespace that a request asks for; no tenant is "main"."""
    return Namespace(
        tenant=message.tenant or names.DEFAULT_TENANT,
        name=message.name,
        description=message.description,
        default_worker_group=_default_group(message),
        default_fallback=_fallback("namespace.default_fallback", message.default_fallback, violations),
        plugin_defaults=_plugin_defaults("namespace.plugin_defaults", message.plugin_defaults, violations),
    )


def namespace_message(namespace: Namespace) -> namespace_pb2.Namespace:
    """A stored namespace."""
    return namespace_pb2.Namespace(
        tenant=namespace.tenant,
        name=namespace.name,
        description=namespace.description,
        default_worker_group=namespace.default_worker_group,
        default_fallback=FALLBACKS[namespace.default_fallback],
        plugin_defaults=map(_plugin_default_message, namespace.plugin_defaults),
        etag=etag(namespace.revision),
        create_time=timestamp(namespace.create_time),
        update_time=timestamp(namespace.update_time),
    )


def worker_group_asked(message: worker_group_pb2.WorkerGroup, violations: list[Violation]) -> WorkerGroup:
    """The group that a request asks for, still without a uid; no lease is the default one."""
    return WorkerGroup(
        key=message.key,
        uid="",
        description=message.description,
        allowed_tenants=tuple(message.allowed_tenants),
        lease=_lease(message.lease, violations) if message.HasField("lease") else DEFAULT_LEASE,
        paused=message.paused,
        quotas=tuple(map(_quota, message.quotas)),
    )


def supposed(message: Declarations) -> Supposed:
    """What is supposed: as a request for each of them would ask for it."""
    wrong: list[Violation] = []

    def read(kind: str, asked: Callable[[Any, list[Violation]], Resource], messages: Iterable[Any]) -> list[Resource]:
        found = []
        for index, each in enumerate(messages):
            violations: list[Violation] = []
            found.append(asked(each, violations))
            wrong.extend(moved(violations, path_of(kind, index)))
        return found

    return Supposed(
        tenants=read("tenants", tenant_asked, message.tenants),
        namespaces=read("namespaces", namespace_asked, message.namespaces),
        groups=read("worker_groups", _group_supposed, message.worker_groups),
        violations=wrong,
    )


def _group_supposed(message: worker_group_pb2.WorkerGroup, violations: list[Violation]) -> WorkerGroup:
    asked = worker_group_asked(message, violations)
    deleting = message.state == worker_group_pb2.WORKER_GROUP_STATE_DELETING
    return replace(asked, state=GroupState.DELETING) if deleting else asked


def worker_group_message(group: WorkerGroup) -> worker_group_pb2.WorkerGroup:
    """A stored group."""
    return worker_group_pb2.WorkerGroup(
        key=group.key,
        uid=group.uid,
        description=group.description,
        allowed_tenants=group.allowed_tenants,
        lease=duration(group.lease.total_seconds()),
        paused=group.paused,
        state=_STATES[group.state],
        etag=etag(group.revision),
        create_time=timestamp(group.create_time),
        update_time=timestamp(group.update_time),
        quotas=(
            worker_group_pb2.TenantQuota(
                tenant=quota.tenant, max_running=quota.max_running, max_queued=quota.max_queued
            )
            for quota in group.quotas
        ),
    )


def set_fields(message: tenant_pb2.Tenant | namespace_pb2.Namespace | worker_group_pb2.WorkerGroup) -> set[str]:
    """The fields that a message carries, for an update without a mask."""
    return {field.name for field, _ in message.ListFields()}


def all_fields(message: tenant_pb2.Tenant | namespace_pb2.Namespace | worker_group_pb2.WorkerGroup) -> set[str]:
    """The fields that such a message can carry."""
    return set(message.DESCRIPTOR.fields_by_name)


def _default_group(message: tenant_pb2.Tenant | namespace_pb2.Namespace) -> str | None:
    if not message.HasField("default_worker_group"):
        return None
    return names.group_key(message.default_worker_group)


def _fallback(path: str, number: WireFallback.ValueType, violations: list[Violation]) -> Fallback | None:
    if number not in _FALLBACK_OF:
        violations.append(Violation(path, f"{number} is no fallback; WAIT, FAIL and CANCEL are"))
    return _FALLBACK_OF.get(number)


def _plugin_defaults(
    path: str, messages: Sequence[WirePluginDefault], violations: list[Violation]
) -> tuple[PluginDefault, ...]:
    # No value takes twenty times as many bytes here as in JSON; so this bounds the work that follows.
    if sum(message.ByteSize() for message in messages) > 20 * plugin_defaults.MOST_BYTES:
        violations.append(Violation(path, f"are too large; at most {plugin_defaults.MOST_BYTES} bytes are allowed"))
        return ()
    given = [
        {"type": message.type, "values": plain(message.values)} | ({"forced": True} if message.forced else {})
        for message in messages
    ]
    defaults, wrong = plugin_defaults.read(path, given)
    violations += wrong
    return defaults


def _plugin_default_message(default: PluginDefault) -> WirePluginDefault:
    message = WirePluginDefault(type=default.type, forced=default.forced)
    message.values.update(default.values.written)
    return message


def _quota(message: worker_group_pb2.TenantQuota) -> Quota:
    return Quota(
        message.tenant or EVERYONE,
        message.max_running if message.HasField("max_running") else None,
        message.max_queued if message.HasField("max_queued") else None,
    )


def _lease(message: Duration, violations: list[Violation]) -> timedelta:
    if message.nanos % 1000:
        violations.append(Violation("worker_group.lease", "must be a whole number of milliseconds"))
        return DEFAULT_LEASE
    try:
        return timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)
    except OverflowError:
        violations.append(Violation("worker_group.lease", f"{message.seconds} seconds are out of range"))
        return DEFAULT_LEASE
