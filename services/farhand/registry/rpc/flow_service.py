"""FlowService."""

import json
import re

from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.api.registry.v1 import flow_service_pb2 as api
from farhand.api.registry.v1.flow_service_pb2_grpc import FlowServiceServicer
from farhand.kernel import names
from farhand.kernel.errors import InvalidArgument, ResourceExists, Violation
from farhand.kernel.flow import Problem, json_schema
from farhand.registry.core import page, request_id, triggered_flow
from farhand.registry.core.change import Change, Put, Removed
from farhand.registry.core.flow import FlowCreation, FlowRevision, check_newest, full_name
from farhand.registry.core.flow_groups import FlowGroups
from farhand.registry.core.supposed import NOTHING
from farhand.registry.core.visibility import Visibility
from farhand.registry.rpc import tenant_service
from farhand.registry.rpc.callers import visibility
from farhand.registry.rpc.flow_reader import Examined, FlowReader
from farhand.registry.rpc.pages import fill
from farhand.registry.rpc.reading_threads import ReadingThreads
from farhand.registry.rpc.wire_flow import (
    flow_invalid,
    flow_message,
    problem_message,
    resolution_message,
    trigger_resolution_message,
)
from farhand.registry.store import changes, flows, requests, worker_groups
from farhand.registry.store.transactions import Transactions
from farhand.runtime.security import identity

_LARGEST_REVISION = 2**31 - 1


