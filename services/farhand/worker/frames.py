"""Between the wire's messages and the worker's own terms: the only place that knows both."""

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import duration_pb2, struct_pb2

from farhand.api.types.v1 import outcome_pb2
from farhand.api.worker.v1 import session_pb2
from farhand.kernel.nesting import MOST_LEVELS, too_deep
from farhand.runtime import wire
from farhand.worker.core.session import Beat
from farhand.worker.core.slots import Event, JobKey, Phase
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


def plain(properties: struct_pb2.Struct) -> dict[str, Any]:
    """A task's properties as plain values. JSON's numbers are floats on the wire; whole ones become ints again."""
    return {name: _plain(value) for name, value in properties.fields.items()}


def _plain(value: struct_pb2.Value) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "bool_value":
            return value.bool_value
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case "struct_value":
            return plain(value.struct_value)
    return None
