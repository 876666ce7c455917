"""Frames of the worker stream in their wire form. A frame on the wire is at most 1 MiB."""

from collections.abc import Iterator, Mapping

from farhand.api.types.v1.outcome_pb2 import OutcomeState
from farhand.api.types.v1.task_pb2 import Task
from farhand.api.worker.v1 import session_pb2 as pb
from farhand.kernel.job_id import decode, encode
from farhand.kernel.secrets import MASK
from farhand.runtime import wire
from farhand.scheduler.loops import frames
from farhand.scheduler.store.queue import Completion

FRAME_BYTES = 1 << 20
LONGEST_REASON = 100  # characters
LONGEST_MESSAGE = 4_000  # characters
LONGEST_RUN_US = 10 * 365 * 86_400 * 1_000_000
_ASSIGNMENT_OVERHEAD = 512  # ids, tenant, trace context and their tags
_VERDICTS_A_FRAME = 10_000

_STATUS = {
    "RECORDED": pb.RESULT_STATUS_RECORDED,
    "DUPLICATE": pb.RESULT_STATUS_DUPLICATE,
    "STALE": pb.RESULT_STATUS_STALE,
    "UNKNOWN": pb.RESULT_STATUS_UNSPECIFIED,
}


def encode_frame(frame: frames.Frame, epoch: int) -> Iterator[pb.ConnectResponse]:
    """The wire frames of one frame."""
    match frame:
        case frames.Assignments():
            yield from _assignments(frame, epoch)
        case frames.ResultAcks(verdicts):
            for start in range(0, len(verdicts), _VERDICTS_A_FRAME):
                part = verdicts[start : start + _VERDICTS_A_FRAME]
                yield pb.ConnectResponse(
                    result_ack=pb.ResultAck(
                        verdicts=[
                            pb.ResultVerdict(job_id=encode(key), fence=fence, status=_STATUS[status])
                            for key, fence, status in part
                        ]
                    )
                )
        case frames.HeartbeatAck(sequence, lease, interval):
            yield pb.ConnectResponse(
                heartbeat_ack=pb.HeartbeatAck(
                    sequence=sequence, lease=wire.duration(lease), heartbeat_interval=wire.duration(interval)
                )
            )
        case frames.Cancels(jobs):
            yield pb.ConnectResponse(
                cancel=pb.Cancel(
                    jobs=[
                        pb.CancelJob(job_id=encode(key), fence=fence, grace=wire.duration(grace / 1000))
                        for key, fence, grace in jobs
                    ]
                )
            )
        case frames.Drain():
            yield pb.ConnectResponse(drain=pb.Drain())
        case frames.InventoryRequest():
            yield pb.ConnectResponse(inventory_request=pb.InventoryRequest())
        case frames.DrainAck():
            yield pb.ConnectResponse(drain_ack=pb.DrainAck(epoch=epoch))
        case frames.GoAway(reason, message, retry_delay):
            yield pb.ConnectResponse(
                go_away=pb.GoAway(
                    reason=pb.GoAwayReason.Value(f"GO_AWAY_REASON_{reason}"),
                    message=message,
                    retry_delay=wire.duration(retry_delay) if retry_delay else None,
                )
            )


def _assignments(frame: frames.Assignments, epoch: int) -> Iterator[pb.ConnectResponse]:
    part: list[pb.Assignment] = []
    size = 0
    for job, tenant in zip(frame.jobs, frame.tenants, strict=True):
        task = Task.FromString(job.task)
        secrets = _named_secrets(task, job.secrets)
        added = len(job.task) + _ASSIGNMENT_OVERHEAD + sum(len(text.encode()) for text in secrets.values())
        if part and size + added > FRAME_BYTES:
            yield pb.ConnectResponse(assignments=pb.Assignments(epoch=epoch, assignments=part))
            part, size = [], 0
        part.append(
            pb.Assignment(
                job_id=encode(job.key),
                fence=job.fence,
                task=task,
                tenant=tenant,
                traceparent=job.traceparent or "",
                secret_inputs=secrets,
            )
        )
        size += added
    if part:
        yield pb.ConnectResponse(assignments=pb.Assignments(epoch=epoch, assignments=part))


def _named_secrets(task: Task, secrets: Mapping[str, str]) -> dict[str, str]:
    """Of its execution's secrets those that the task names: in its context a mask stands for them."""
    if not secrets or "inputs" not in task.context.fields:
        return {}
    named = task.context.fields["inputs"].struct_value.fields
    return {name: text for name, text in secrets.items() if name in named and named[name].string_value == MASK}


_STATE = {
    OutcomeState.OUTCOME_STATE_SUCCESS: "SUCCESS",
    OutcomeState.OUTCOME_STATE_WARNING: "WARNING",
    OutcomeState.OUTCOME_STATE_FAILED: "FAILED",
    OutcomeState.OUTCOME_STATE_KILLED: "KILLED",
}


def completion(result: pb.Result, worker_id: str) -> Completion | None:
    """A result to record; None where it names no job or no known outcome. Texts and numbers are cut to what can be
    kept: whatever a worker says, its slot must come free."""
    key = decode(result.job_id)
    state = _STATE.get(result.outcome.state)
    if key is None or state is None:
        return None
    outcome = result.outcome
    return Completion(
        key=key,
        fence=result.fence,
        worker_id=worker_id,
        state=state,
        exit_code=outcome.exit_code if outcome.HasField("exit_code") else None,
        reason=outcome.reason.replace("\0", "")[:LONGEST_REASON] or None,
        message=outcome.message.replace("\0", "")[:LONGEST_MESSAGE] or None,
        run_us=max(0, min(int(wire.seconds(outcome.run_duration) * 1_000_000), LONGEST_RUN_US))
        if outcome.HasField("run_duration")
        else None,
        outputs=outcome.outputs.SerializeToString() if outcome.HasField("outputs") else None,
        log_end=max(0, result.log_end_offset),
    )
