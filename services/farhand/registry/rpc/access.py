"""Who may call what of the registry. A method that is not here may be called by nobody.

"Anyone" in the protos is everyone who declares, submits or schedules. Workers are
not among them: they know the scheduler's address alone. What a client sees of what
it may read is `callers.py`.
"""

from collections.abc import Mapping

from farhand.api.registry.v1 import (
    flow_service_pb2,
    namespace_file_service_pb2,
    namespace_service_pb2,
    roll_service_pb2,
    tenant_service_pb2,
    watch_service_pb2,
    worker_group_service_pb2,
)
from farhand.runtime.security import Role

_ADMIN = frozenset({Role.ADMIN})
_ANYONE = frozenset({Role.ADMIN, Role.CLIENT, Role.SERVICE})
_AUTHORS = frozenset({Role.ADMIN, Role.CLIENT})
_SERVICE = frozenset({Role.SERVICE})

_SERVICES = {
    tenant_service_pb2.DESCRIPTOR.services_by_name["TenantService"]: {
        "CreateTenant": _ADMIN,
        "GetTenant": _ANYONE,
        "ListTenants": _ANYONE,
        "UpdateTenant": _ADMIN,
        "DeleteTenant": _ADMIN,
    },
    namespace_service_pb2.DESCRIPTOR.services_by_name["NamespaceService"]: {
        "CreateNamespace": _ADMIN,
        "GetNamespace": _ANYONE,
        "ListNamespaces": _ANYONE,
        "UpdateNamespace": _ADMIN,
        "DeleteNamespace": _ADMIN,
    },
    worker_group_service_pb2.DESCRIPTOR.services_by_name["WorkerGroupService"]: {
        "CreateWorkerGroup": _ADMIN,
        "GetWorkerGroup": _ANYONE,
        "ListWorkerGroups": _ANYONE,
        "UpdateWorkerGroup": _ADMIN,
        "DeleteWorkerGroup": _ADMIN,
        "ResolveWorkerGroupDeletion": _SERVICE,
    },
    flow_service_pb2.DESCRIPTOR.services_by_name["FlowService"]: {
        "ValidateFlow": _AUTHORS,
        "CreateFlow": _AUTHORS,
        "UpdateFlow": _AUTHORS,
        "GetFlow": _ANYONE,
        "ListFlows": _ANYONE,
        "ListFlowRevisions": _ANYONE,
        "DeleteFlow": _AUTHORS,
        "ExplainFlow": _AUTHORS,
        "GetFlowSchema": _ANYONE,
    },
    namespace_file_service_pb2.DESCRIPTOR.services_by_name["NamespaceFileService"]: {
        "PutNamespaceFile": _AUTHORS,
        "ListNamespaceFiles": _ANYONE,
        "ReadNamespaceFile": _ANYONE,
        "DeleteNamespaceFile": _AUTHORS,
    },
    roll_service_pb2.DESCRIPTOR.services_by_name["RollService"]: {
        "GetWorker": _ANYONE,
        "ListWorkers": _ANYONE,
        "ReportWorkers": _SERVICE,
    },
    watch_service_pb2.DESCRIPTOR.services_by_name["WatchService"]: {
        "Watch": _ADMIN | _SERVICE,
    },
}

SERVICE_NAMES: tuple[str, ...] = tuple(service.full_name for service in _SERVICES)

ACCESS: Mapping[str, frozenset[Role]] = {
    f"/{service.full_name}/{method}": roles
    for service, methods in _SERVICES.items()
    for method, roles in methods.items()
}
