"""`farhand flow …`: flows as they are saved in the registry, their revisions, and where their tasks will run."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farhand.cli import flow_file
from farhand.cli.command import command, noun
from farhand.cli.defaults import Etag, RequestId
from farhand.cli.failure import CommandFailed
from farhand.cli.fields import NOTHING, every_page, fallback_name, listed, new_request_id, when
from farhand.cli.render import document
from farhand.cli.session import DEADLINE, Session

if TYPE_CHECKING:
    from farhand.api.registry.v1.flow_pb2 import Flow, TaskResolution, TriggerResolution

app = noun(
    "Flows: YAML that says which tasks run, in which order, on which worker groups. See also: farhand execution.",
    [
        "farhand flow validate nightly.yaml",
        "farhand flow create nightly.yaml",
        "farhand flow explain company.team/nightly",
        "farhand execution create company.team/nightly --follow",
    ],
)

Name = Annotated[str, typer.Argument(metavar="NAMESPACE/ID", help="The flow, e.g. company.team/nightly.")]
File = Annotated[str, typer.Argument(metavar="FILE", help="The flow's YAML; - is stdin.")]
Revision = Annotated[int | None, typer.Option("--revision", metavar="N", help="This revision, not the newest.", min=1)]


@command(
    app,
    "validate",
    examples=["farhand flow validate nightly.yaml", "farhand flow validate flows/*.yaml --output json"],
)
def validate(
    session: Session,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Flows in YAML; - is stdin.")],
) -> int:
    """Tell all that is wrong with flows, each with line and column, and save nothing. Exit code 1 if anything is."""
    results: list[dict[str, Any]] = []
    wrong = 0
    for name in files:
        problems = flow_file.validate(session, flow_file.read_source(name))
        errors = sum(map(flow_file.is_error, problems))
        wrong += errors > 0
        results.append({"file": name, "valid": not errors, "problems": flow_file.documents(problems)})
        if session.settings.output == "table":
            flow_file.say(flow_file.problem_lines(name, problems))
            session.printer.done(f"{name}: {flow_file.counted(errors, 'error') if errors else 'fine'}")
    if session.settings.output != "table":
        session.printer.many(results, (), (), "")
    return 1 if wrong else 0


@command(app, "create", examples=["farhand flow create nightly.yaml", "farhand flow create - < nightly.yaml"])
def create(session: Session, file: File, request_id: RequestId = None) -> None:
    """Save a flow's first revision. Its namespace and id are in the file."""
    from farhand.api.registry.v1.flow_service_pb2 import CreateFlowRequest
    from farhand.api.registry.v1.flow_service_pb2_grpc import FlowServiceStub

    source = flow_file.read_source(file)
    flow_file.stopped_by(session, file, source)
    request = CreateFlowRequest(
        tenant=session.settings.tenant, source=source, request_id=request_id or new_request_id()
    )
    with session.registry() as channel:
        _saved(session, FlowServiceStub(channel).CreateFlow(request, timeout=DEADLINE).flow)


@command(app, "update", examples=["farhand flow update nightly.yaml", "farhand flow update nightly.yaml --etag r7"])
def update(session: Session, file: File, etag: Etag = "") -> None:
    """Save a flow's next revision; none where the file is as the newest one."""
    from farhand.api.registry.v1.flow_service_pb2 import UpdateFlowRequest
    from farhand.api.registry.v1.flow_service_pb2_grpc import FlowServiceStub

    source = flow_file.read_source(file)
    flow_file.stopped_by(session, file, source)
    request = UpdateFlowRequest(tenant=session.settings.tenant, source=source, etag=etag)
    with session.registry() as channel:
        _saved(session, FlowServiceStub(channel).UpdateFlow(request, timeout=DEADLINE).flow)


