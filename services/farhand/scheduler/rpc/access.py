"""Who may call what of the scheduler. A method that is not here may be called by nobody.

The servicers look closer: a client sees only what is its tenants', a worker writes
only to logs of jobs that its own credential's sessions have.
"""

from collections.abc import Callable, Mapping
from typing import Any

from farhand.api.scheduler.v1 import (
    execution_service_pb2,
    group_service_pb2,
    job_service_pb2,
    trigger_service_pb2,
    worker_control_service_pb2,
)
from farhand.api.worker.v1 import file_service_pb2, worker_service_pb2
from farhand.runtime.grpc_server import lenient
from farhand.runtime.security import Role

_ANYONE = frozenset(Role)
_JOBS = frozenset({Role.ADMIN, Role.CLIENT})

_SERVICES = {
    job_service_pb2.DESCRIPTOR.services_by_name["JobService"]: _JOBS,
    execution_service_pb2.DESCRIPTOR.services_by_name["ExecutionService"]: _JOBS,
    trigger_service_pb2.DESCRIPTOR.services_by_name["TriggerService"]: _JOBS,
    group_service_pb2.DESCRIPTOR.services_by_name["GroupService"]: _ANYONE,
    worker_control_service_pb2.DESCRIPTOR.services_by_name["WorkerControlService"]: frozenset({Role.ADMIN}),
    worker_service_pb2.DESCRIPTOR.services_by_name["WorkerService"]: frozenset({Role.WORKER}),
    file_service_pb2.DESCRIPTOR.services_by_name["FileService"]: frozenset({Role.WORKER}),
}

SERVICE_NAMES: tuple[str, ...] = tuple(service.full_name for service in _SERVICES)

ACCESS: Mapping[str, frozenset[Role]] = {
    f"/{service.full_name}/{method.name}": roles for service, roles in _SERVICES.items() for method in service.methods
}

# Batches whose rows are read one by one, so that a row that is no message is refused alone.
LENIENT: Mapping[str, Callable[[bytes], Any]] = {
    "/farhand.api.scheduler.v1.JobService/BatchSubmitJobs": lenient(job_service_pb2.BatchSubmitJobsRequest, "specs"),
}
