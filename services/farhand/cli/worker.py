"""`farhand worker …`: the roll of workers (registry), and an operator's hand on them (scheduler)."""

import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from farhand.cli.command import command, noun
from farhand.cli.confirm import confirm
from farhand.cli.fields import NOTHING, OnlyOfGroup, age, enum_name, every_page, listed, states_flag, when
from farhand.cli.render import document
from farhand.cli.session import DEADLINE, Session
from farhand.cli.terminal import plain
from farhand.kernel.names import group_label

if TYPE_CHECKING:
    from farhand.api.registry.v1.worker_pb2 import Worker

app = noun(
    "Workers: the processes that run jobs. `farhand server worker` starts one.",
    ["farhand worker list", "farhand worker list --worker-group gpu --all", "farhand worker drain gpu-7"],
)

Id = Annotated[str, typer.Argument(metavar="ID", help="The worker.")]


@command(
    app,
    "list",
    examples=[
        "farhand worker list",
        "farhand worker list --worker-group _default",
        "farhand worker list --state lost --output json",
    ],
)
def list_workers(
    session: Session,
    worker_group: OnlyOfGroup = "",
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            metavar="STATE",
            help="Only in this state: connected, draining, disconnected, lost or stopped; may be given several times.",
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Also those that are lost or stopped.")] = False,
) -> None:
    """Workers as the schedulers last reported them."""
    from farhand.api.registry.v1.roll_service_pb2 import ListWorkersRequest
    from farhand.api.registry.v1.roll_service_pb2_grpc import RollServiceStub
    from farhand.api.registry.v1.worker_pb2 import WorkerState

    states = states_flag("--state", state or (), WorkerState, "WORKER_STATE_")
    if every and not states:
        states = [number for number in WorkerState.values() if number]
    request = ListWorkersRequest(worker_group=worker_group, states=states)
    with session.registry() as channel:
        workers = list(every_page(RollServiceStub(channel).ListWorkers, request, "workers", timeout=DEADLINE))
    now = datetime.datetime.now(datetime.UTC)
    session.printer.many(
        [document(worker) for worker in workers],
        ("ID", "GROUP", "STATE", "HOST", "VERSION", "SLOTS", "HEARTBEAT"),
        [
            (
                worker.id,
                group_label(worker.worker_group),
                _state(worker),
                worker.host or NOTHING,
                worker.version or NOTHING,
                _slots(worker),
                age(worker, "heartbeat_time", now),
            )
            for worker in workers
        ],
        "There are no such workers.",
    )


@command(app, "get", examples=["farhand worker get gpu-7", "farhand worker get gpu-7 --output json"])
def get(session: Session, id: Id) -> None:
    """One worker."""
    from farhand.api.registry.v1.roll_service_pb2 import GetWorkerRequest
    from farhand.api.registry.v1.roll_service_pb2_grpc import RollServiceStub

    with session.registry() as channel:
        answer = RollServiceStub(channel).GetWorker(GetWorkerRequest(id=id), timeout=DEADLINE)
    _show(session, answer.worker)


@command(app, "drain", examples=["farhand worker drain gpu-7"])
def drain(session: Session, id: Id) -> None:
    """Let a worker finish what it has and take nothing new; this ends with its process."""
    from farhand.api.scheduler.v1.worker_control_service_pb2 import DrainWorkerRequest
    from farhand.api.scheduler.v1.worker_control_service_pb2_grpc import WorkerControlServiceStub

    with session.scheduler() as channel:
        answer = WorkerControlServiceStub(channel).DrainWorker(DrainWorkerRequest(id=id), timeout=DEADLINE)
    _show(session, answer.worker)


@command(app, "fence", examples=["farhand worker fence gpu-7", "farhand worker fence gpu-7 --yes"])
def fence(
    session: Session, id: Id, yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False
) -> None:
    """Say that a worker's machine is dead: its jobs are given to others at once, not only when its lease is over.

    Only if it is true. A worker that still runs is sent away, but until it hears of that its jobs run twice.
    """
    from farhand.api.scheduler.v1.worker_control_service_pb2 import FenceWorkerRequest
    from farhand.api.scheduler.v1.worker_control_service_pb2_grpc import WorkerControlServiceStub

    if not yes:
        confirm(f"Is worker {plain(id)} dead, with all that ran on it?", otherwise="Nothing was fenced.")
    with session.scheduler() as channel:
        answer = WorkerControlServiceStub(channel).FenceWorker(FenceWorkerRequest(id=id), timeout=DEADLINE)
    _show(session, answer.worker)


def _state(worker: "Worker") -> str:
    from farhand.api.registry.v1.worker_pb2 import WorkerState

    return enum_name(WorkerState, worker.state, "WORKER_STATE_")


def _slots(worker: "Worker") -> str:
    return f"{worker.busy_slots}/{worker.slots}"


def _show(session: Session, worker: "Worker") -> None:
    session.printer.one(
        document(worker),
        [
            ("id", worker.id),
            ("worker group", group_label(worker.worker_group)),
            ("state", _state(worker)),
            ("host", worker.host or NOTHING),
            ("version", worker.version or NOTHING),
            ("slots busy", _slots(worker)),
            ("task types", listed(worker.task_types)),
            ("tenants", listed(worker.tenants, "all")),
            ("credential", worker.subject or "none asked for"),
            ("started", when(worker, "start_time")),
            ("heartbeat", when(worker, "heartbeat_time")),
        ],
    )
