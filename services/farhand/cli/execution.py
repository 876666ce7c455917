"""`farhand execution …`: runs of flows: start, follow, read, kill."""

import datetime
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from farhand.cli.command import command, noun
from farhand.cli.defaults import RequestId
from farhand.cli.execution_tree import run_name
from farhand.cli.execution_view import (
    ENDED_WELL,
    HEADERS,
    TREE_HEADERS,
    files,
    flow_of,
    owner,
    row,
    rows,
    state_name,
    tree_rows,
    waiting_jobs,
)
from farhand.cli.failure import CommandFailed, WrongUse
from farhand.cli.fields import every_page, new_request_id, states_flag, time_flag
from farhand.cli.flow_file import flow_name
from farhand.cli.inputs import ask_for_secrets, given, pairs
from farhand.cli.render import columns, document
from farhand.cli.session import DEADLINE, Session
from farhand.kernel.names import shown

if TYPE_CHECKING:
    from farhand.api.scheduler.v1.execution_pb2 import Execution

app = noun(
    "Executions: runs of flows. Each task runs on the worker group that its flow says.",
    [
        "farhand execution create company.team/nightly --input date=2026-11-24 --follow",
        "farhand execution list --state running",
        "farhand execution get x3k8w0q2zr9m1t",
        "farhand execution logs x3k8w0q2zr9m1t --task report",
        "farhand execution restart x3k8w0q2zr9m1t --follow",
    ],
)

Id = Annotated[str, typer.Argument(metavar="ID", help="The execution, e.g. x3k8w0q2zr9m1t.")]
InputEnv = Annotated[
    list[str] | None,
    typer.Option(
        "--input-env",
        metavar="NAME=VARIABLE",
        help="An input from a variable of the environment; may be given several times.",
    ),
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Show tasks and logs until it ends, and exit by its end.")]


@command(
    app,
    "create",
    examples=[
        "farhand execution create company.team/nightly",
        "farhand execution create company.team/nightly --input date=2026-11-24 --input retries=3 --follow",
        "farhand execution create company.team/nightly --inputs inputs.json --label by=cron --revision 4",
        "farhand execution create company.team/deploy --input-env token=DEPLOY_TOKEN --input key=@deploy.pem",
    ],
)
def create(
    session: Session,
    flow: Annotated[str, typer.Argument(metavar="NAMESPACE/ID", help="The flow, e.g. company.team/nightly.")],
    revision: Annotated[
        int | None, typer.Option("--revision", metavar="N", help="This revision, not the newest.", min=1)
    ] = None,
    input: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="NAME=VALUE|NAME=@FILE",
            help="An input, or the content of a file (@-: stdin; @@ for a text that begins with @); "
            "may be given several times.",
        ),
    ] = None,
    input_env: InputEnv = None,
    inputs: Annotated[
        str | None, typer.Option("--inputs", metavar="FILE", help="Inputs in a JSON or YAML map; - is stdin.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="NAME=VALUE", help="A label beside the flow's; may be given several times."),
    ] = None,
    follow: Follow = False,
    request_id: RequestId = None,
) -> int:
    """Run a flow, and print the execution's id.

    Give secrets by --input NAME=@FILE or --input-env: others see the command line. On a terminal those that are
    missing are asked for.
    With --follow: exit code 0 if it ended in SUCCESS or WARNING, else 1. Ctrl-C kills it.
    """
    from farhand.api.scheduler.v1.execution_service_pb2 import CreateExecutionRequest
    from farhand.api.scheduler.v1.execution_service_pb2_grpc import ExecutionServiceStub

    namespace, flow_id = flow_name(flow)
    request = CreateExecutionRequest(
        tenant=session.settings.tenant,
        namespace=namespace,
        flow_id=flow_id,
        flow_revision=revision or 0,
        labels=pairs("--label", label),
        request_id=request_id or new_request_id(),
    )
    said = given(input, input_env, inputs)
    ask_for_secrets(session, namespace, flow_id, revision or 0, said)
    request.inputs.update(said)
    with session.scheduler() as channel:
        execution = ExecutionServiceStub(channel).CreateExecution(request, timeout=DEADLINE).execution
    return _created(session, execution, follow)


