"""NamespaceService."""

from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.api.registry.v1 import namespace_service_pb2 as api
from farhand.api.registry.v1.namespace_service_pb2_grpc import NamespaceServiceServicer
from farhand.kernel import names
from farhand.kernel.errors import InvalidArgument, ResourceExists, Violation
from farhand.registry.core import namespace, page, request_id
from farhand.registry.core.change import Change, Put, Removed
from farhand.registry.core.etag import check_etag
from farhand.registry.core.namespace import Namespace
from farhand.registry.core.update_mask import concerning, fields_to_change
from farhand.registry.core.visibility import Visibility
from farhand.registry.rpc import default_group, tenant_service, wire
from farhand.registry.rpc.callers import visibility
from farhand.registry.rpc.pages import fill
from farhand.registry.store import changes, namespaces, requests
from farhand.registry.store.transactions import Transactions

_EVERYTHING = Visibility(None)
_GROUP_PATH = "namespace.default_worker_group"
_DEFAULTS_PATH = "namespace.plugin_defaults"


class NamespaceService(NamespaceServiceServicer):
    """Manages namespaces. A tenant that the caller may not see is not found."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def CreateNamespace(
        self, request: api.CreateNamespaceRequest, context: object
    ) -> api.CreateNamespaceResponse:
        """Make one."""
        violations: list[Violation] = []
        asked = wire.namespace_asked(request.namespace, violations)
        violations += names.check_namespace("namespace.name", asked.name)
        violations += namespace.check(asked)
        violations += request_id.check(request.request_id)
        if violations:
            raise InvalidArgument.of(*violations)
        async with self._transactions.changing() as connection:
            revision = await changes.lock(connection) + 1
            stored = await requests.answered(connection, request.request_id, asked)
            if stored is None:
                await tenant_service.existing(connection, asked.tenant, _EVERYTHING)
                if await namespaces.get(connection, asked.tenant, asked.name) is not None:
                    raise ResourceExists(f"There is a {_label(asked)} already.")
                await default_group.check(connection, _GROUP_PATH, asked.default_worker_group, asked.tenant)
                await default_group.check_named(connection, _DEFAULTS_PATH, asked.plugin_defaults, asked.tenant)
                stored = await namespaces.insert(connection, asked, revision)
                await changes.record(connection, Change(revision, Put(stored)))
                await requests.remember(connection, request.request_id, asked, stored)
        return api.CreateNamespaceResponse(namespace=wire.namespace_message(stored))

    async def GetNamespace(self, request: api.GetNamespaceRequest, context: object) -> api.GetNamespaceResponse:
        """Read one."""
        async with self._transactions.reading() as connection:
            found = await _existing(connection, request.tenant, request.name, visibility(context))
        return api.GetNamespaceResponse(namespace=wire.namespace_message(found))

    async def ListNamespaces(self, request: api.ListNamespacesRequest, context: object) -> api.ListNamespacesResponse:
        """Read a page of one tenant's."""
        tenant = request.tenant or names.DEFAULT_TENANT
        scope = ("namespaces", tenant)
        size, after = page.size(request.page_size), page.after(scope, request.page_token)
        async with self._transactions.reading() as connection:
            await tenant_service.existing(connection, tenant, visibility(context))
            found = await namespaces.page(connection, tenant, after, size + 1)
        response = api.ListNamespacesResponse()
        response.next_page_token = fill(
            response.namespaces, found, size, wire.namespace_message, lambda row: row.name, scope
        )
        return response

    async def UpdateNamespace(
        self, request: api.UpdateNamespaceRequest, context: object
    ) -> api.UpdateNamespaceResponse:
        """Change fields of one; nothing changes, and its etag stays, when they have these values already."""
        message = request.namespace
        violations: list[Violation] = []
        asked = wire.namespace_asked(message, violations)
        fields, wrong = fields_to_change(
            request.update_mask.paths, wire.set_fields(message), namespace.CHANGEABLE, wire.all_fields(message)
        )
        violations = concerning(fields, violations) + wrong + namespace.check(asked, fields)
        if not asked.name:
            violations.append(Violation("namespace.name", "must not be empty"))
        if violations:
            raise InvalidArgument.of(*violations)
        async with self._transactions.changing() as connection:
            revision = await changes.lock(connection) + 1
            stored = await _existing(connection, asked.tenant, asked.name, _EVERYTHING)
            check_etag(message.etag, _label(stored), stored.revision)
            changed = replace(stored, **{field: getattr(asked, field) for field in fields})
            if changed.default_worker_group != stored.default_worker_group:
                await default_group.check(connection, _GROUP_PATH, changed.default_worker_group, stored.tenant)
            await default_group.check_named(
                connection, _DEFAULTS_PATH, changed.plugin_defaults, stored.tenant, stored.plugin_defaults
            )
            if changed != stored:
                stored = await namespaces.update(connection, changed, revision)
                await changes.record(connection, Change(revision, Put(stored)))
        return api.UpdateNamespaceResponse(namespace=wire.namespace_message(stored))

    async def DeleteNamespace(
        self, request: api.DeleteNamespaceRequest, context: object
    ) -> api.DeleteNamespaceResponse:
        """Remove one; its children inherit from further up."""
        async with self._transactions.changing() as connection:
            revision = await changes.lock(connection) + 1
            stored = await _existing(connection, request.tenant, request.name, _EVERYTHING)
            check_etag(request.etag, _label(stored), stored.revision)
            await namespaces.delete(connection, stored.tenant, stored.name)
            await changes.record(connection, Change(revision, Removed(stored)))
        return api.DeleteNamespaceResponse()


def _label(of: Namespace) -> str:
    return f"namespace {names.shown(of.name)} in the tenant {names.shown(of.tenant)}"


async def _existing(connection: AsyncConnection, tenant: str, name: str, sees: Visibility) -> Namespace:
    if not name:
        raise InvalidArgument.of(Violation("name", "must not be empty"))
    tenant = tenant or names.DEFAULT_TENANT
    await tenant_service.existing(connection, tenant, sees, "tenant")
    well_formed = not names.check_namespace("name", name)
    if well_formed and (found := await namespaces.get(connection, tenant, name)):
        return found
    raise names.not_found("namespace", name, await namespaces.names_like(connection, tenant, name))
