"""What `farhand apply` would do: the folder beside what the registry has, thing by thing."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farhand.cli.apply_declarations import GROUP, KINDS, NAMESPACE, TENANT, Declaration, Kind, label_of, name_of
from farhand.cli.apply_findings import Findings
from farhand.cli.apply_folder import FILES, FLOWS, FlowFile, Folder, NamespaceFile
from farhand.cli.failure import CommandFailed
from farhand.cli.fields import every_page
from farhand.cli.file_upload import digest_of
from farhand.cli.session import DEADLINE, Session
from farhand.kernel.names import DEFAULT_TENANT, ancestors, shown

if TYPE_CHECKING:
    import grpc

    from farhand.api.registry.v1.flow_pb2 import Flow
    from farhand.api.registry.v1.namespace_file_pb2 import NamespaceFile as StoredFile

FLOW, FILE = "flow", "file"
_AT_ONCE = 8  # reads of flows


class Verb(StrEnum):
    """What becomes of a thing."""

    CREATE = "create"
    CHANGE = "change"
    UNCHANGED = "unchanged"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing of the plan. `wanted` is what the folder has, None where it is to go; `there` what the registry has."""

    verb: Verb
    kind: str  # "tenant", "worker group", "namespace", "flow", "file"
    tenant: str  # empty for tenants and worker groups
    name: str
    wanted: Any = None  # Declaration, FlowFile or NamespaceFile
    there: Any = None  # Tenant, WorkerGroup, Namespace, Flow (a list's has no source), NamespaceFile
    fields: tuple[str, ...] = ()  # those that change

    @property
    def label(self) -> str:
        """For messages: "worker group gpu", "file company.team/main.py"."""
        return f"{self.kind} {self.name}"

    @property
    def file(self) -> Path | None:
        """Where the folder has it."""
        return None if self.wanted is None else self.wanted.file


def make(session: Session, acting: str, folder: Folder, prune: bool, findings: Findings) -> list[Change]:
    """The plan, in the order in which people read it. `acting` is the tenant to act in; it fails where that neither is
    there nor will be."""
    with session.registry() as channel:
        tenants = _listed(TENANT, channel)
        ids = {tenant.id for tenant in tenants}
        wanted = {kind: [each for each in folder.declarations if each.kind is kind] for kind in KINDS}
        if acting not in ids | {each.message.id for each in wanted[TENANT]}:
            TENANT.stub(channel).GetTenant(TENANT.request("Get", id=acting), timeout=DEADLINE)
        concerned = {acting, *(each.message.tenant for each in wanted[NAMESPACE])}
        there = {
            TENANT: tenants,
            GROUP: _listed(GROUP, channel) if GROUP.folder in folder.parts else [],
            NAMESPACE: [
                space
                for tenant in sorted(concerned & ids)
                if prune or NAMESPACE.folder in folder.parts
                for space in _listed(NAMESPACE, channel, tenant=tenant)
            ],
        }
        plan: list[Change] = []
        for kind in KINDS:
            stays = _stays(kind, concerned, prune and (kind is NAMESPACE or kind.folder in folder.parts))
            plan += _declarations(kind, wanted[kind], there[kind], stays)
        _check_going_groups(plan, findings)
        _check_deleted_tenants(channel, plan, folder.declarations, _listed(GROUP, channel) if prune else [], findings)
        flows: dict[tuple[str, str], Flow] = {}
        if acting in ids and (prune or FLOWS in folder.parts):
            flows = {(flow.namespace, flow.id): flow for flow in _flows(channel, acting)}
        plan += _of_flows(channel, acting, folder.flows, flows, prune)
        spaces = {each.namespace for each in folder.files}
        if prune:
            spaces |= {space.name for space in there[NAMESPACE] if space.tenant == acting}
            spaces |= {above for namespace, _ in flows for above in ancestors(namespace)}
        if acting in ids and (prune or FILES in folder.parts):
            files = {(file.namespace, file.path): file for file in _files(channel, acting, sorted(spaces))}
        else:
            files = {}
        plan += _of_files(acting, folder.files, files, prune)
    return plan