@command(
    app,
    "restart",
    examples=["farhand execution restart x3k8w0q2zr9m1t", "farhand execution restart x3k8w0q2zr9m1t --follow"],
)
def restart(session: Session, id: Id, follow: Follow = False, request_id: RequestId = None) -> int:
    """Go on from the failure of an execution, and print the new execution's id.

    The tasks that ended well are taken over with their outputs and files; those that failed run again, and what
    follows them. With --follow: exit code 0 if it ended in SUCCESS or WARNING, else 1. Ctrl-C kills it.
    """
    from farhand.api.scheduler.v1.execution_service_pb2 import RestartExecutionRequest
    from farhand.api.scheduler.v1.execution_service_pb2_grpc import ExecutionServiceStub

    request = RestartExecutionRequest(id=id, request_id=request_id or new_request_id())
    with session.scheduler() as channel:
        execution = ExecutionServiceStub(channel).RestartExecution(request, timeout=DEADLINE).execution
    return _created(session, execution, follow)


@command(
    app,
    "replay",
    examples=[
        "farhand execution replay x3k8w0q2zr9m1t",
        "farhand execution replay x3k8w0q2zr9m1t --from report --follow",
        "farhand execution replay x3k8w0q2zr9m1t --input date=2026-11-25 --revision 4",
    ],
)
def replay(
    session: Session,
    id: Id,
    task: Annotated[
        str, typer.Option("--from", metavar="TASK", help="Begin with this task; what stands before it is taken over.")
    ] = "",
    revision: Annotated[
        int | None,
        typer.Option("--revision", metavar="N", help="This revision, not the one that ran.", min=1),
    ] = None,
    input: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="NAME=VALUE|NAME=@FILE",
            help="An input instead of what it was; may be given several times.",
        ),
    ] = None,
    input_env: InputEnv = None,
    inputs: Annotated[
        str | None, typer.Option("--inputs", metavar="FILE", help="Inputs in a JSON or YAML map; - is stdin.")
    ] = None,
    follow: Follow = False,
    request_id: RequestId = None,
) -> int:
    """Run an execution that has ended again, all of it or from a task on, and print the new execution's id.

    Inputs, labels and the flow's revision are the same unless it is said otherwise. With --follow: exit code 0 if it
    ended in SUCCESS or WARNING, else 1. Ctrl-C kills it.
    """
    from farhand.api.scheduler.v1.execution_service_pb2 import ReplayExecutionRequest
    from farhand.api.scheduler.v1.execution_service_pb2_grpc import ExecutionServiceStub

    request = ReplayExecutionRequest(
        id=id, from_task_id=task, flow_revision=revision or 0, request_id=request_id or new_request_id()
    )
    request.inputs.update(given(input, input_env, inputs))
    with session.scheduler() as channel:
        execution = ExecutionServiceStub(channel).ReplayExecution(request, timeout=DEADLINE).execution
    return _created(session, execution, follow)


