"""`farhand trigger …`: what starts executions by itself: when next, what came of it, and what people do to it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from farhand.cli.command import command, noun
from farhand.cli.failure import WrongUse
from farhand.cli.fields import NOTHING, enum_name, every_page, time_flag, when
from farhand.cli.flow_file import flow_name
from farhand.cli.inputs import given, pairs
from farhand.cli.render import document
from farhand.cli.session import DEADLINE, Session
from farhand.kernel.names import shown

if TYPE_CHECKING:
    from farhand.api.scheduler.v1.trigger_pb2 import Backfill, Trigger
    from farhand.api.scheduler.v1.trigger_service_pb2 import TriggerName

app = noun(
    "Triggers: what starts executions of a flow by itself, on a schedule or when something is there.",
    [
        "farhand trigger list",
        "farhand trigger get company.team/nightly/every-night",
        "farhand trigger disable company.team/nightly/every-night",
        "farhand trigger backfill company.team/nightly/every-night --start 2026-11-01T00:00Z",
    ],
)

Name = Annotated[
    str,
    typer.Argument(metavar="NAMESPACE/FLOW/TRIGGER", help="The trigger, e.g. company.team/nightly/every-night."),
]

HEADERS = ("TRIGGER", "TYPE", "STATE", "NEXT", "LAST", "RESULT", "HOLDER", "BACKFILL")


@command(
    app,
    "list",
    examples=[
        "farhand trigger list",
        "farhand trigger list --flow company.team/nightly",
        "farhand trigger list --namespace company --output json",
    ],
)
def list_triggers(
    session: Session,
    flow: Annotated[str, typer.Option("--flow", metavar="NAMESPACE/ID", help="Only of this flow.")] = "",
    namespace: Annotated[
        str, typer.Option("--namespace", metavar="NAME", help="Only of this namespace and of those below it.")
    ] = "",
) -> None:
    """The tenant's triggers: when each comes next and came last, with what result, and who evaluates it now."""
    from farhand.api.scheduler.v1.trigger_service_pb2 import ListTriggersRequest
    from farhand.api.scheduler.v1.trigger_service_pb2_grpc import TriggerServiceStub

    flow_id = ""
    if flow:
        if namespace:
            raise WrongUse("Give --flow or --namespace, not both: a flow's name has its namespace in it.")
        namespace, flow_id = flow_name(flow)
    request = ListTriggersRequest(tenant=session.settings.tenant, namespace=namespace, flow_id=flow_id)
    with session.scheduler() as channel:
        found = list(every_page(TriggerServiceStub(channel).ListTriggers, request, "triggers", timeout=DEADLINE))
    session.printer.many([document(each) for each in found], HEADERS, [_row(each) for each in found], "None.")


@command(
    app,
    "get",
    examples=[
        "farhand trigger get company.team/nightly/every-night",
        "farhand trigger get company.team/nightly/every-night --output json",
    ],
)
def get(session: Session, name: Name) -> None:
    """One trigger: what it is about to do, what came of it, and how far its backfill is."""
    from farhand.api.scheduler.v1.trigger_service_pb2 import GetTriggerRequest

    _show(session, _call(session, "GetTrigger", GetTriggerRequest(name=_name(session, name))))


@command(app, "enable", examples=["farhand trigger enable company.team/nightly/every-night"])
def enable(session: Session, name: Name) -> None:
    """Let a trigger go on that was disabled here, or stopped by its stopAfter. What it missed is not made up for."""
    from farhand.api.scheduler.v1.trigger_service_pb2 import EnableTriggerRequest

    _say(session, name, _call(session, "EnableTrigger", EnableTriggerRequest(name=_name(session, name))))


@command(app, "disable", examples=["farhand trigger disable company.team/nightly/every-night"])
def disable(session: Session, name: Name) -> None:
    """Stop a trigger, also over new revisions of its flow, until it is enabled. What it started goes on."""
    from farhand.api.scheduler.v1.trigger_service_pb2 import DisableTriggerRequest

    _say(session, name, _call(session, "DisableTrigger", DisableTriggerRequest(name=_name(session, name))))


@command(app, "unlock", examples=["farhand trigger unlock company.team/inbox/watch"])
def unlock(session: Session, name: Name) -> None:
    """End the evaluation that a polling trigger waits for, so that the next one can begin."""
    from farhand.api.scheduler.v1.trigger_service_pb2 import UnlockTriggerRequest

    _say(session, name, _call(session, "UnlockTrigger", UnlockTriggerRequest(name=_name(session, name))))


@command(app, "evaluate", examples=["farhand trigger evaluate company.team/inbox/watch"])
def evaluate(session: Session, name: Name) -> None:
    """Evaluate a trigger now, whatever its next time; a Schedule starts an execution for this moment."""
    from farhand.api.scheduler.v1.trigger_service_pb2 import EvaluateTriggerRequest

    _say(session, name, _call(session, "EvaluateTrigger", EvaluateTriggerRequest(name=_name(session, name))))


