"""Doing what a plan says, in an order in which all that is named is there, and line by line.

Tenants name worker groups (as defaults) and groups name tenants (whom they allow). So a
new tenant comes without what it declares at first, then the groups, then what tenants
declare; and at the end, the other way round, a tenant that is to go lets go of its groups
first. Each change is made on what the plan was made from, or is refused (etags).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from farhand.cli.apply_declarations import GROUP, NAMESPACE, TENANT, Kind
from farhand.cli.apply_plan import FILE, FLOW, Change, Verb
from farhand.cli.failure import CommandFailed
from farhand.cli.fields import new_request_id
from farhand.cli.file_upload import upload
from farhand.cli.session import DEADLINE, Session

if TYPE_CHECKING:
    import grpc

_NAMES_GROUPS = ("default_worker_group", "plugin_defaults")
_PUT = (Verb.CREATE, Verb.CHANGE)
_OUTDATED = ("ETAG_MISMATCH", "RESOURCE_EXISTS", "NOT_FOUND")


@dataclass(frozen=True, slots=True)
class Step:
    """Part of the work. `word` is what has become of the changes once it is done; empty: they need a further step."""

    changes: Sequence[Change]
    word: str
    do: Callable[[], object]


def carry_out(session: Session, tenant: str, plan: Sequence[Change]) -> None:
    """Do it. CommandFailed says where it stopped, and how much was done before."""
    todo = [change for change in plan if change.verb is not Verb.UNCHANGED]
    done = 0
    with session.registry() as channel:
        work = _Work(channel, tenant, todo)
    for step in work.steps():
        try:
            with session.registry():
                step.do()
        except CommandFailed as failure:
            raise _stopped(failure, step, done, len(todo)) from None
        if step.word:
            done += len(step.changes)
            for change in step.changes:
                session.printer.done(f"{step.word} {change.label}")


def _stopped(failure: CommandFailed, step: Step, done: int, of: int) -> CommandFailed:
    advice = "Run the same again once that is mended: it goes on from there."
    if failure.reason in _OUTDATED:
        advice = "Somebody changed something since the plan was made. Run the same again: it makes a new plan."
    first, *others = step.changes
    where = f"{first.label} (and {len(others)} more with it)" if others else first.label
    return CommandFailed(
        f"Stopped at the {where}: {failure.message}",
        *failure.details,
        f"Made before that: {done} of {of} changes. {advice}",
        reason=failure.reason,
    )


class _Work:
    """The steps of a plan, in their order."""

    def __init__(self, channel: "grpc.Channel", tenant: str, plan: Sequence[Change]) -> None:
        from farhand.api.registry.v1.flow_service_pb2_grpc import FlowServiceStub
        from farhand.api.registry.v1.namespace_file_service_pb2_grpc import NamespaceFileServiceStub

        self._channel = channel
        self._tenant = tenant
        self._plan = plan
        self._flows = FlowServiceStub(channel)
        self._files = NamespaceFileServiceStub(channel)
        # A tenant may be changed twice, and its etag moves with the first time.
        self._etags = {each.name: each.there.etag for each in self._of(TENANT.label, *Verb) if each.there}

    def steps(self) -> Iterator[Step]:
        """All of them."""
        for change in self._of(TENANT.label, Verb.CREATE):
            yield Step([change], "" if _named(change) else "created", partial(self._create_tenant, change))
        yield from map(self._put_group, self._of(GROUP.label, *_PUT))
        for change in self._of(TENANT.label, *_PUT):
            if change.verb is Verb.CHANGE:
                yield Step([change], "changed", partial(self._update_tenant, change.wanted.message, change.fields))
            elif fields := _named(change):
                yield Step([change], "created", partial(self._update_tenant, change.wanted.message, fields))
        yield from map(self._put_namespace, self._of(NAMESPACE.label, *_PUT))
        files = self._of(FILE, *_PUT)
        for namespace in dict.fromkeys(change.wanted.namespace for change in files):
            those = [change for change in files if change.wanted.namespace == namespace]
            yield Step(those, "uploaded", partial(self._upload, namespace, those))
        for change in self._of(FLOW, *_PUT):
            yield Step([change], "created" if change.verb is Verb.CREATE else "changed", partial(self._save, change))

        for change in self._of(FLOW, Verb.DELETE):
            yield Step([change], "deleted", partial(self._delete_flow, change.there))
        for change in self._of(FILE, Verb.DELETE):
            yield Step([change], "deleted", partial(self._delete_file, change.there))
        for change in self._of(NAMESPACE.label, Verb.DELETE):
            names = {"tenant": change.tenant, "name": change.name}
            yield Step([change], "deleted", partial(self._call, NAMESPACE, "Delete", **names, etag=change.there.etag))
        tenants, groups = self._of(TENANT.label, Verb.DELETE), self._of(GROUP.label, Verb.DELETE)
        for change in tenants if groups else ():
            yield Step([change], "", partial(self._update_tenant, TENANT.message(id=change.name), _NAMES_GROUPS))
        for change in groups:
            yield Step([change], "deleted", partial(self._delete_group, change))
        for change in tenants:
            yield Step([change], "deleted", partial(self._delete_tenant, change.name))

    def _of(self, kind: str, *verbs: Verb) -> list[Change]:
        return [change for change in self._plan if change.kind == kind and change.verb in verbs]

    def _call(self, kind: Kind, verb: str, **fields: Any) -> Any:
        request = kind.request(verb, **fields)
        return getattr(kind.stub(self._channel), f"{verb}{kind.camel}")(request, timeout=DEADLINE)

    def _update(self, kind: Kind, message: Any, fields: Sequence[str], etag: str) -> Any:
        new = kind.message()
        new.CopyFrom(message)
        new.etag = etag
        return self._call(kind, "Update", **{kind.noun: new}, update_mask={"paths": fields})

    def _create_tenant(self, change: Change) -> None:
        bare = TENANT.message()
        bare.CopyFrom(change.wanted.message)
        for field in _NAMES_GROUPS:
            bare.ClearField(field)
        answer = self._call(TENANT, "Create", tenant=bare, request_id=new_request_id())
        self._etags[bare.id] = answer.tenant.etag

    def _update_tenant(self, message: Any, fields: Sequence[str]) -> None:
        answer = self._update(TENANT, message, fields, self._etags[message.id])
        self._etags[message.id] = answer.tenant.etag

    def _delete_tenant(self, id: str) -> None:
        self._call(TENANT, "Delete", id=id, etag=self._etags[id])

    def _put_group(self, change: Change) -> Step:
        return self._put(GROUP, change)

    def _put_namespace(self, change: Change) -> Step:
        return self._put(NAMESPACE, change)

    def _put(self, kind: Kind, change: Change) -> Step:
        message = change.wanted.message
        if change.verb is Verb.CHANGE:
            return Step([change], "changed", partial(self._update, kind, message, change.fields, change.there.etag))
        creation = {kind.noun: message, "request_id": new_request_id()}
        return Step([change], "created", partial(self._call, kind, "Create", **creation))

    def _delete_group(self, change: Change) -> None:
        answer = self._call(GROUP, "Delete", key=change.name, etag=change.there.etag)
        if answer.HasField("worker_group"):
            raise CommandFailed(
                "no scheduler has said yet that it has no jobs; it is gone as soon as one does.", reason="DELETING"
            )

    def _upload(self, namespace: str, changes: Sequence[Change]) -> None:
        files = [(change.wanted.file, change.wanted.path) for change in changes]
        upload(self._channel, self._tenant, namespace, files)

    def _delete_file(self, there: Any) -> None:
        from farhand.api.registry.v1.namespace_file_service_pb2 import DeleteNamespaceFileRequest

        request = DeleteNamespaceFileRequest(tenant=there.tenant, namespace=there.namespace, path=there.path)
        self._files.DeleteNamespaceFile(request, timeout=DEADLINE)

    def _save(self, change: Change) -> None:
        from farhand.api.registry.v1.flow_service_pb2 import CreateFlowRequest, UpdateFlowRequest

        tenant, source = self._tenant, change.wanted.source
        if change.verb is Verb.CREATE:
            creation = CreateFlowRequest(tenant=tenant, source=source, request_id=new_request_id())
            self._flows.CreateFlow(creation, timeout=DEADLINE)
        else:
            update = UpdateFlowRequest(tenant=tenant, source=source, etag=change.there.etag)
            self._flows.UpdateFlow(update, timeout=DEADLINE)

    def _delete_flow(self, there: Any) -> None:
        from farhand.api.registry.v1.flow_service_pb2 import DeleteFlowRequest

        names = {"tenant": there.tenant, "namespace": there.namespace, "id": there.id}
        self._flows.DeleteFlow(DeleteFlowRequest(**names, etag=there.etag), timeout=DEADLINE)


def _named(change: Change) -> tuple[str, ...]:
    """Of a new tenant, the fields that come after the groups."""
    return tuple(field for field in _NAMES_GROUPS if field in change.fields)
