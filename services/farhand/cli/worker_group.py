"""`farhand worker-group …`: what is declared (registry), with what runs and waits there (scheduler)."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farhand.cli import quotas
from farhand.cli.command import command, noun
from farhand.cli.confirm import confirm
from farhand.cli.defaults import Description, Etag, RequestId
from farhand.cli.failure import CommandFailed, WrongUse
from farhand.cli.fields import NOTHING, duration_flag, enum_name, every_page, listed, new_request_id, span, when
from farhand.cli.quotas import Quotas
from farhand.cli.render import document
from farhand.cli.session import DEADLINE, Session
from farhand.kernel.names import group_key, group_label

if TYPE_CHECKING:
    from farhand.api.registry.v1.worker_group_pb2 import WorkerGroup
    from farhand.api.scheduler.v1.job_service_pb2 import GroupFigures

app = noun(
    "Worker groups: the places that a job can name. The default group, _default, is always there.",
    [
        "farhand worker-group list",
        "farhand worker-group create gpu --description 'Machines with a GPU' --allow-tenant research",
        "farhand worker-group update gpu --paused",
        "farhand worker-group update gpu --quota tenant=acme,running=4,queued=100 --quota running=2",
        "farhand worker-group delete gpu",
    ],
)

Key = Annotated[str, typer.Argument(metavar="KEY", help="The worker group; _default is the default group.")]
AllowTenant = Annotated[
    list[str] | None,
    typer.Option("--allow-tenant", metavar="ID", help="A tenant whose jobs may run here; may be given several times."),
]
Lease = Annotated[
    str | None,
    typer.Option("--lease", metavar="TIME", help="How long a silent worker keeps its jobs: 60s unless said."),
]


@command(app, "list", examples=["farhand worker-group list", "farhand worker-group list --output json"])
def list_worker_groups(session: Session) -> None:
    """All worker groups, with what runs and waits in each, and what tenants have of their quotas there.

    The figures come from the scheduler; while it is away they are "-" (in documents: null).
    """
    from farhand.api.registry.v1.worker_group_service_pb2 import ListWorkerGroupsRequest
    from farhand.api.registry.v1.worker_group_service_pb2_grpc import WorkerGroupServiceStub

    with session.registry() as channel:
        call = WorkerGroupServiceStub(channel).ListWorkerGroups
        groups = list(every_page(call, ListWorkerGroupsRequest(), "worker_groups", timeout=DEADLINE))
    figures = _all_figures(session)
    session.printer.many(
        [_document(group, figures.get(group.uid)) for group in groups],
        (
            "KEY",
            "DESCRIPTION",
            "ALLOWED TENANTS",
            "STATE",
            "WORKERS",
            "SLOTS",
            "QUEUED",
            "RUNNING",
            "OLDEST WAIT",
            "QUOTAS",
        ),
        [
            (
                group_label(group.key),
                group.description or NOTHING,
                listed(group.allowed_tenants, "all"),
                _state(group),
                *_figures_row(figures.get(group.uid)),
                quotas.summary(group.quotas, figures.get(group.uid)),
            )
            for group in groups
        ],
        "There are no worker groups.",
    )


@command(app, "get", examples=["farhand worker-group get gpu", "farhand worker-group get _default --output json"])
def get(session: Session, key: Key) -> None:
    """One worker group, with what runs and waits there."""
    from farhand.api.registry.v1.worker_group_service_pb2 import GetWorkerGroupRequest
    from farhand.api.registry.v1.worker_group_service_pb2_grpc import WorkerGroupServiceStub

    with session.registry() as channel:
        request = GetWorkerGroupRequest(key=key)
        group = WorkerGroupServiceStub(channel).GetWorkerGroup(request, timeout=DEADLINE).worker_group
    figures = _all_figures(session).get(group.uid)
    names = ("workers", "slots", "queued", "running", "oldest wait")
    rows = [*_rows(group, figures), *zip(names, _figures_row(figures), strict=True)]
    session.printer.one(_document(group, figures), rows)


@command(
    app,
    "create",
    examples=[
        "farhand worker-group create gpu",
        "farhand worker-group create edge --description 'Shops' --lease 10m",
        "farhand worker-group create lab --allow-tenant research --allow-tenant main",
        "farhand worker-group create shared --quota tenant=acme,running=4,queued=100 --quota running=2",
    ],
)
def create(
    session: Session,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The name that jobs use: letters, digits, _ and -.")],
    description: Description = None,
    allow_tenant: AllowTenant = None,
    lease: Lease = None,
    quota: Quotas = None,
    request_id: RequestId = None,
) -> None:
    """Make a worker group. Every tenant may use it unless some are named, and as much as it likes without quotas."""
    from farhand.api.registry.v1.worker_group_pb2 import WorkerGroup
    from farhand.api.registry.v1.worker_group_service_pb2 import CreateWorkerGroupRequest
    from farhand.api.registry.v1.worker_group_service_pb2_grpc import WorkerGroupServiceStub

    group = WorkerGroup(
        key=key,
        description=description or "",
        allowed_tenants=allow_tenant or (),
        lease=duration_flag("--lease", lease),
        quotas=quotas.read(quota or ()),
    )
    request = CreateWorkerGroupRequest(worker_group=group, request_id=request_id or new_request_id())
    with session.registry() as channel:
        answer = WorkerGroupServiceStub(channel).CreateWorkerGroup(request, timeout=DEADLINE)
    session.printer.one(document(answer.worker_group), _rows(answer.worker_group))


@command(
    app,
    "update",
    examples=[
        "farhand worker-group update gpu --paused",
        "farhand worker-group update gpu --no-paused --lease 2m",
        "farhand worker-group update lab --allow-tenant research",
        "farhand worker-group update lab --allow-all-tenants",
        "farhand worker-group update lab --quota tenant=research,running=4",
        "farhand worker-group update lab --no-quotas",
    ],
)
def update(
    session: Session,
    key: Key,
    description: Description = None,
    allow_tenant: AllowTenant = None,
    allow_all_tenants: Annotated[bool, typer.Option("--allow-all-tenants", help="Let every tenant in.")] = False,
    lease: Lease = None,
    paused: Annotated[
        bool | None, typer.Option("--paused/--no-paused", help="Whether to hold back its jobs.", show_default=False)
    ] = None,
    quota: Quotas = None,
    no_quotas: Annotated[bool, typer.Option("--no-quotas", help="Bind no tenant any more.")] = False,
    etag: Etag = "",
) -> None:
    """Change what is given, and leave the rest.

    Tenants that are given replace those that were allowed, and quotas those that there were. A quota that is lowered
    touches no job that runs or waits.
    """
    from farhand.api.registry.v1.worker_group_pb2 import WorkerGroup
    from farhand.api.registry.v1.worker_group_service_pb2 import UpdateWorkerGroupRequest
    from farhand.api.registry.v1.worker_group_service_pb2_grpc import WorkerGroupServiceStub

    if allow_tenant and allow_all_tenants:
        raise WrongUse("Give --allow-tenant or --allow-all-tenants, not both.")
    if quota and no_quotas:
        raise WrongUse("Give --quota or --no-quotas, not both.")
    group = WorkerGroup(
        key=group_key(key),
        description=description or "",
        allowed_tenants=allow_tenant or (),
        lease=duration_flag("--lease", lease),
        paused=bool(paused),
        quotas=quotas.read(quota or ()),
        etag=etag,
    )
    mask = {
        "description": description is not None,
        "allowed_tenants": bool(allow_tenant) or allow_all_tenants,
        "lease": lease is not None,
        "paused": paused is not None,
        "quotas": bool(quota) or no_quotas,
    }
    if not any(mask.values()):
        raise WrongUse("There is nothing to change: say what by an option (see --help).")
    request = UpdateWorkerGroupRequest(worker_group=group)
    request.update_mask.paths.extend(field for field, given in mask.items() if given)
    with session.registry() as channel:
        answer = WorkerGroupServiceStub(channel).UpdateWorkerGroup(request, timeout=DEADLINE)
    session.printer.one(document(answer.worker_group), _rows(answer.worker_group))


@command(app, "delete", examples=["farhand worker-group delete gpu", "farhand worker-group delete gpu --force --yes"])
def delete(
    session: Session,
    key: Key,
    force: Annotated[bool, typer.Option("--force", help="Kill its jobs rather than refuse while it has any.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before --force kills jobs.")] = False,
    etag: Etag = "",
) -> None:
    """Remove a worker group that has no jobs and that no tenant and no namespace names as its default."""
    from farhand.api.registry.v1.worker_group_service_pb2 import DeleteWorkerGroupRequest
    from farhand.api.registry.v1.worker_group_service_pb2_grpc import WorkerGroupServiceStub

    if force and not yes:
        confirm(f"Delete worker group {group_label(key)} and kill all its jobs?", otherwise="Nothing was deleted.")
    with session.registry() as channel:
        request = DeleteWorkerGroupRequest(key=key, etag=etag, force=force)
        answer = WorkerGroupServiceStub(channel).DeleteWorkerGroup(request, timeout=DEADLINE)
    if answer.HasField("worker_group"):
        session.printer.done(
            f"Worker group {group_label(key)} is being deleted: it takes no jobs any more, and is gone once a "
            "scheduler has ended what it still has."
        )
    else:
        session.printer.done(f"Worker group {group_label(key)} is deleted.")


def _all_figures(session: Session) -> Mapping[str, "GroupFigures"]:
    """The figures by the groups' uids; none, with a word on stderr, where the scheduler does not give them."""
    from farhand.api.scheduler.v1.group_service_pb2 import ListGroupFiguresRequest
    from farhand.api.scheduler.v1.group_service_pb2_grpc import GroupServiceStub

    try:
        with session.scheduler() as channel:
            answer = GroupServiceStub(channel).ListGroupFigures(ListGroupFiguresRequest(), timeout=_FIGURES_DEADLINE)
    except CommandFailed as failure:
        sys.stderr.write(f"{failure.lines()[0]} So no figures are shown.\n")
        return {}
    return {figures.worker_group_uid: figures for figures in answer.figures}