@command(
    app,
    "list",
    examples=[
        "farhand execution list",
        "farhand execution list --flow company.team/nightly --state failed --since 24h",
        "farhand execution list --namespace company --label by=cron --output json",
    ],
)
def list_executions(
    session: Session,
    flow: Annotated[str, typer.Option("--flow", metavar="NAMESPACE/ID", help="Only of this flow.")] = "",
    namespace: Annotated[
        str, typer.Option("--namespace", metavar="NAME", help="Only of this namespace and of those below it.")
    ] = "",
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            metavar="STATE",
            help="Only in this state: created, running, killing, retrying, success, warning, failed or killed; "
            "may be given several times.",
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="NAME=VALUE", help="Only with this label; may be given several times."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Only created since: 24h ago, or 2026-11-24T08:00Z.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Only created before: 1h ago, or 2026-11-24T08:00Z.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="At most so many.", min=1)] = 50,
) -> None:
    """The tenant's executions, newest first."""
    from farhand.api.scheduler.v1.execution_pb2 import ExecutionState
    from farhand.api.scheduler.v1.execution_service_pb2 import ListExecutionsRequest
    from farhand.api.scheduler.v1.execution_service_pb2_grpc import ExecutionServiceStub

    flow_id = ""
    if flow:
        if namespace:
            raise WrongUse("Give --flow or --namespace, not both: a flow's name has its namespace in it.")
        namespace, flow_id = flow_name(flow)
    request = ListExecutionsRequest(
        tenant=session.settings.tenant,
        namespace=namespace,
        flow_id=flow_id,
        states=states_flag("--state", state or (), ExecutionState, "EXECUTION_STATE_"),
        labels=pairs("--label", label),
        created_after=time_flag("--since", since),
        created_before=time_flag("--until", until),
    )
    with session.scheduler() as channel:
        call = ExecutionServiceStub(channel).ListExecutions
        found = list(every_page(call, request, "executions", timeout=DEADLINE, limit=limit))
    now = datetime.datetime.now(datetime.UTC)
    session.printer.many([document(each) for each in found], HEADERS, [row(each, now) for each in found], "None.")


@command(
    app, "get", examples=["farhand execution get x3k8w0q2zr9m1t", "farhand execution get x3k8w0q2zr9m1t --output json"]
)
def get(session: Session, id: Id) -> None:
    """One execution: what it was given, and its tasks with state, group, worker, wait and run time; of those that
    wait, why."""
    execution = _read(session, id)
    session.printer.one(document(execution), rows(execution))
    if session.settings.output == "table" and execution.task_runs:
        tree = tree_rows(execution, _reasons(session, execution))
        sys.stdout.write("\n" + "\n".join(columns([TREE_HEADERS, *tree])) + "\n")


@command(app, "follow", examples=["farhand execution follow x3k8w0q2zr9m1t"])
def follow_one(session: Session, id: Id) -> int:
    """Show tasks and logs of an execution until it ends. Exit code 0 if it ended well, else 1. Ctrl-C kills it."""
    return _follow(session, id)


@command(app, "kill", examples=["farhand execution kill x3k8w0q2zr9m1t"])
def kill(session: Session, id: Id) -> None:
    """End an execution wherever it is: what waits ends at once, what runs is killed, nothing new starts."""
    from farhand.api.scheduler.v1.execution_service_pb2 import KillExecutionRequest
    from farhand.api.scheduler.v1.execution_service_pb2_grpc import ExecutionServiceStub

    with session.scheduler() as channel:
        answer = ExecutionServiceStub(channel).KillExecution(KillExecutionRequest(id=id), timeout=DEADLINE)
    session.printer.value(document(answer.execution), f"{answer.execution.id} {state_name(answer.execution.state)}")


@command(
    app,
    "logs",
    examples=[
        "farhand execution logs x3k8w0q2zr9m1t",
        "farhand execution logs x3k8w0q2zr9m1t --task report --output json | jq -r .text",
    ],
)
def logs(
    session: Session,
    id: Id,
    task: Annotated[str, typer.Option("--task", metavar="ID", help="Only of this task.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the execution has ended.")] = False,
) -> None:
    """What its tasks wrote, each line with its task before it, train[3] in a loop; of one task, the lines alone.

    --output json prints one object a line (task_id, iteration, attempt, time, stream, level, text).
    """
    from farhand.api.scheduler.v1.execution_service_pb2 import TailExecutionLogsRequest
    from farhand.api.scheduler.v1.execution_service_pb2_grpc import ExecutionServiceStub
    from farhand.cli.log_output import LogDocuments, LogOutput

    request = TailExecutionLogsRequest(id=id, task_id=task, follow=follow)
    with session.scheduler() as channel:
        for answer in ExecutionServiceStub(channel).TailExecutionLogs(request):
            if session.settings.output != "table":
                facts = {"task_id": answer.task_id, "iteration": answer.iteration, "attempt": answer.attempt}
                LogDocuments(session.settings.output, facts).write(answer.records)
            else:
                label = run_name(answer.task_id, answer.iteration, answer.attempt)
                LogOutput(label="" if task and not answer.iteration else label).write(answer.records)


