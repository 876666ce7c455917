"""`farhand tenant …`."""

from typing import TYPE_CHECKING, Annotated

import typer

from farhand.cli.command import command, noun
from farhand.cli.defaults import (
    DefaultFallback,
    DefaultGroup,
    Description,
    Etag,
    NoDefaultFallback,
    NoDefaultGroup,
    RequestId,
    declare,
    default_fallback,
    default_group,
    undeclare,
)
from farhand.cli.fields import every_page, new_request_id, when
from farhand.cli.plugin_defaults import DefaultsFile, rows
from farhand.cli.render import document
from farhand.cli.session import DEADLINE, Session

if TYPE_CHECKING:
    from farhand.api.registry.v1.tenant_pb2 import Tenant

app = noun(
    "Tenants: who is kept apart from whom. What a tenant declares holds for its jobs whose namespaces declare nothing.",
    ["farhand tenant list", "farhand tenant create research --default-worker-group gpu"],
)

Id = Annotated[str, typer.Argument(metavar="ID", help="The tenant, e.g. main.")]


@command(app, "list", examples=["farhand tenant list", "farhand tenant list --output json"])
def list_tenants(session: Session) -> None:
    """All tenants."""
    from farhand.api.registry.v1.tenant_service_pb2 import ListTenantsRequest
    from farhand.api.registry.v1.tenant_service_pb2_grpc import TenantServiceStub

    with session.registry() as channel:
        call = TenantServiceStub(channel).ListTenants
        tenants = list(every_page(call, ListTenantsRequest(), "tenants", timeout=DEADLINE))
    rows = [(tenant.id, default_group(tenant), default_fallback(tenant), tenant.description) for tenant in tenants]
    headers = ("ID", "DEFAULT GROUP", "DEFAULT FALLBACK", "DESCRIPTION")
    session.printer.many([document(tenant) for tenant in tenants], headers, rows, "There are no tenants.")


@command(app, "get", examples=["farhand tenant get main", "farhand tenant get main --output yaml"])
def get(session: Session, id: Id) -> None:
    """One tenant."""
    from farhand.api.registry.v1.tenant_service_pb2 import GetTenantRequest
    from farhand.api.registry.v1.tenant_service_pb2_grpc import TenantServiceStub

    with session.registry() as channel:
        answer = TenantServiceStub(channel).GetTenant(GetTenantRequest(id=id), timeout=DEADLINE)
    _show(session, answer.tenant)


@command(
    app,
    "create",
    examples=[
        "farhand tenant create research --description 'The research department'",
        "farhand tenant create research --default-worker-group gpu --default-fallback fail",
    ],
)
def create(
    session: Session,
    id: Id,
    description: Description = None,
    default_worker_group: DefaultGroup = None,
    default_fallback: DefaultFallback = None,
    plugin_defaults: DefaultsFile = None,
    request_id: RequestId = None,
) -> None:
    """Make a tenant."""
    from farhand.api.registry.v1.tenant_pb2 import Tenant
    from farhand.api.registry.v1.tenant_service_pb2 import CreateTenantRequest
    from farhand.api.registry.v1.tenant_service_pb2_grpc import TenantServiceStub

    tenant = Tenant(id=id)
    declare(tenant, description, default_worker_group, default_fallback, plugin_defaults)
    request = CreateTenantRequest(tenant=tenant, request_id=request_id or new_request_id())
    with session.registry() as channel:
        answer = TenantServiceStub(channel).CreateTenant(request, timeout=DEADLINE)
    _show(session, answer.tenant)


@command(
    app,
    "update",
    examples=[
        "farhand tenant update research --default-worker-group gpu",
        "farhand tenant update research --no-default-worker-group --default-fallback wait",
        "farhand tenant update research --plugin-defaults defaults.yaml",
    ],
)
def update(
    session: Session,
    id: Id,
    description: Description = None,
    default_worker_group: DefaultGroup = None,
    no_default_worker_group: NoDefaultGroup = False,
    default_fallback: DefaultFallback = None,
    no_default_fallback: NoDefaultFallback = False,
    plugin_defaults: DefaultsFile = None,
    etag: Etag = "",
) -> None:
    """Change what is given, and leave the rest."""
    from farhand.api.registry.v1.tenant_pb2 import Tenant
    from farhand.api.registry.v1.tenant_service_pb2 import UpdateTenantRequest
    from farhand.api.registry.v1.tenant_service_pb2_grpc import TenantServiceStub

    request = UpdateTenantRequest(tenant=Tenant(id=id, etag=etag))
    given = declare(request.tenant, description, default_worker_group, default_fallback, plugin_defaults)
    request.update_mask.paths.extend(undeclare(given, no_default_worker_group, no_default_fallback))
    with session.registry() as channel:
        answer = TenantServiceStub(channel).UpdateTenant(request, timeout=DEADLINE)
    _show(session, answer.tenant)


@command(app, "delete", examples=["farhand tenant delete research"])
def delete(session: Session, id: Id, etag: Etag = "") -> None:
    """Remove a tenant that has no namespaces and no flows and that no worker group names."""
    from farhand.api.registry.v1.tenant_service_pb2 import DeleteTenantRequest
    from farhand.api.registry.v1.tenant_service_pb2_grpc import TenantServiceStub

    with session.registry() as channel:
        TenantServiceStub(channel).DeleteTenant(DeleteTenantRequest(id=id, etag=etag), timeout=DEADLINE)
    session.printer.done(f"Tenant {id} is deleted.")


def _show(session: Session, tenant: "Tenant") -> None:
    session.printer.one(
        document(tenant),
        [
            ("id", tenant.id),
            ("description", tenant.description or "-"),
            ("default worker group", default_group(tenant)),
            ("default fallback", default_fallback(tenant)),
            *rows(tenant.plugin_defaults),
            ("created", when(tenant, "create_time")),
            ("updated", when(tenant, "update_time")),
            ("etag", tenant.etag),
        ],
    )
