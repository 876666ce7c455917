"""`farhand namespace …`."""

from typing import TYPE_CHECKING, Annotated

import typer

from farhand.cli import namespace_files
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
    from farhand.api.registry.v1.namespace_pb2 import Namespace

app = noun(
    "Namespaces: what their jobs inherit. What a namespace doesn't declare comes from its nearest ancestor that does "
    "(company.team from company), then from the tenant.",
    [
        "farhand namespace list",
        "farhand namespace create company.team --default-worker-group gpu",
        "farhand namespace update company.team --no-default-worker-group",
        "farhand namespace files upload company.team scripts/",
    ],
)
app.add_typer(namespace_files.app, name="files")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The namespace, e.g. company.team.")]


@command(app, "list", examples=["farhand namespace list", "farhand namespace list --output json"])
def list_namespaces(session: Session) -> None:
    """All namespaces of the tenant."""
    from farhand.api.registry.v1.namespace_service_pb2 import ListNamespacesRequest
    from farhand.api.registry.v1.namespace_service_pb2_grpc import NamespaceServiceStub

    with session.registry() as channel:
        call = NamespaceServiceStub(channel).ListNamespaces
        namespaces = list(
            every_page(call, ListNamespacesRequest(tenant=session.settings.tenant), "namespaces", timeout=DEADLINE)
        )
    rows = [
        (namespace.name, default_group(namespace), default_fallback(namespace), namespace.description)
        for namespace in namespaces
    ]
    headers = ("NAME", "DEFAULT GROUP", "DEFAULT FALLBACK", "DESCRIPTION")
    session.printer.many([document(namespace) for namespace in namespaces], headers, rows, "There are no namespaces.")


@command(
    app, "get", examples=["farhand namespace get company.team", "farhand namespace get company.team --output yaml"]
)
def get(session: Session, name: Name) -> None:
    """One namespace."""
    from farhand.api.registry.v1.namespace_service_pb2 import GetNamespaceRequest
    from farhand.api.registry.v1.namespace_service_pb2_grpc import NamespaceServiceStub

    with session.registry() as channel:
        answer = NamespaceServiceStub(channel).GetNamespace(
            GetNamespaceRequest(tenant=session.settings.tenant, name=name), timeout=DEADLINE
        )
    _show(session, answer.namespace)


@command(
    app,
    "create",
    examples=[
        "farhand namespace create company.team --description 'The research team'",
        "farhand namespace create company.team --default-worker-group gpu --default-fallback fail",
    ],
)
def create(
    session: Session,
    name: Name,
    description: Description = None,
    default_worker_group: DefaultGroup = None,
    default_fallback: DefaultFallback = None,
    plugin_defaults: DefaultsFile = None,
    request_id: RequestId = None,
) -> None:
    """Make a namespace."""
    from farhand.api.registry.v1.namespace_pb2 import Namespace
    from farhand.api.registry.v1.namespace_service_pb2 import CreateNamespaceRequest
    from farhand.api.registry.v1.namespace_service_pb2_grpc import NamespaceServiceStub

    namespace = Namespace(tenant=session.settings.tenant, name=name)
    declare(namespace, description, default_worker_group, default_fallback, plugin_defaults)
    request = CreateNamespaceRequest(namespace=namespace, request_id=request_id or new_request_id())
    with session.registry() as channel:
        answer = NamespaceServiceStub(channel).CreateNamespace(request, timeout=DEADLINE)
    _show(session, answer.namespace)


@command(
    app,
    "update",
    examples=[
        "farhand namespace update company.team --default-worker-group gpu",
        "farhand namespace update company.team --no-default-worker-group --default-fallback wait",
        "farhand namespace update company.team --plugin-defaults defaults.yaml",
    ],
)
def update(
    session: Session,
    name: Name,
    description: Description = None,
    default_worker_group: DefaultGroup = None,
    no_default_worker_group: NoDefaultGroup = False,
    default_fallback: DefaultFallback = None,
    no_default_fallback: NoDefaultFallback = False,
    plugin_defaults: DefaultsFile = None,
    etag: Etag = "",
) -> None:
    """Change what is given, and leave the rest."""
    from farhand.api.registry.v1.namespace_pb2 import Namespace
    from farhand.api.registry.v1.namespace_service_pb2 import UpdateNamespaceRequest
    from farhand.api.registry.v1.namespace_service_pb2_grpc import NamespaceServiceStub

    request = UpdateNamespaceRequest(namespace=Namespace(tenant=session.settings.tenant, name=name, etag=etag))
    given = declare(request.namespace, description, default_worker_group, default_fallback, plugin_defaults)
    request.update_mask.paths.extend(undeclare(given, no_default_worker_group, no_default_fallback))
    with session.registry() as channel:
        answer = NamespaceServiceStub(channel).UpdateNamespace(request, timeout=DEADLINE)
    _show(session, answer.namespace)


@command(app, "delete", examples=["farhand namespace delete company.team"])
def delete(session: Session, name: Name, etag: Etag = "") -> None:
    """Remove a namespace; its children inherit from further up."""
    from farhand.api.registry.v1.namespace_service_pb2 import DeleteNamespaceRequest
    from farhand.api.registry.v1.namespace_service_pb2_grpc import NamespaceServiceStub

    with session.registry() as channel:
        NamespaceServiceStub(channel).DeleteNamespace(
            DeleteNamespaceRequest(tenant=session.settings.tenant, name=name, etag=etag), timeout=DEADLINE
        )
    session.printer.done(f"Namespace {name} is deleted.")


def _show(session: Session, namespace: "Namespace") -> None:
    session.printer.one(
        document(namespace),
        [
            ("tenant", namespace.tenant),
            ("name", namespace.name),
            ("description", namespace.description or "-"),
            ("default worker group", default_group(namespace)),
            ("default fallback", default_fallback(namespace)),
            *rows(namespace.plugin_defaults),
            ("created", when(namespace, "create_time")),
            ("updated", when(namespace, "update_time")),
            ("etag", namespace.etag),
        ],
    )
