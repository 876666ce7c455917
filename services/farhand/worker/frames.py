"""Between the wire's messages and the worker's own terms: the only place that knows both."""

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import duration_pb2

from farhand.api.types.v1 import outcome_pb2, task_pb2
from farhand.api.worker.v1 import session_pb2
from farhand.kernel.nesting import MOST_LEVELS, too_deep
from farhand.runtime import wire
from farhand.worker.core.session import Beat
from farhand.worker.core.slots import Event, JobKey, Phase
from farhand.worker.masking import NOTHING, Mask
from farhand.worker.rendering import has_templates
from farhand.worker.tasks.base import Outcome, OutcomeState

LONGEST_MESSAGE = 4_000  # characters of an outcome's message

FRAME_LIMIT = 1 << 20  # bytes; protos/farhand/api/worker/v1/session.proto

HELD_PHASES: Mapping[Phase, session_pb2.HeldPhase.ValueType] = {
    Phase.RECEIVED: session_pb2.HELD_PHASE_RECEIVED,
    Phase.RUNNING: session_pb2.HELD_PHASE_RUNNING,
    # As long as a process of it may live, it runs, whatever will become of its result.
    Phase.STOPPING: session_pb2.HELD_PHASE_RUNNING,
    Phase.DISCARDING: session_pb2.HELD_PHASE_RUNNING,
    Phase.FENCING: session_pb2.HELD_PHASE_RUNNING,
    Phase.ABANDONING: session_pb2.HELD_PHASE_RUNNING,
    Phase.FINISHED: session_pb2.HELD_PHASE_FINISHED,
    Phase.SELF_FENCED: session_pb2.HELD_PHASE_SELF_FENCED,
    Phase.ABANDONED: session_pb2.HELD_PHASE_SELF_FENCED,
}

VERDICTS: Mapping[int, Event] = {
    session_pb2.VERDICT_ACTION_KEEP: Event.KEEP,
    session_pb2.VERDICT_ACTION_STOP: Event.STOP,
    session_pb2.VERDICT_ACTION_RESEND_RESULT: Event.RESEND,
}

SETTLING = frozenset(
    {session_pb2.RESULT_STATUS_RECORDED, session_pb2.RESULT_STATUS_DUPLICATE, session_pb2.RESULT_STATUS_STALE}
)

_OUTCOME_STATES = {
    OutcomeState.SUCCESS: outcome_pb2.OUTCOME_STATE_SUCCESS,
    OutcomeState.WARNING: outcome_pb2.OUTCOME_STATE_WARNING,
    OutcomeState.FAILED: outcome_pb2.OUTCOME_STATE_FAILED,
    OutcomeState.KILLED: outcome_pb2.OUTCOME_STATE_KILLED,
}


def held_jobs(held: Mapping[JobKey, Phase]) -> list[session_pb2.HeldJob]:
    """What is held, for hello, inventory and goodbye."""
    return [
        session_pb2.HeldJob(job_id=job_id, fence=fence, phase=HELD_PHASES[phase])
        for (job_id, fence), phase in held.items()
    ]


def job_refs(keys: Iterable[JobKey]) -> list[session_pb2.JobRef]:
    """Assignments by their names."""
    return [session_pb2.JobRef(job_id=job_id, fence=fence) for job_id, fence in keys]


def heartbeat(beat: Beat, busy_slots: int, pressure: str = "") -> session_pb2.ConnectRequest:
    """The frame of a heartbeat."""
    return session_pb2.ConnectRequest(
        heartbeat=session_pb2.Heartbeat(
            sequence=beat.sequence,
            answered_sequence=beat.answered_sequence,
            lease=wire.duration(beat.lease),
            busy_slots=busy_slots,
            pressure=pressure,
        )
    )


def result(key: JobKey, value: Outcome, *, seconds: float | None = None, log_end: int = 0) -> session_pb2.Result:
    """How a run ended; `seconds` unset where nothing ran.

    Raises ValueError or TypeError where the outputs can't be written as a Struct, or not read again.
    """
    if too_deep(value.outputs):
        raise ValueError(f"they are nested deeper than {MOST_LEVELS} levels")
    message = outcome_pb2.Outcome(
        state=_OUTCOME_STATES[value.state],
        reason=value.reason,
        message=value.message[:LONGEST_MESSAGE].encode("utf-8", "replace").decode() if value.message else "",
    )
    if seconds is not None:
        message.run_duration.CopyFrom(wire.duration(seconds) or duration_pb2.Duration())
    if value.exit_code is not None:
        message.exit_code = value.exit_code
    if value.outputs:
        message.outputs.update(value.outputs)
    return session_pb2.Result(job_id=key[0], fence=key[1], outcome=message, log_end_offset=log_end)


def context(assignment: session_pb2.Assignment) -> dict[str, Any] | None:
    """What the task's templates may name, secrets in their places; None: it has none."""
    if not assignment.task.HasField("context"):
        return None
    named = wire.plain(assignment.task.context)
    if assignment.secret_inputs:
        named["inputs"] = {**named.get("inputs", {}), **assignment.secret_inputs}
    return named


def mask(assignment: session_pb2.Assignment) -> Mask:
    """What must not leave the run."""
    if not assignment.secret_inputs:
        return NOTHING
    variables = wire.plain(assignment.task.context).get("vars")
    return Mask(assignment.secret_inputs, variables if isinstance(variables, dict) else {})


def to_be_rendered(task: task_pb2.Task) -> bool:
    """Whether the task has templates, and the worker is to render them."""
    return task.HasField("context") and has_templates(wire.plain(task.properties))