@command(
    app,
    "files",
    examples=[
        "farhand execution files x3k8w0q2zr9m1t",
        "farhand execution files x3k8w0q2zr9m1t --get report/summary.csv > summary.csv",
    ],
)
def list_files(
    session: Session,
    id: Id,
    get: Annotated[
        str, typer.Option("--get", metavar="PATH|URI", help="Write this one's content to stdout, and nothing else.")
    ] = "",
) -> None:
    """The output files of an execution; with --get, the content of one: PATH, TASK/PATH or its URI."""
    from farhand.api.scheduler.v1.execution_service_pb2 import ReadFileRequest
    from farhand.api.scheduler.v1.execution_service_pb2_grpc import ExecutionServiceStub

    execution = _read(session, id)
    found = files(execution)
    if left_out := [run for run in execution.task_runs if run.outputs_left_out]:
        name, more = run_name(left_out[0].task_id, left_out[0].iteration), len(left_out) - 1
        sys.stderr.write(
            f"farhand: files of {name}{f' and {more} more' if more else ''} may be missing here; "
            f"`farhand job get {left_out[0].job_id} --output json` shows all outputs of {name}\n"
        )
    if not get:
        session.printer.many(
            found,
            ("TASK", "ATTEMPT", "PATH", "URI"),
            [(owner(file), str(file["attempt"]), file["path"], file["uri"]) for file in found],
            "It has no output files.",
        )
        return
    chosen = [file for file in found if get in (file["uri"], file["path"], f"{owner(file)}/{file['path']}")]
    if not chosen:
        raise CommandFailed(
            f"Execution {id} has no output file {shown(get)}.", f"farhand execution files {id} lists them."
        )
    if len({owner(file) for file in chosen}) > 1:
        names = ", ".join(f"{owner(file)}/{file['path']}" for file in chosen)
        raise CommandFailed(f"Several files are called so: {names}. Name the task, too.")
    with session.scheduler() as channel:
        for answer in ExecutionServiceStub(channel).ReadFile(ReadFileRequest(uri=chosen[-1]["uri"])):
            sys.stdout.buffer.write(answer.chunk)
    sys.stdout.flush()


def _created(session: Session, execution: "Execution", follow: bool) -> int:
    if not follow:
        session.printer.value(document(execution), execution.id)
        return 0
    sys.stderr.write(f"farhand: execution {execution.id} of {flow_of(execution)} revision {execution.flow_revision}\n")
    return _follow(session, execution.id)


def _follow(session: Session, id: str) -> int:
    import asyncio

    from farhand.cli.execution_follow import follow

    documents = session.settings.output != "table"
    execution = asyncio.run(follow(session, id, quiet=documents))
    state = state_name(execution.state)
    if documents:
        session.printer.one(document(execution), [])
    else:
        why = f": {execution.message}" if execution.message else ""
        session.printer.done(f"farhand: execution {execution.id} ended {state}{why}")
    return 0 if state in ENDED_WELL else 1


def _read(session: Session, id: str) -> "Execution":
    from farhand.api.scheduler.v1.execution_service_pb2 import GetExecutionRequest
    from farhand.api.scheduler.v1.execution_service_pb2_grpc import ExecutionServiceStub

    with session.scheduler() as channel:
        return ExecutionServiceStub(channel).GetExecution(GetExecutionRequest(id=id), timeout=DEADLINE).execution


def _reasons(session: Session, execution: "Execution") -> dict[str, str]:
    """Why the first of its jobs that wait do so, by their ids."""
    waiting = waiting_jobs(execution)
    if not waiting:
        return {}
    from farhand.api.scheduler.v1.job_service_pb2 import ExplainJobRequest
    from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceStub

    with session.scheduler() as channel:
        explain = JobServiceStub(channel).ExplainJob
        return {job: explain(ExplainJobRequest(id=job), timeout=DEADLINE).message for job in waiting}