class FlowService(FlowServiceServicer):
    """Keeps flows. A tenant that the caller may not see is not found.

    A source is examined without any lock, which takes as long as it takes. The save
    then takes the lock of everything declared and looks again at the one thing that
    another change could break: the worker groups that the flow names. So a group's
    deletion and a save never slip past each other; nobody waits for a flow to be
    read; and what else changed meanwhile might as well have changed after the save.
    """

    def __init__(self, transactions: Transactions, threads: ReadingThreads, reader: FlowReader) -> None:
        self._transactions = transactions
        self._threads = threads
        self._reader = reader

    async def ValidateFlow(self, request: api.ValidateFlowRequest, context: object) -> api.ValidateFlowResponse:
        """Tell what is wrong, with the flow and with what is supposed."""
        sees, supposed, problems = visibility(context), NOTHING, list[Problem]()
        if request.HasField("supposed"):
            supposed, problems = await self._reader.suppose(request.supposed, sees)
        if request.source or not request.HasField("supposed"):
            tenant = _tenant(request.tenant)
            examined = await self._reader.examine(tenant, request.source, sees, supposed=supposed)
            problems += examined.problems
        return api.ValidateFlowResponse(problems=map(problem_message, problems))

    async def CreateFlow(self, request: api.CreateFlowRequest, context: object) -> api.CreateFlowResponse:
        """Save the first revision, or the next one of a flow that was deleted."""
        if violations := request_id.check(request.request_id):
            raise InvalidArgument.of(*violations)
        sees, asked = visibility(context), FlowCreation(_tenant(request.tenant), request.source)
        while True:
            async with self._transactions.reading() as connection:
                await tenant_service.existing(connection, asked.tenant, sees, "tenant")
                answer = await requests.answered(connection, request.request_id, asked)
                if answer is not None:
                    return api.CreateFlowResponse(flow=flow_message(await _answered(connection, answer)))
            new, examined = await self._readable(asked.tenant, request.source, context)
            async with self._transactions.changing() as connection:
                revision = await changes.lock(connection) + 1
                answer = await requests.answered(connection, request.request_id, asked)
                if answer is not None:
                    stored = await _answered(connection, answer)
                elif (other := await flows.newest(connection, new.tenant, new.namespace, new.id)) is not None:
                    raise ResourceExists(
                        f"There is a {other.label} already. `farhand flow update` saves its next revision (UpdateFlow)."
                    )
                elif not await _may_name(connection, new.tenant, examined.groups):
                    continue
                else:
                    await tenant_service.existing(connection, new.tenant, sees, "tenant")
                    stored = await flows.save(connection, new, examined.groups)
                    await _tell(connection, revision, None, stored)
                    made = FlowCreation(stored.tenant, "", stored.namespace, stored.id, stored.revision)
                    await requests.remember(connection, request.request_id, asked, made)
            return api.CreateFlowResponse(flow=flow_message(stored))

    async def UpdateFlow(self, request: api.UpdateFlowRequest, context: object) -> api.UpdateFlowResponse:
        """Save the next revision; the same source is no change."""
        sees = visibility(context)
        while True:
            new, examined = await self._readable(_tenant(request.tenant), request.source, context)
            async with self._transactions.changing() as connection:
                revision = await changes.lock(connection) + 1
                stored = before = await _existing(connection, new.tenant, new.namespace, new.id, 0, sees)
                check_newest(request.etag, stored)
                if stored.source != new.source:
                    # What was forgiven the newest revision is not forgiven a new one.
                    if examined.saved is not None or not await _may_name(connection, new.tenant, examined.groups):
                        continue
                    stored = await flows.save(connection, new, examined.groups)
                    await _tell(connection, revision, before, stored)
            return api.UpdateFlowResponse(flow=flow_message(stored))

    async def GetFlow(self, request: api.GetFlowRequest, context: object) -> api.GetFlowResponse:
        """Read a revision."""
        async with self._transactions.reading() as connection:
            found = await _existing(
                connection, request.tenant, request.namespace, request.id, request.revision, visibility(context)
            )
        return api.GetFlowResponse(flow=flow_message(found))

    async def ListFlows(self, request: api.ListFlowsRequest, context: object) -> api.ListFlowsResponse:
        """Read a page of one tenant's."""
        tenant = _tenant(request.tenant)
        if request.namespace and (violations := names.check_namespace("namespace", request.namespace)):
            raise InvalidArgument.of(*violations)
        scope = ("flows", tenant, request.namespace)
        size, token = page.size(request.page_size), page.after(scope, request.page_token)
        after = None if token is None else _parted(token)
        async with self._transactions.reading() as connection:
            await tenant_service.existing(connection, tenant, visibility(context), "tenant")
            found = await flows.page(connection, tenant, request.namespace, after, size + 1)
        response = api.ListFlowsResponse()
        response.next_page_token = fill(
            response.flows, found, size, flow_message, lambda row: full_name(row.namespace, row.id), scope
        )
        return response

    async def ListFlowRevisions(
        self, request: api.ListFlowRevisionsRequest, context: object
    ) -> api.ListFlowRevisionsResponse:
        """Read a page of one flow's, newest first; also of a flow that was deleted."""
        tenant = _tenant(request.tenant)
        scope = ("flow_revisions", tenant, request.namespace, request.id)
        size, token = page.size(request.page_size), page.after(scope, request.page_token)
        async with self._transactions.reading() as connection:
            await _check_name(connection, tenant, request.namespace, request.id, visibility(context))
            before = None if token is None else _number(token)
            found = await flows.revisions(connection, tenant, request.namespace, request.id, before, size + 1)
            if not found and before is None:
                raise await _unknown(connection, tenant, request.namespace, request.id)
        response = api.ListFlowRevisionsResponse()
        response.next_page_token = fill(response.flows, found, size, flow_message, lambda row: str(row.revision), scope)
        return response

    async def DeleteFlow(self, request: api.DeleteFlowRequest, context: object) -> api.DeleteFlowResponse:
        """Take one off the lists."""
        async with self._transactions.changing() as connection:
            revision = await changes.lock(connection) + 1
            stored = await _existing(connection, request.tenant, request.namespace, request.id, 0, visibility(context))
            check_newest(request.etag, stored)
            await flows.delete(connection, stored.tenant, stored.namespace, stored.id)
            await _tell(connection, revision, stored, None)
        return api.DeleteFlowResponse()

    async def ExplainFlow(self, request: api.ExplainFlowRequest, context: object) -> api.ExplainFlowResponse:
        """Resolve every task's and trigger's group, as things are now."""
        tenant, sees = _tenant(request.tenant), visibility(context)
        saved, source = None, request.source
        if request.WhichOneof("flow") == "name":
            name = request.name
            async with self._transactions.reading() as connection:
                saved = await _existing(connection, tenant, name.namespace, name.id, name.revision, sees, "name.")
            source = saved.source
        examined = await self._reader.examine(tenant, source, sees, saved)
        if (flow := examined.flow) is None:
            raise flow_invalid(examined.problems)

        def explain() -> api.ExplainFlowResponse:
            return api.ExplainFlowResponse(
                tasks=[resolution_message(task, flow, examined.outer) for _, task in flow.walk()],
                problems=map(problem_message, examined.problems),
                triggers=[trigger_resolution_message(each, flow, examined.outer) for each in flow.triggers],
            )

        return await self._threads.run(source, explain)

    async def GetFlowSchema(self, request: api.GetFlowSchemaRequest, context: object) -> api.GetFlowSchemaResponse:
        """Tell what a flow may hold."""
        async with self._transactions.reading() as connection:
            known = await self._reader.known_types(connection, visibility(context).tenants)
        schema = await self._threads.run("", lambda: json.dumps(json_schema(known)))
        return api.GetFlowSchemaResponse(schema=schema)

    async def _readable(self, tenant: str, source: str, context: object) -> tuple[FlowRevision, Examined]:
        """What is to be saved. Raises FlowInvalid."""
        examined = await self._reader.examine(tenant, source, visibility(context))
        if (flow := examined.flow) is None:
            raise flow_invalid(examined.problems)
        revision = FlowRevision(
            tenant,
            flow.namespace,
            flow.id,
            source,
            examined.definition,
            flow.description or "",
            flow.labels,
            identity(context).subject,
            triggered=bool(flow.triggers),
        )
        return revision, examined


