"""A registry in memory behind the scripted servers: what it has is what was put into it, and it notes each change."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.message import Message

from farhand.api.registry.v1 import flow_service_pb2 as flow_api
from farhand.api.registry.v1 import namespace_file_service_pb2 as file_api
from farhand.api.registry.v1 import namespace_service_pb2 as namespace_api
from farhand.api.registry.v1 import tenant_service_pb2 as tenant_api
from farhand.api.registry.v1 import worker_group_service_pb2 as group_api
from farhand.api.registry.v1.flow_pb2 import Flow, FlowProblem
from farhand.api.registry.v1.namespace_file_pb2 import NamespaceFile
from farhand.api.registry.v1.namespace_pb2 import Namespace
from farhand.api.registry.v1.tenant_pb2 import Tenant
from farhand.api.registry.v1.worker_group_pb2 import WorkerGroup
from farhand.cli.flow_file import name_in
from farhand.kernel.errors import EtagMismatch, NotFound
from farhand.runtime.wire import duration
from tests.unit.cli.scripted_servers import ScriptedServers

_APIS: dict[str, tuple[Any, Any, Callable[[Any], str]]] = {
    "tenant": (tenant_api, Tenant, lambda it: it.id),
    "namespace": (namespace_api, Namespace, lambda it: f"{it.tenant}/{it.name}"),
    "worker_group": (group_api, WorkerGroup, lambda it: it.key),
}


class PretendRegistry:
    """`log` has a line for each change; `problems` is asked what ValidateFlow finds."""

    def __init__(self, servers: ScriptedServers) -> None:
        self.servers = servers
        self.log: list[str] = []
        self.things: dict[str, dict[str, Any]] = {"tenant": {}, "namespace": {}, "worker_group": {}}
        self.flows: dict[tuple[str, str, str], Flow] = {}
        self.files: dict[tuple[str, str, str], NamespaceFile] = {}
        self.problems: Callable[[Any], list[FlowProblem]] = lambda request: []
        self._number = 0
        for noun, (api, _, name) in _APIS.items():
            self._serve(noun, api, name)
        servers.on |= {
            "ValidateFlow": lambda request, _: flow_api.ValidateFlowResponse(problems=self.problems(request)),
            "ListFlows": self._list_flows,
            "GetFlow": lambda request, _: flow_api.GetFlowResponse(flow=self.flows[_flow_name(request)]),
            "CreateFlow": self._save_flow,
            "UpdateFlow": self._save_flow,
            "DeleteFlow": self._delete_flow,
            "ListNamespaceFiles": self._list_files,
            "PutNamespaceFile": self._put_file,
            "DeleteNamespaceFile": self._delete_file,
        }
        self.add(Tenant(id="main"), WorkerGroup(lease=duration(60)))

    def add(self, *things: Message) -> None:
        """Declare something."""
        for thing in things:
            noun = next(noun for noun, (_, kind, _) in _APIS.items() if isinstance(thing, kind))
            self._keep(noun, thing)

    def add_flow(self, source: str, tenant: str = "main") -> None:
        """Save one."""
        names = name_in(source)
        assert names is not None
        before = self.flows.get((tenant, *names))
        revision = before.revision + 1 if before else 1
        self.flows[tenant, *names] = Flow(
            tenant=tenant, namespace=names[0], id=names[1], source=source, revision=revision, etag=self._etag()
        )

    def add_file(self, namespace: str, path: str, content: bytes, tenant: str = "main") -> None:
        """Store one."""
        digest = hashlib.sha256(content).hexdigest()
        self.files[tenant, namespace, path] = NamespaceFile(
            tenant=tenant, namespace=namespace, path=path, digest=digest, size=len(content)
        )

    def _etag(self) -> str:
        self._number += 1
        return f"r{self._number}"

    def _keep(self, noun: str, thing: Any) -> Any:
        kept = type(thing)()
        kept.CopyFrom(thing)
        kept.etag = self._etag()
        self.things[noun][_APIS[noun][2](kept)] = kept
        return kept

    def _serve(self, noun: str, api: Any, name: Callable[[Any], str]) -> None:
        camel = "".join(part.capitalize() for part in noun.split("_"))
        there = self.things[noun]

        def listed(request: Any, _: Any) -> Any:
            tenant = getattr(request, "tenant", None)
            found = [thing for thing in there.values() if tenant is None or thing.tenant == (tenant or "main")]
            return getattr(api, f"List{camel}sResponse")(**{f"{noun}s": found})

        def create(request: Any, _: Any) -> Any:
            kept = self._keep(noun, getattr(request, noun))
            self.log.append(f"create {noun} {name(kept)}")
            return getattr(api, f"Create{camel}Response")(**{noun: kept})

        def update(request: Any, _: Any) -> Any:
            new = getattr(request, noun)
            kept = there[name(new)]
            if new.etag != kept.etag:
                return EtagMismatch("It has changed since you read it.")
            for field in request.update_mask.paths:
                kept.ClearField(field)
            chosen = type(new)()
            chosen.CopyFrom(new)
            for field in {field.name for field, _ in new.ListFields()} - set(request.update_mask.paths):
                chosen.ClearField(field)
            kept.MergeFrom(chosen)
            kept.etag = self._etag()
            self.log.append(f"update {noun} {name(kept)}: {', '.join(request.update_mask.paths)}")
            return getattr(api, f"Update{camel}Response")(**{noun: kept})

        def delete(request: Any, _: Any) -> Any:
            key = getattr(request, "id", "") or getattr(request, "key", "") or f"{request.tenant}/{request.name}"
            gone = there.pop(key)
            assert request.etag == gone.etag
            self.log.append(f"delete {noun} {key}")
            return getattr(api, f"Delete{camel}Response")()

        def get(request: Any, _: Any) -> Any:
            return NotFound(f"There is no {noun} {request.id!r}.")

        self.servers.on |= {
            f"List{camel}s": listed,
            f"Create{camel}": create,
            f"Update{camel}": update,
            f"Delete{camel}": delete,
            f"Get{camel}": get,
        }

    def _list_flows(self, request: Any, _: Any) -> Any:
        found = [Flow() for flow in self.flows.values() if flow.tenant == request.tenant]
        for flow, stored in zip(found, (f for f in self.flows.values() if f.tenant == request.tenant), strict=True):
            flow.CopyFrom(stored)
            flow.source = ""
        return flow_api.ListFlowsResponse(flows=found)

    def _save_flow(self, request: Any, _: Any) -> Any:
        names = name_in(request.source)
        assert names is not None
        before = self.flows.get((request.tenant, *names))
        if isinstance(request, flow_api.UpdateFlowRequest):
            assert before is not None and request.etag == before.etag
        self.add_flow(request.source, request.tenant)
        self.log.append(f"save flow {'/'.join(names)}")
        saved = self.flows[request.tenant, *names]
        if isinstance(request, flow_api.UpdateFlowRequest):
            return flow_api.UpdateFlowResponse(flow=saved)
        return flow_api.CreateFlowResponse(flow=saved)

    def _delete_flow(self, request: Any, _: Any) -> Any:
        assert request.etag == self.flows.pop(_flow_name(request)).etag
        self.log.append(f"delete flow {request.namespace}/{request.id}")
        return flow_api.DeleteFlowResponse()

    def _list_files(self, request: Any, _: Any) -> Any:
        found = [
            file
            for (tenant, namespace, _), file in self.files.items()
            if (tenant, namespace) == (request.tenant, request.namespace)
        ]
        return file_api.ListNamespaceFilesResponse(files=found)

    def _put_file(self, requests: Iterator[Any], _: Any) -> Any:
        first = next(requests).file
        self.add_file(first.namespace, first.path, b"".join(each.chunk for each in requests), first.tenant)
        self.log.append(f"put file {first.namespace}/{first.path}")
        return file_api.PutNamespaceFileResponse(file=self.files[first.tenant, first.namespace, first.path])

    def _delete_file(self, request: Any, _: Any) -> Any:
        del self.files[request.tenant, request.namespace, request.path]
        self.log.append(f"delete file {request.namespace}/{request.path}")
        return file_api.DeleteNamespaceFileResponse()


def _flow_name(request: Any) -> tuple[str, str, str]:
    return request.tenant, request.namespace, request.id