def _listed(kind: Kind, channel: "grpc.Channel", **fields: str) -> list[Any]:
    call = getattr(kind.stub(channel), f"List{kind.camel}s")
    return list(every_page(call, kind.request("List", **fields), f"{kind.noun}s", timeout=DEADLINE))


def _flows(channel: "grpc.Channel", tenant: str) -> "Iterable[Flow]":
    from farhand.api.registry.v1.flow_service_pb2 import ListFlowsRequest
    from farhand.api.registry.v1.flow_service_pb2_grpc import FlowServiceStub

    call = FlowServiceStub(channel).ListFlows
    return every_page(call, ListFlowsRequest(tenant=tenant), "flows", timeout=DEADLINE)


def _files(channel: "grpc.Channel", tenant: str, namespaces: Iterable[str]) -> "Iterable[StoredFile]":
    from farhand.api.registry.v1.namespace_file_service_pb2 import ListNamespaceFilesRequest
    from farhand.api.registry.v1.namespace_file_service_pb2_grpc import NamespaceFileServiceStub

    call = NamespaceFileServiceStub(channel).ListNamespaceFiles
    for namespace in namespaces:
        request = ListNamespaceFilesRequest(tenant=tenant, namespace=namespace)
        yield from every_page(call, request, "files", timeout=DEADLINE)


def _stays(kind: Kind, concerned: set[str], prune: bool) -> Callable[[Any], bool]:
    """What is left alone although the folder has no such thing."""

    def stays(message: Any) -> bool:
        always = {TENANT: concerned | {DEFAULT_TENANT}, GROUP: {""}, NAMESPACE: set[str]()}[kind]
        return not prune or getattr(message, kind.key) in always

    return stays


def _declarations(
    kind: Kind, wanted: Sequence[Declaration], there: Iterable[Any], stays: Callable[[Any], bool]
) -> list[Change]:
    stored = {name_of(kind, message): message for message in there}
    plan = []
    for each in wanted:
        before = stored.pop(each.name, None)
        if before is None:
            fields = tuple(field for field in kind.fields if field in each.given)
            verb = Verb.CREATE
        else:
            if kind is GROUP and "paused" not in each.given:
                each.message.paused = before.paused
            fields = tuple(field for field in kind.fields if _differs(field, each.message, before))
            verb = Verb.CHANGE if fields else Verb.UNCHANGED
        tenant, _ = each.name
        plan.append(Change(verb, kind.label, tenant, label_of(kind, each.message), each, before, fields))
    plan += [
        Change(Verb.DELETE, kind.label, name[0], label_of(kind, message), there=message)
        for name, message in stored.items()
        if not stays(message)
    ]
    return plan


def _check_going_groups(plan: Iterable[Change], findings: Findings) -> None:
    from farhand.api.registry.v1.worker_group_pb2 import WORKER_GROUP_STATE_DELETING

    for change in plan:
        going = change.kind == GROUP.label and change.there and change.there.state == WORKER_GROUP_STATE_DELETING
        if going and isinstance(change.wanted, Declaration):
            message = f"the worker group {shown(change.name)} is still being deleted; apply again once it is gone"
            findings.error(message, change.wanted.file, change.wanted.line)


def _differs(field: str, new: Any, old: Any) -> bool:
    one, other = getattr(new, field), getattr(old, field)
    if field == "allowed_tenants":
        return sorted(one) != sorted(other)
    descriptor = new.DESCRIPTOR.fields_by_name[field]
    return bool(one != other or (descriptor.has_presence and new.HasField(field) != old.HasField(field)))


