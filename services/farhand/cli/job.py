"""`farhand job …`: what was submitted, where it is, why it waits, what it wrote."""

import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from farhand.cli.command import command, noun
from farhand.cli.defaults import RequestId
from farhand.cli.failure import WrongUse
from farhand.cli.fields import OnlyOfGroup, age, duration_flag, every_page, new_request_id, states_flag
from farhand.cli.job_view import HEADERS, ended_well, row, rows, state_name
from farhand.cli.render import document
from farhand.cli.session import DEADLINE, Session
from farhand.kernel.durations import parse_duration

if TYPE_CHECKING:
    from farhand.api.scheduler.v1.job_pb2 import Job

app = noun(
    "Jobs: what was submitted, where it is, why it waits, what it wrote. `farhand run` submits and follows one.",
    [
        "farhand job list --state created --state running",
        "farhand job explain 3k8w0q2zr9m1t",
        "farhand job logs 3k8w0q2zr9m1t --follow",
        "farhand job kill 3k8w0q2zr9m1t",
    ],
)

Id = Annotated[str, typer.Argument(metavar="ID", help="The job, e.g. 3k8w0q2zr9m1t.")]


@command(
    app,
    "list",
    examples=[
        "farhand job list",
        "farhand job list --worker-group gpu --state failed --limit 200",
        "farhand job list --output json | jq -r '.[].id'",
    ],
)
def list_jobs(
    session: Session,
    worker_group: OnlyOfGroup = "",
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            metavar="STATE",
            help="Only in this state: created, assigned, running, killing, success, warning, failed or killed; "
            "may be given several times.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="At most so many.", min=1)] = 50,
) -> None:
    """The tenant's jobs, newest first."""
    from farhand.api.scheduler.v1.job_pb2 import JobState
    from farhand.api.scheduler.v1.job_service_pb2 import ListJobsRequest
    from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceStub

    request = ListJobsRequest(
        tenant=session.settings.tenant,
        worker_group=worker_group,
        states=states_flag("--state", state or (), JobState, "JOB_STATE_"),
    )
    with session.scheduler() as channel:
        call = JobServiceStub(channel).ListJobs
        jobs = list(every_page(call, request, "jobs", timeout=DEADLINE, limit=limit))
    now = datetime.datetime.now(datetime.UTC)
    session.printer.many(
        [document(job) for job in jobs], HEADERS, [row(job, age(job, "create_time", now)) for job in jobs], "No jobs."
    )


@command(app, "get", examples=["farhand job get 3k8w0q2zr9m1t", "farhand job get 3k8w0q2zr9m1t --output json"])
def get(session: Session, id: Id) -> None:
    """One job: what was asked for, and all that became of it."""
    from farhand.api.scheduler.v1.job_service_pb2 import GetJobRequest
    from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceStub

    with session.scheduler() as channel:
        answer = JobServiceStub(channel).GetJob(GetJobRequest(id=id), timeout=DEADLINE)
    _show(session, answer.job)


@command(app, "kill", examples=["farhand job kill 3k8w0q2zr9m1t", "farhand job kill 3k8w0q2zr9m1t --grace 1m"])
def kill(
    session: Session,
    id: Id,
    grace: Annotated[
        str | None, typer.Option("--grace", metavar="TIME", help="From TERM to KILL: 10s unless said.")
    ] = None,
) -> None:
    """End a job wherever it is. `farhand job wait` waits until it has ended."""
    from farhand.api.scheduler.v1.job_service_pb2 import KillJobRequest
    from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceStub

    request = KillJobRequest(id=id, grace=duration_flag("--grace", grace))
    with session.scheduler() as channel:
        answer = JobServiceStub(channel).KillJob(request, timeout=DEADLINE)
    session.printer.value(document(answer.job), f"{answer.job.id} {state_name(answer.job.state)}")


@command(app, "explain", examples=["farhand job explain 3k8w0q2zr9m1t"])
def explain(session: Session, id: Id) -> None:
    """Why a job is where it is, and what to do about it."""
    from farhand.api.scheduler.v1.job_service_pb2 import ExplainJobRequest
    from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceStub
    from farhand.cli.job_view import explanation

    with session.scheduler() as channel:
        answer = JobServiceStub(channel).ExplainJob(ExplainJobRequest(id=id), timeout=DEADLINE)
    session.printer.one(document(answer), explanation(answer))


@command(
    app,
    "logs",
    examples=[
        "farhand job logs 3k8w0q2zr9m1t",
        "farhand job logs 3k8w0q2zr9m1t --follow --timestamps",
        "farhand job logs 3k8w0q2zr9m1t --output json | jq -r 'select(.stream == \"STDERR\").text'",
    ],
)
def logs(
    session: Session,
    id: Id,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="Begin each line with its time.")] = False,
) -> None:
    """What a job wrote: its stdout on stdout, the rest on stderr.

    --output json prints one object a line (time, stream, text), yaml one document a line.
    """
    import asyncio

    from farhand.cli.job_stream import print_logs

    asyncio.run(print_logs(session, id, follow=follow, timestamps=timestamps))


@command(
    app,
    "wait",
    examples=["farhand job wait 3k8w0q2zr9m1t", "farhand job wait 3k8w0q2zr9m1t --timeout 5m && echo done"],
)
def wait(
    session: Session,
    id: Id,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="The longest to wait; for ever unless said.")
    ] = None,
) -> int:
    """Wait until a job has ended. Exit code 0 if it went well, else 1, also when the time is over."""
    import asyncio

    from farhand.cli.job_stream import wait_for_end

    try:
        longest = None if timeout is None else parse_duration(timeout)
    except ValueError as error:
        raise WrongUse(f"--timeout: {error}.") from None
    job = asyncio.run(wait_for_end(session, id, longest))
    session.printer.value(document(job), f"{job.id} {state_name(job.state)}")
    return 0 if ended_well(job) else 1


@command(
    app,
    "submit",
    examples=[
        "farhand job submit -f job.yaml",
        "farhand job submit -f - <<END\n"
        "worker_group: gpu\n"
        "fallback: fail\n"
        "task:\n"
        "  type: io.kestra.plugin.scripts.shell.Commands\n"
        "  timeout: 10m\n"
        "  properties: {commands: [nvidia-smi]}\n"
        "END",
    ],
)
def submit_file(
    session: Session,
    file: Annotated[
        str, typer.Option("--file", "-f", metavar="FILE", help="A job's spec in YAML or JSON; - is stdin.")
    ],
    request_id: RequestId = None,
) -> None:
    """Submit the job that a file describes (a JobSpec of job.proto), and print its id.

    --tenant holds where the file names no tenant.
    """
    import asyncio

    from farhand.api.scheduler.v1.job_service_pb2 import SubmitJobRequest
    from farhand.cli.job_file import read
    from farhand.cli.job_stream import submit_one

    spec = read(file)
    if session.settings.tenant and not spec.tenant:
        spec.tenant = session.settings.tenant
    request = SubmitJobRequest(spec=spec, request_id=request_id or new_request_id())
    job = asyncio.run(submit_one(session, request))
    session.printer.value(document(job), job.id)


def _show(session: Session, job: "Job") -> None:
    session.printer.one(document(job), rows(job))