_FIGURES_DEADLINE = 5.0  # seconds: a list without figures soon is better than one with them late


def _document(group: "WorkerGroup", figures: "GroupFigures | None") -> dict[str, Any]:
    return document(group) | {"figures": None if figures is None else document(figures)}


def _state(group: "WorkerGroup") -> str:
    from farhand.api.registry.v1.worker_group_pb2 import WORKER_GROUP_STATE_ACTIVE, WorkerGroupState

    if group.paused and group.state == WORKER_GROUP_STATE_ACTIVE:
        return "PAUSED"
    return enum_name(WorkerGroupState, group.state, "WORKER_GROUP_STATE_")


def _figures_row(figures: "GroupFigures | None") -> tuple[str, ...]:
    """Active workers, slots, queued, running, oldest wait."""
    if figures is None:
        return (NOTHING,) * 5
    return (
        str(figures.active_workers),
        str(figures.slots),
        str(figures.queued_jobs),
        str(figures.running_jobs),
        span(figures.oldest_wait) if figures.HasField("oldest_wait") else NOTHING,
    )


def _rows(group: "WorkerGroup", figures: "GroupFigures | None" = None) -> list[tuple[str, str]]:
    return [
        ("key", group_label(group.key)),
        ("uid", group.uid),
        ("description", group.description or NOTHING),
        ("allowed tenants", listed(group.allowed_tenants, "all")),
        ("lease", span(group.lease) if group.HasField("lease") else NOTHING),
        *quotas.rows(group.quotas, figures),
        ("state", _state(group)),
        ("created", when(group, "create_time")),
        ("updated", when(group, "update_time")),
        ("etag", group.etag),
    ]
