"""A registry and a scheduler that say what a test tells them, over real gRPC on one port."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc

from farhand.api.registry.v1 import (
    flow_service_pb2_grpc,
    namespace_file_service_pb2_grpc,
    namespace_service_pb2_grpc,
    roll_service_pb2_grpc,
    tenant_service_pb2_grpc,
    worker_group_service_pb2_grpc,
)
from farhand.api.scheduler.v1 import (
    execution_service_pb2_grpc,
    group_service_pb2_grpc,
    job_service_pb2_grpc,
    trigger_service_pb2_grpc,
    worker_control_service_pb2_grpc,
)
from farhand.kernel.errors import FarhandError
from farhand.runtime.grpc_errors import status_of

_SERVICES = (
    (execution_service_pb2_grpc, "ExecutionService"),
    (flow_service_pb2_grpc, "FlowService"),
    (namespace_file_service_pb2_grpc, "NamespaceFileService"),
    (namespace_service_pb2_grpc, "NamespaceService"),
    (roll_service_pb2_grpc, "RollService"),
    (tenant_service_pb2_grpc, "TenantService"),
    (worker_group_service_pb2_grpc, "WorkerGroupService"),
    (group_service_pb2_grpc, "GroupService"),
    (job_service_pb2_grpc, "JobService"),
    (trigger_service_pb2_grpc, "TriggerService"),
    (worker_control_service_pb2_grpc, "WorkerControlService"),
)

Handler = Callable[..., Any]


class ScriptedServers:
    """Set `on["GetJob"]` to an answer, an error, or a function of (request, context) that gives or yields answers.

    `requests["GetJob"]` holds what came, `metadata["GetJob"]` the metadata of each call.
    """

    def __init__(self) -> None:
        self.on: dict[str, Any] = {}
        self.requests: dict[str, list[Any]] = {}
        self.metadata: dict[str, list[dict[str, Any]]] = {}
        self.ending = threading.Event()
        self._server: grpc.Server | None = None
        self.port = 0

    def start(self) -> None:
        """Listen; after `stop` on the same port again."""
        self.ending.clear()
        self._server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        for module, name in _SERVICES:
            base = getattr(module, f"{name}Servicer")
            methods = {method: self._method(method) for method in vars(base) if method[0].isupper()}
            servicer = type(f"Scripted{name}", (base,), methods)()
            getattr(module, f"add_{name}Servicer_to_server")(servicer, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        """Cut every call and stop listening."""
        self.ending.set()
        if self._server is not None:
            self._server.stop(0).wait()

    @property
    def address(self) -> str:
        """HOST:PORT of both."""
        return f"127.0.0.1:{self.port}"

    def _method(self, name: str) -> Handler:
        streams = name in ("TailLogs", "WatchJobs", "TailExecutionLogs", "WatchExecution", "ReadFile")

        def serve(_: object, request: Any, context: grpc.ServicerContext) -> Any:
            self.requests.setdefault(name, []).append(request)
            self.metadata.setdefault(name, []).append(dict(context.invocation_metadata()))
            answer = self.on.get(name)
            if answer is None:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, f"the test expects no {name}")
            try:
                result = answer(request, context) if callable(answer) else answer
                if isinstance(result, FarhandError):
                    raise result
            except FarhandError as error:
                _refuse(context, error)
            return result

        def stream(_: object, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            try:
                yield from serve(_, request, context)
            except FarhandError as error:
                _refuse(context, error)

        return stream if streams else serve


def _refuse(context: grpc.ServicerContext, error: FarhandError) -> NoReturn:
    status = status_of(error)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(grpc.StatusCode[error.status], status.message)