def _check_deleted_tenants(
    channel: "grpc.Channel",
    plan: Sequence[Change],
    declared: Iterable[Declaration],
    groups: Iterable[Any],
    findings: Findings,
) -> None:
    """A tenant goes only when nothing of it is left; what the folder can't take away with it is told beforehand."""
    deleted = {change.name for change in plan if change.kind == TENANT.label and change.verb is Verb.DELETE}
    gone = {change.name for change in plan if change.kind == GROUP.label and change.verb is Verb.DELETE}
    ours = {each.message.key: each.message for each in declared if each.kind is GROUP}
    for tenant in sorted(deleted):
        left = [
            flowing
            for flowing, some in (
                ("namespaces", _listed(NAMESPACE, channel, tenant=tenant)),
                ("flows", list(_flows(channel, tenant))),
            )
            if some
        ]
        named = [
            label_of(GROUP, group)
            for group in ({group.key: group for group in groups} | ours).values()
            if label_of(GROUP, group) not in gone
            and (tenant in group.allowed_tenants or any(quota.tenant == tenant for quota in group.quotas))
        ]
        if left:
            findings.error(
                f"the tenant {shown(tenant)} can't be deleted while it has {' and '.join(left)}. Delete them first, "
                "or keep the tenant in the folder"
            )
        if named:
            findings.error(
                f"the tenant {shown(tenant)} can't be deleted while groups allow it or have a quota for it: "
                f"{', '.join(named)}"
            )


def _of_flows(
    channel: "grpc.Channel",
    tenant: str,
    wanted: Sequence[FlowFile],
    there: "dict[tuple[str, str], Flow]",
    prune: bool,
) -> list[Change]:
    from concurrent.futures import ThreadPoolExecutor

    from farhand.api.registry.v1.flow_service_pb2 import GetFlowRequest
    from farhand.api.registry.v1.flow_service_pb2_grpc import FlowServiceStub

    get, plan, left = FlowServiceStub(channel).GetFlow, list[Change](), dict(there)

    def newest(each: FlowFile) -> "Flow | None":
        if (each.namespace, each.id) not in there:
            return None
        request = GetFlowRequest(tenant=tenant, namespace=each.namespace, id=each.id)
        return get(request, timeout=DEADLINE).flow

    # Lists come without sources. A thousand flows are asked for one by one, but not one after another.
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        saved = list(pool.map(newest, wanted))
    for each, stored in zip(wanted, saved, strict=True):
        name = f"{each.namespace}/{each.id}"
        left.pop((each.namespace, each.id), None)
        if stored is None:
            plan.append(Change(Verb.CREATE, FLOW, tenant, name, each))
        elif stored.source == each.source:
            plan.append(Change(Verb.UNCHANGED, FLOW, tenant, name, each, stored))
        else:
            plan.append(Change(Verb.CHANGE, FLOW, tenant, name, each, stored, ("source",)))
    if prune:
        plan += [Change(Verb.DELETE, FLOW, tenant, f"{flow.namespace}/{flow.id}", there=flow) for flow in left.values()]
    return plan


def _of_files(
    tenant: str, wanted: Iterable[NamespaceFile], there: "dict[tuple[str, str], StoredFile]", prune: bool
) -> list[Change]:
    plan, left = list[Change](), dict(there)
    for each in wanted:
        name = f"{each.namespace}/{each.path}"
        stored = left.pop((each.namespace, each.path), None)
        if stored is None:
            plan.append(Change(Verb.CREATE, FILE, tenant, name, each))
            continue
        try:
            same = stored.digest == digest_of(each.file)
        except OSError as error:
            raise CommandFailed(f"{each.file} can't be read: {error.strerror}.") from None
        fields = () if same else ("content",)
        plan.append(Change(Verb.UNCHANGED if same else Verb.CHANGE, FILE, tenant, name, each, stored, fields))
    if prune:
        plan += [
            Change(Verb.DELETE, FILE, tenant, f"{file.namespace}/{file.path}", there=file) for file in left.values()
        ]
    return plan
