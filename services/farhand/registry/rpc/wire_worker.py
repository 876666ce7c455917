"""Workers of the roll between the wire and the core."""

from datetime import datetime

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from farhand.api.registry.v1 import worker_pb2
from farhand.api.registry.v1.roll_service_pb2 import WorkerReport
from farhand.kernel.errors import Violation
from farhand.registry.core.worker import Report, Worker, WorkerState
from farhand.runtime.wire import moment, timestamp

_STATES: dict[WorkerState, worker_pb2.WorkerState.ValueType] = {
    WorkerState.CONNECTED: worker_pb2.WORKER_STATE_CONNECTED,
    WorkerState.DRAINING: worker_pb2.WORKER_STATE_DRAINING,
    WorkerState.DISCONNECTED: worker_pb2.WORKER_STATE_DISCONNECTED,
    WorkerState.LOST: worker_pb2.WORKER_STATE_LOST,
    WorkerState.STOPPED: worker_pb2.WORKER_STATE_STOPPED,
}
_STATE_OF = {number: state for state, number in _STATES.items()}


def state_of(number: worker_pb2.WorkerState.ValueType) -> WorkerState | None:
    """The state; None for a number that is none."""
    return _STATE_OF.get(number)


def report_of(path: str, message: WorkerReport, violations: list[Violation]) -> Report:
    """A report as it came; a time out of range is added to ``violations``."""
    worker = message.worker
    return Report(
        worker=Worker(
            id=worker.id,
            worker_group=worker.worker_group,
            worker_group_uid=worker.worker_group_uid,
            state=state_of(worker.state),
            host=worker.host,
            version=worker.version,
            slots=worker.slots,
            busy_slots=worker.busy_slots,
            task_types=tuple(worker.task_types),
            tenants=tuple(worker.tenants),
            start_time=_moment(f"{path}.worker.start_time", worker, worker.start_time, violations),
            heartbeat_time=_moment(f"{path}.worker.heartbeat_time", worker, worker.heartbeat_time, violations),
            subject=worker.subject,
        ),
        epoch=message.epoch,
        sequence=message.sequence,
    )


def worker_message(worker: Worker) -> worker_pb2.Worker:
    """A row of the roll."""
    return worker_pb2.Worker(
        id=worker.id,
        worker_group=worker.worker_group,
        worker_group_uid=worker.worker_group_uid,
        state=worker_pb2.WORKER_STATE_UNSPECIFIED if worker.state is None else _STATES[worker.state],
        host=worker.host,
        version=worker.version,
        slots=worker.slots,
        busy_slots=worker.busy_slots,
        task_types=worker.task_types,
        tenants=worker.tenants,
        start_time=timestamp(worker.start_time),
        heartbeat_time=timestamp(worker.heartbeat_time),
        subject=worker.subject,
    )


def _moment(path: str, of: Message, value: Timestamp, violations: list[Violation]) -> datetime | None:
    if not of.HasField(path.rpartition(".")[2]):
        return None
    try:
        return moment(value)
    except (ValueError, OverflowError):
        violations.append(Violation(path, "is out of range"))
        return None