@command(
    app,
    "backfill",
    examples=[
        "farhand trigger backfill company.team/nightly/every-night --start 2026-11-01T00:00Z --end 2026-11-08T00:00Z",
        "farhand trigger backfill company.team/nightly/every-night --start 7d --input full=true --label why=repair",
        "farhand trigger backfill company.team/nightly/every-night --pause",
        "farhand trigger backfill company.team/nightly/every-night --resume",
        "farhand trigger backfill company.team/nightly/every-night --cancel",
    ],
)
def backfill(
    session: Session,
    name: Name,
    start: Annotated[
        str | None, typer.Option("--start", metavar="TIME", help="From then on: 7d ago, or 2026-11-24T08:00Z.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--end", metavar="TIME", help="Up to before then, as --start; without it: now.")
    ] = None,
    input: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", metavar="NAME=VALUE", help="An input that wins over the trigger's; repeatable."),
    ] = None,
    inputs: Annotated[
        str | None, typer.Option("--inputs", metavar="FILE", help="Inputs in a JSON or YAML map; - is stdin.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="NAME=VALUE", help="A label beside the flow's; may be given several times."),
    ] = None,
    pause: Annotated[bool, typer.Option("--pause", help="Stop the backfill where it is.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Let a paused one go on.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="End it; what it started goes on.")] = False,
) -> None:
    """Start executions for the ticks of a schedule in a window of the past, also where they fired before: oldest
    first, ten a second. `farhand trigger get` shows how far it is."""
    from farhand.api.scheduler.v1 import trigger_service_pb2 as messages

    chosen = [verb for verb, given in (("Pause", pause), ("Resume", resume), ("Cancel", cancel)) if given]
    if len(chosen) + (start is not None) != 1:
        raise WrongUse("Give one of --start, --pause, --resume and --cancel.")
    named = _name(session, name)
    if chosen:
        if end is not None or input or inputs or label:
            raise WrongUse("--end, --input, --inputs and --label belong to --start.")
        request: Any = getattr(messages, f"{chosen[0]}BackfillRequest")(name=named)
        trigger = _call(session, f"{chosen[0]}Backfill", request)
    else:
        request = messages.CreateBackfillRequest(
            name=named,
            start_time=time_flag("--start", start),
            end_time=time_flag("--end", end),
            labels=pairs("--label", label),
        )
        request.inputs.update(given(input, None, inputs))
        trigger = _call(session, "CreateBackfill", request)
    session.printer.value(document(trigger), f"{name}: backfill {_backfill(trigger.backfill)}")


def _name(session: Session, word: str) -> "TriggerName":
    from farhand.api.scheduler.v1.trigger_service_pb2 import TriggerName

    parts = word.split("/")
    if len(parts) != 3 or not all(parts):
        raise WrongUse(
            f"{shown(word)} names no trigger: write NAMESPACE/FLOW/TRIGGER, e.g. company.team/nightly/every-night. "
            "`farhand trigger list` shows those that are."
        )
    return TriggerName(tenant=session.settings.tenant, namespace=parts[0], flow_id=parts[1], trigger_id=parts[2])


def _call(session: Session, method: str, request: Any) -> "Trigger":
    from farhand.api.scheduler.v1.trigger_service_pb2_grpc import TriggerServiceStub

    with session.scheduler() as channel:
        trigger: Trigger = getattr(TriggerServiceStub(channel), method)(request, timeout=DEADLINE).trigger
    return trigger


def _say(session: Session, name: str, trigger: "Trigger") -> None:
    following = when(trigger, "next_time")
    session.printer.value(document(trigger), f"{name} {_state(trigger)}, next {following}")


def _show(session: Session, trigger: "Trigger") -> None:
    rows = [
        ("trigger", _full_name(trigger)),
        ("type", trigger.type),
        ("tenant", trigger.tenant),
        ("flow revision", str(trigger.flow_revision)),
        ("state", _state(trigger)),
        ("next", when(trigger, "next_time")),
        ("last", when(trigger, "last_time")),
        ("result", _result(trigger)),
        ("since", when(trigger, "result_time")),
        ("why", trigger.message or NOTHING),
        ("last execution", trigger.last_execution_id or NOTHING),
        ("evaluation", trigger.job_id or NOTHING),
        ("holder", _holder(trigger)),
    ]
    if trigger.HasField("backfill"):
        window = trigger.backfill
        rows += [
            ("backfill", _backfill(window)),
            ("from", when(window, "start_time")),
            ("to", when(window, "end_time")),
            ("goes on with", when(window, "next_time")),
        ]
    session.printer.one(document(trigger), rows)


def _row(trigger: "Trigger") -> tuple[str, ...]:
    return (
        _full_name(trigger),
        trigger.type.rsplit(".", 2)[-2] + "." + trigger.type.rsplit(".", 1)[-1]
        if "." in trigger.type
        else trigger.type,
        _state(trigger),
        when(trigger, "next_time"),
        when(trigger, "last_time"),
        _result(trigger),
        _holder(trigger),
        _backfill(trigger.backfill) if trigger.HasField("backfill") else NOTHING,
    )


def _full_name(trigger: "Trigger") -> str:
    return f"{trigger.namespace}/{trigger.flow_id}/{trigger.trigger_id}"


def _state(trigger: "Trigger") -> str:
    from farhand.api.scheduler.v1 import trigger_pb2

    return enum_name(trigger_pb2.TriggerState, trigger.state, "TRIGGER_STATE_")


def _result(trigger: "Trigger") -> str:
    from farhand.api.scheduler.v1 import trigger_pb2

    return enum_name(trigger_pb2.TriggerResult, trigger.last_result, "TRIGGER_RESULT_")


def _holder(trigger: "Trigger") -> str:
    """Who evaluates it now."""
    if not trigger.job_id:
        return NOTHING
    return trigger.worker or f"job {trigger.job_id} in the queue"


def _backfill(backfill: "Backfill") -> str:
    """RUNNING, 12 started, 37 %."""
    from farhand.api.scheduler.v1 import trigger_pb2

    state = enum_name(trigger_pb2.BackfillState, backfill.state, "BACKFILL_STATE_")
    text = f"{state}, {backfill.fired} started"
    if backfill.HasField("next_time"):
        window = backfill.end_time.seconds - backfill.start_time.seconds
        done = backfill.next_time.seconds - backfill.start_time.seconds
        text += f", {100 * done // max(1, window)} %"
    return text
