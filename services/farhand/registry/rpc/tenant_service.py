"""TenantService."""

from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.api.registry.v1 import tenant_service_pb2 as api
from farhand.api.registry.v1.tenant_service_pb2_grpc import TenantServiceServicer
from farhand.kernel import names
from farhand.kernel.errors import InvalidArgument, ResourceExists, Violation
from farhand.registry.core import page, request_id, tenant
from farhand.registry.core.change import Change, Put, Removed
from farhand.registry.core.etag import check_etag
from farhand.registry.core.tenant import Tenant
from farhand.registry.core.update_mask import concerning, fields_to_change
from farhand.registry.core.visibility import Visibility
from farhand.registry.rpc import default_group, wire
from farhand.registry.rpc.callers import visibility
from farhand.registry.rpc.pages import fill
from farhand.registry.store import changes, flows, namespace_files, namespaces, requests, tenants, worker_groups
from farhand.registry.store.transactions import Transactions

_EVERYTHING = Visibility(None)
_GROUP_PATH = "tenant.default_worker_group"
_DEFAULTS_PATH = "tenant.plugin_defaults"


class TenantService(TenantServiceServicer):
    """Manages tenants."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def CreateTenant(self, request: api.CreateTenantRequest, context: object) -> api.CreateTenantResponse:
        """Make one."""
        violations: list[Violation] = []
        asked = wire.tenant_asked(request.tenant, violations)
        violations += names.check_tenant("tenant.id", asked.id)
        violations += tenant.check(asked)
        violations += request_id.check(request.request_id)
        if violations:
            raise InvalidArgument.of(*violations)
        async with self._transactions.changing() as connection:
            revision = await changes.lock(connection) + 1
            stored = await requests.answered(connection, request.request_id, asked)
            if stored is None:
                if await tenants.get(connection, asked.id) is not None:
                    raise ResourceExists(f"There is a tenant {names.shown(asked.id)} already.")
                await default_group.check(connection, _GROUP_PATH, asked.default_worker_group, asked.id)
                await default_group.check_named(connection, _DEFAULTS_PATH, asked.plugin_defaults, asked.id)
                stored = await tenants.insert(connection, asked, revision)
                await changes.record(connection, Change(revision, Put(stored)))
                await requests.remember(connection, request.request_id, asked, stored)
        return api.CreateTenantResponse(tenant=wire.tenant_message(stored))

    async def GetTenant(self, request: api.GetTenantRequest, context: object) -> api.GetTenantResponse:
        """Read one."""
        async with self._transactions.reading() as connection:
            found = await existing(connection, request.id, visibility(context))
        return api.GetTenantResponse(tenant=wire.tenant_message(found))

    async def ListTenants(self, request: api.ListTenantsRequest, context: object) -> api.ListTenantsResponse:
        """Read a page."""
        scope = ("tenants",)
        size, after = page.size(request.page_size), page.after(scope, request.page_token)
        async with self._transactions.reading() as connection:
            found = await tenants.page(connection, visibility(context).tenants, after, size + 1)
        response = api.ListTenantsResponse()
        response.next_page_token = fill(response.tenants, found, size, wire.tenant_message, lambda row: row.id, scope)
        return response

    async def UpdateTenant(self, request: api.UpdateTenantRequest, context: object) -> api.UpdateTenantResponse:
        """Change fields of one; nothing changes, and its etag stays, when they have these values already."""
        message = request.tenant
        violations: list[Violation] = []
        asked = wire.tenant_asked(message, violations)
        fields, wrong = fields_to_change(
            request.update_mask.paths, wire.set_fields(message), tenant.CHANGEABLE, wire.all_fields(message)
        )
        violations = concerning(fields, violations) + wrong + tenant.check(asked, fields)
        if not asked.id:
            violations.append(Violation("tenant.id", "must not be empty"))
        if violations:
            raise InvalidArgument.of(*violations)
        async with self._transactions.changing() as connection:
            revision = await changes.lock(connection) + 1
            stored = await existing(connection, asked.id, _EVERYTHING, "tenant.id")
            check_etag(message.etag, f"tenant {names.shown(stored.id)}", stored.revision)
            changed = replace(stored, **{field: getattr(asked, field) for field in fields})
            if changed.default_worker_group != stored.default_worker_group:
                await default_group.check(connection, _GROUP_PATH, changed.default_worker_group, stored.id)
            await default_group.check_named(
                connection, _DEFAULTS_PATH, changed.plugin_defaults, stored.id, stored.plugin_defaults
            )
            if changed != stored:
                stored = await tenants.update(connection, changed, revision)
                await changes.record(connection, Change(revision, Put(stored)))
        return api.UpdateTenantResponse(tenant=wire.tenant_message(stored))

    async def DeleteTenant(self, request: api.DeleteTenantRequest, context: object) -> api.DeleteTenantResponse:
        """Remove one that nothing names."""
        async with self._transactions.changing() as connection:
            revision = await changes.lock(connection) + 1
            stored = await existing(connection, request.id, _EVERYTHING)
            check_etag(request.etag, f"tenant {names.shown(stored.id)}", stored.revision)
            tenant.check_removal(
                stored.id,
                await namespaces.of_tenant(connection, stored.id),
                await worker_groups.allowing(connection, stored.id),
                await flows.of_tenant(connection, stored.id),
                await namespace_files.namespaces_of(connection, stored.id),
                await worker_groups.with_quota_of(connection, stored.id),
            )
            await flows.forget_tenant(connection, stored.id)
            await tenants.delete(connection, stored.id)
            await changes.record(connection, Change(revision, Removed(stored)))
        return api.DeleteTenantResponse()


async def existing(connection: AsyncConnection, tenant_id: str, sees: Visibility, path: str = "id") -> Tenant:
    """The tenant; NotFound where there is none that the caller may see; InvalidArgument for an empty id."""
    if not tenant_id:
        raise InvalidArgument.of(Violation(path, "must not be empty"))
    well_formed = not names.check_tenant(path, tenant_id)
    if well_formed and sees.sees_tenant(tenant_id) and (found := await tenants.get(connection, tenant_id)):
        return found
    raise names.not_found("tenant", tenant_id, await tenants.ids_like(connection, tenant_id, sees.tenants))