@command(
    app,
    "list",
    examples=["farhand flow list", "farhand flow list --namespace company", "farhand flow list --output json"],
)
def list_flows(
    session: Session,
    namespace: Annotated[
        str, typer.Option("--namespace", metavar="NAME", help="Only of this namespace and of those below it.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="At most so many.", min=1)] = 1000,
) -> None:
    """The tenant's flows, by namespace and id, each in its newest revision."""
    from farhand.api.registry.v1.flow_service_pb2 import ListFlowsRequest
    from farhand.api.registry.v1.flow_service_pb2_grpc import FlowServiceStub

    request = ListFlowsRequest(tenant=session.settings.tenant, namespace=namespace)
    with session.registry() as channel:
        call = FlowServiceStub(channel).ListFlows
        flows = list(every_page(call, request, "flows", timeout=DEADLINE, limit=limit))
    session.printer.many(
        [document(flow) for flow in flows],
        ("NAMESPACE", "ID", "REVISION", "SAVED", "LABELS", "DESCRIPTION"),
        [
            (
                flow.namespace,
                flow.id,
                str(flow.revision),
                when(flow, "update_time"),
                _labels(flow),
                flow.description or NOTHING,
            )
            for flow in flows
        ],
        "There are no flows.",
    )


@command(
    app,
    "get",
    examples=[
        "farhand flow get company.team/nightly",
        "farhand flow get company.team/nightly --revision 3 --source > nightly.yaml",
        "farhand flow get company.team/nightly --revisions",
    ],
)
def get(
    session: Session,
    flow: Name,
    revision: Revision = None,
    source: Annotated[bool, typer.Option("--source", help="Print the YAML as it was saved, and nothing else.")] = False,
    revisions: Annotated[bool, typer.Option("--revisions", help="List all its revisions, newest first.")] = False,
) -> None:
    """One flow: a revision of it, its YAML, or the list of its revisions."""
    if revisions:
        _list_revisions(session, flow)
        return
    found = _read(session, flow, revision)
    if source:
        sys.stdout.write(found.source)
        return
    session.printer.one(document(found), _rows(found))
    if session.settings.output == "table":
        sys.stdout.write("\n" + found.source)


@command(app, "delete", examples=["farhand flow delete company.team/nightly"])
def delete(session: Session, flow: Name, etag: Etag = "") -> None:
    """Take a flow off the lists. Executions that run go on, and its revisions stay for those that ran."""
    from farhand.api.registry.v1.flow_service_pb2 import DeleteFlowRequest
    from farhand.api.registry.v1.flow_service_pb2_grpc import FlowServiceStub

    namespace, id = flow_file.flow_name(flow)
    with session.registry() as channel:
        request = DeleteFlowRequest(tenant=session.settings.tenant, namespace=namespace, id=id, etag=etag)
        FlowServiceStub(channel).DeleteFlow(request, timeout=DEADLINE)
    session.printer.done(f"Flow {flow} is deleted.")


@command(
    app,
    "explain",
    examples=[
        "farhand flow explain nightly.yaml",
        "farhand flow explain company.team/nightly --revision 3",
        "farhand flow explain company.team/nightly --output json",
    ],
)
def explain(
    session: Session,
    flow: Annotated[str, typer.Argument(metavar="FILE|NAMESPACE/ID", help="A flow's YAML, or a flow that is saved.")],
    revision: Revision = None,
) -> None:
    """Which worker group and which fallback each task and trigger gets, and which level said so."""
    from farhand.api.registry.v1.flow_service_pb2 import ExplainFlowRequest, FlowName
    from farhand.api.registry.v1.flow_service_pb2_grpc import FlowServiceStub

    request = ExplainFlowRequest(tenant=session.settings.tenant)
    if flow_file.is_file(flow):
        request.source = flow_file.read_source(flow)
        problems = flow_file.validate(session, request.source)
        if errors := [problem for problem in problems if flow_file.is_error(problem)]:
            flow_file.say(flow_file.problem_lines(flow, errors))
            raise CommandFailed(f"{flow} can't be explained: it has {flow_file.counted(len(errors), 'error')}.")
    else:
        namespace, id = flow_file.flow_name(flow)
        request.name.CopyFrom(FlowName(namespace=namespace, id=id, revision=revision or 0))
    with session.registry() as channel:
        answer = FlowServiceStub(channel).ExplainFlow(request, timeout=DEADLINE)
    if session.settings.output == "table":
        flow_file.say(flow_file.problem_lines(flow, answer.problems))
    session.printer.many(
        [document(each) for each in (*answer.tasks, *answer.triggers)],
        ("TASK", "WORKER GROUP", "FROM", "FALLBACK", "FROM", "WAITS AT MOST", "TYPE"),
        [
            *((task.task_id, *_resolved(task), task.task_type) for task in answer.tasks),
            *((f"{each.trigger_id} (trigger)", *_resolved(each), each.trigger_type) for each in answer.triggers),
        ],
        "It has no tasks.",
    )


def _resolved(of: "TaskResolution | TriggerResolution") -> tuple[str, ...]:
    if not of.worker_group:
        return ("the scheduler", NOTHING, NOTHING, NOTHING, NOTHING)
    return (
        of.worker_group,
        of.worker_group_level,
        fallback_name(of.fallback),
        of.fallback_level,
        f"{of.timeout} ({of.timeout_level})" if of.timeout else "for ever",
    )


@command(app, "schema", examples=["farhand flow schema > flow.schema.json"])
def schema(session: Session) -> None:
    """The JSON Schema of the flow language, for editors. Always JSON."""
    from farhand.api.registry.v1.flow_service_pb2 import GetFlowSchemaRequest
    from farhand.api.registry.v1.flow_service_pb2_grpc import FlowServiceStub

    with session.registry() as channel:
        answer = FlowServiceStub(channel).GetFlowSchema(GetFlowSchemaRequest(), timeout=DEADLINE)
    sys.stdout.write(json.dumps(json.loads(answer.schema), indent=2) + "\n")


@command(
    app,
    "diff",
    examples=[
        "farhand flow diff nightly.yaml",
        "farhand flow diff company.team/nightly --from 3",
        "farhand flow diff company.team/nightly --from 3 --to 5",
    ],
)
def diff(
    session: Session,
    flow: Annotated[str, typer.Argument(metavar="FILE|NAMESPACE/ID", help="A flow's YAML, or a flow that is saved.")],
    from_: Annotated[int | None, typer.Option("--from", metavar="N", help="The older revision.", min=1)] = None,
    to: Annotated[int | None, typer.Option("--to", metavar="N", help="The newer one.", min=1)] = None,
) -> None:
    """What changed: from the newest revision to a file, or from one revision to another.

    Of a saved flow without --from, the change that its newest revision made.
    """
    import difflib

    if flow_file.is_file(flow):
        new_name, new = flow, flow_file.read_source(flow)
        saved = _saved_of(session, flow, new, from_)
    else:
        newer = _read(session, flow, to)
        new_name, new = f"{flow} revision {newer.revision}", newer.source
        older = from_ or newer.revision - 1
        saved = _read(session, flow, older) if older else None
    old_name = "nothing" if saved is None else f"{saved.namespace}/{saved.id} revision {saved.revision}"
    old = "" if saved is None else saved.source
    lines = list(difflib.unified_diff(old.splitlines(), new.splitlines(), old_name, new_name, lineterm=""))
    session.printer.lines({"old": old_name, "new": new_name, "diff": lines}, lines)


def _saved_of(session: Session, file: str, source: str, revision: int | None) -> "Flow | None":
    """The saved flow that a file would change: by the names in it; None where there is none."""
    names = flow_file.name_in(source)
    if names is None:
        raise CommandFailed(f"{file} does not say which flow it is: it needs a namespace and an id.")
    try:
        return _read(session, "/".join(names), revision)
    except CommandFailed as failure:
        if revision or failure.reason != "NOT_FOUND":
            raise
        return None


def _read(session: Session, flow: str, revision: int | None) -> "Flow":
    from farhand.api.registry.v1.flow_service_pb2 import GetFlowRequest
    from farhand.api.registry.v1.flow_service_pb2_grpc import FlowServiceStub

    namespace, id = flow_file.flow_name(flow)
    request = GetFlowRequest(tenant=session.settings.tenant, namespace=namespace, id=id, revision=revision or 0)
    with session.registry() as channel:
        return FlowServiceStub(channel).GetFlow(request, timeout=DEADLINE).flow


def _list_revisions(session: Session, flow: str) -> None:
    from farhand.api.registry.v1.flow_service_pb2 import ListFlowRevisionsRequest
    from farhand.api.registry.v1.flow_service_pb2_grpc import FlowServiceStub

    namespace, id = flow_file.flow_name(flow)
    request = ListFlowRevisionsRequest(tenant=session.settings.tenant, namespace=namespace, id=id)
    with session.registry() as channel:
        call = FlowServiceStub(channel).ListFlowRevisions
        flows = list(every_page(call, request, "flows", timeout=DEADLINE))
    session.printer.many(
        [document(each) for each in flows],
        ("REVISION", "SAVED", "BY", "DESCRIPTION"),
        [
            (str(each.revision), when(each, "update_time"), each.saved_by or NOTHING, each.description or NOTHING)
            for each in flows
        ],
        "It has no revisions.",
    )


def _saved(session: Session, flow: "Flow") -> None:
    session.printer.value(document(flow), f"{flow.namespace}/{flow.id} revision {flow.revision}")


def _labels(flow: "Flow") -> str:
    return listed(f"{name}={value}" for name, value in sorted(flow.labels.items()))


def _rows(flow: "Flow") -> list[tuple[str, str]]:
    return [
        ("namespace", flow.namespace),
        ("id", flow.id),
        ("revision", str(flow.revision)),
        ("description", flow.description or NOTHING),
        ("labels", _labels(flow)),
        ("created", when(flow, "create_time")),
        ("saved", when(flow, "update_time")),
        ("saved by", flow.saved_by or NOTHING),
        ("etag", flow.etag),
    ]