def _tenant(given: str) -> str:
    return given or names.DEFAULT_TENANT


def _parted(token: str) -> tuple[str, str]:
    namespace, _, flow_id = token.partition("/")
    return namespace, flow_id


def _number(token: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", token):  # a token that somebody made
        raise page.not_ours()
    return int(token)


async def _may_name(connection: AsyncConnection, tenant: str, keys: frozenset[str]) -> bool:
    """Whether the groups are still what they were when the source was examined. Needs the lock."""
    groups = FlowGroups(tenant, [group for key in keys if (group := await worker_groups.get(connection, key))])
    return not any(map(groups.why_not, keys))


async def _tell(
    connection: AsyncConnection, revision: int, before: FlowRevision | None, saved: FlowRevision | None
) -> None:
    """Tell schedulers, where that concerns them. Needs the lock; the revision is the next one."""
    if saved is not None and (put := triggered_flow.put(saved)) is not None:
        await changes.record(connection, Change(revision, Put(put)))
    elif (gone := triggered_flow.removed(before, saved)) is not None:
        await changes.record(connection, Change(revision, Removed(gone)))


async def _answered(connection: AsyncConnection, answer: FlowCreation) -> FlowRevision:
    """The revision that an earlier request made; revisions never change."""
    found = await flows.get(connection, answer.tenant, answer.namespace, answer.id, answer.revision)
    if found is None:  # its tenant was deleted since
        raise await _unknown(connection, answer.tenant, answer.namespace, answer.id)
    return found


async def _existing(
    connection: AsyncConnection,
    tenant: str,
    namespace: str,
    flow_id: str,
    revision: int,
    sees: Visibility,
    path: str = "",
) -> FlowRevision:
    """The revision, 0: the newest of a flow that is there. InvalidArgument, with paths that begin so; NotFound."""
    tenant = _tenant(tenant)
    await _check_name(connection, tenant, namespace, flow_id, sees, path)
    if not 0 <= revision <= _LARGEST_REVISION:
        raise InvalidArgument.of(Violation(f"{path}revision", "must not be negative"))
    if revision:
        found = await flows.get(connection, tenant, namespace, flow_id, revision)
    else:
        found = await flows.newest(connection, tenant, namespace, flow_id)
    if found is not None:
        return found
    if revision and (others := await flows.revisions(connection, tenant, namespace, flow_id, None, 1)):
        newest = others[0]
        hint = f"The newest revision of the {newest.label} is {newest.revision}."
        raise names.not_found("revision", str(revision), hint=hint)
    raise await _unknown(connection, tenant, namespace, flow_id)


async def _check_name(
    connection: AsyncConnection, tenant: str, namespace: str, flow_id: str, sees: Visibility, path: str = ""
) -> None:
    """Raises NotFound for the tenant, InvalidArgument for what can be no name."""
    fields = {f"{path}namespace": namespace, f"{path}id": flow_id}
    violations = [Violation(field, "must not be empty") for field, value in fields.items() if not value]
    violations += [violation for field, value in fields.items() for violation in names.check_text(field, value)]
    if violations:
        raise InvalidArgument.of(*violations)
    await tenant_service.existing(connection, tenant, sees, "tenant")


async def _unknown(connection: AsyncConnection, tenant: str, namespace: str, flow_id: str) -> Exception:
    name = full_name(namespace, flow_id)
    return names.not_found("flow", name, await flows.names_like(connection, tenant, name))
