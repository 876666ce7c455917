"""`farhand run`: a command on somebody else's machine, as if it were here."""

from typing import Annotated

import typer

from farhand.cli.command import command, single
from farhand.cli.defaults import RequestId
from farhand.cli.failure import WrongUse
from farhand.cli.fields import duration_flag, fallback_flag, new_request_id
from farhand.cli.session import Session
from farhand.cli.shell_task import TYPE, properties

app = single()


@command(
    app,
    "run",
    context_settings={"allow_interspersed_args": False},
    examples=[
        "farhand run --worker-group gpu -- nvidia-smi",
        "farhand run --worker-group gpu -- 'ls /data | wc -l'",
        "farhand run --worker-group gpu --fallback fail --env EPOCHS=3 -- python3 train.py --fast",
        "farhand run --timeout 10m --detach -- ./nightly.sh",
    ],
)
def run(
    session: Session,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="COMMAND",
            help="What to run. One word is a line for the worker's shell; of several each is quoted.",
        ),
    ],
    worker_group: Annotated[
        str | None,
        typer.Option(
            "--worker-group", "-g", metavar="KEY", help="Where; else the namespace's or tenant's default worker group."
        ),
    ] = None,
    fallback: Annotated[
        str | None,
        typer.Option("--fallback", metavar="wait|fail|cancel", help="What to do while the group has no worker."),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", "-e", metavar="NAME=VALUE", help="A variable; may be given several times."),
    ] = None,
    namespace: Annotated[
        str, typer.Option("--namespace", metavar="NAME", help="The namespace to inherit defaults from.")
    ] = "",
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="The longest it may run, from its start: 90s, 10m.")
    ] = None,
    grace: Annotated[
        str, typer.Option("--grace", metavar="TIME", help="When it is killed by Ctrl-C: from TERM to KILL.")
    ] = "10s",
    request_id: RequestId = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Submit, print the job's id, and leave it alone.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing beside the log.")] = False,
) -> int:
    """Run a command on a worker and follow it to its end.

    The command's stdout and stderr come out here as they are written, and its exit code is
    this program's; a job that ends without one gives 1. Lines that begin with "farhand: ",
    on stderr, are not the command's.

    Ctrl-C kills the job and waits for its end; a second one leaves at once, and the job goes
    on. A restart of the scheduler or a cut connection is waited out.

    On a terminal, control characters other than colours are left out of the log; into a
    file or a pipe it goes unchanged. With --output json or yaml stdout is the ended job, and
    the whole log goes to stderr.

    With OTEL_EXPORTER_OTLP_ENDPOINT set, the job's trace begins here.
    """
    import asyncio

    from farhand.api.scheduler.v1.job_pb2 import JobSpec
    from farhand.api.scheduler.v1.job_service_pb2 import SubmitJobRequest
    from farhand.api.types.v1.task_pb2 import Task
    from farhand.cli.attended import AttendedRun

    task = Task(type=TYPE, timeout=duration_flag("--timeout", timeout))
    try:
        task.properties.update(properties(words, env or ()))
    except ValueError as error:
        raise WrongUse(f"The command can't be sent: {error}") from None
    spec = JobSpec(
        tenant=session.settings.tenant,
        namespace=namespace,
        worker_group=worker_group,
        fallback=fallback_flag("--fallback", fallback),
        task=task,
    )
    request = SubmitJobRequest(spec=spec, request_id=request_id or new_request_id())
    kill_grace = duration_flag("--grace", grace)

    async def attended() -> int:
        return await AttendedRun(session, request, grace=kill_grace, detach=detach, quiet=quiet).main()

    return asyncio.run(attended())
