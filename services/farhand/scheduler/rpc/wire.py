"""What the core and the store know, as messages of the API, and errors to bytes and back."""

from collections.abc import Iterable, Iterator

from google.rpc.status_pb2 import Status

from farhand.api.scheduler.v1 import job_pb2, job_service_pb2
from farhand.api.types.v1 import fallback_pb2, log_record_pb2, outcome_pb2
from farhand.api.worker.v1.worker_service_pb2 import AppendLogsRequest
from farhand.kernel.errors import FarhandError
from farhand.kernel.job_id import encode
from farhand.kernel.resolution import Fallback
from farhand.runtime.grpc_channel import status_error
from farhand.runtime.grpc_server import status_of
from farhand.runtime.security import Identity
from farhand.runtime.wire import duration, timestamp, timestamp_of_nanoseconds
from farhand.scheduler.core.explain import GroupFigures
from farhand.scheduler.core.job import JobState
from farhand.scheduler.core.record import JobRecord, Lost
from farhand.scheduler.core.submission import Fresh, JobRow

_STATES = {state: job_pb2.JobState.Value(f"JOB_STATE_{state}") for state in JobState}
_STATE_OF: dict[int, JobState] = {number: state for state, number in _STATES.items()}
_FALLBACKS = {fallback: fallback_pb2.Fallback.Value(f"FALLBACK_{fallback}") for fallback in Fallback}


def job_message(record: JobRecord, *, lost: list[Lost] | None = None) -> job_pb2.Job:
    """A job; with its spec and its outputs where the record has them."""
    message = job_pb2.Job(
        id=encode(record.key),
        worker_group_uid=record.group_uid,
        state=_STATES[record.state],
        fence=record.fence,
        worker=record.worker,
        lost_deliveries=record.lost,
        create_time=timestamp(record.created_at),
        assign_time=timestamp(record.assigned_at),
        start_time=timestamp(record.started_at),
        end_time=timestamp(record.ended_at),
        kill_time=timestamp(record.kill_at),
        task_type=record.task_type,
        tenant=record.tenant,
        worker_group=record.group_key,
    )
    if record.task:
        message.spec.tenant = record.tenant
        message.spec.namespace = record.namespace or ""
        message.spec.worker_group = record.group_key
        message.spec.fallback = _FALLBACKS[record.fallback]
        message.spec.max_deliveries = record.max_deliveries
        message.spec.task.ParseFromString(record.task)
    if record.ended:
        message.outcome.CopyFrom(_outcome(record))
    for delivery in lost or ():
        message.lost.add(
            fence=delivery.fence,
            worker=delivery.worker,
            assign_time=timestamp(delivery.assigned_at),
            lose_time=timestamp(delivery.lost_at),
            reason=delivery.reason,
        )
    return message


def fresh_message(job: Fresh, row: JobRow) -> job_pb2.Job:
    """A job that was made just now, as a read would tell it."""
    message = job_pb2.Job(
        id=encode(job),
        worker_group_uid=job.group_uid,
        state=job_pb2.JOB_STATE_CREATED,
        create_time=timestamp(job.created_at),
        task_type=row.task_type,
        tenant=row.tenant,
        worker_group=job.group_key,
    )
    spec = message.spec
    spec.tenant, spec.namespace, spec.worker_group = row.tenant, row.namespace or "", job.group_key
    spec.fallback, spec.max_deliveries = _FALLBACKS[job.fallback], row.max_deliveries
    spec.task.ParseFromString(row.task)
    return message


def _outcome(record: JobRecord) -> outcome_pb2.Outcome:
    outcome = outcome_pb2.Outcome(
        state=outcome_pb2.OutcomeState.Value(f"OUTCOME_STATE_{record.state}"),
        exit_code=record.exit_code,
        reason=record.reason,
        message=record.message,
    )
    if record.run_us is not None:
        outcome.run_duration.FromMicroseconds(record.run_us)
    if record.outputs is not None:
        outcome.outputs.ParseFromString(record.outputs)
    return outcome


def job_states(numbers: Iterable[int]) -> frozenset[JobState]:
    """The states of a filter; empty: any. Raises KeyError with the number that is none."""
    asked = set(numbers)
    if job_pb2.JOB_STATE_UNSPECIFIED in asked:
        return frozenset()
    return frozenset(_STATE_OF[number] for number in asked)


def figures_message(figures: GroupFigures, caller: Identity) -> job_service_pb2.GroupFigures:
    """The figures of a group, without those of other tenants than the caller's."""
    return job_service_pb2.GroupFigures(
        worker_group=figures.key,
        worker_group_uid=figures.uid,
        active_workers=figures.active_workers,
        slots=figures.slots,
        queued_jobs=figures.queued,
        running_jobs=figures.running,
        oldest_wait=duration(figures.oldest_wait),
        ended_jobs=figures.ended,
        paused=figures.paused,
        tenants=(
            job_service_pb2.TenantFigures(
                tenant=each.tenant,
                running_jobs=each.running,
                max_running=each.quota.max_running,
                queued_jobs=each.queued,
                max_queued=each.quota.max_queued,
            )
            for each in figures.tenants
            if caller.admits_tenant(each.tenant)
        ),
    )


def log_records(chunk: bytes) -> Iterator[log_record_pb2.LogRecord]:
    """The records of a log chunk."""
    yield from AppendLogsRequest.FromString(chunk).records


def system_line(text: str, nanoseconds: int) -> bytes:
    """A log chunk of one line by the scheduler itself; the time is since 1970."""
    record = log_record_pb2.LogRecord(
        time=timestamp_of_nanoseconds(nanoseconds), stream=log_record_pb2.LOG_STREAM_SYSTEM, text=text
    )
    return AppendLogsRequest(records=[record]).SerializeToString()


def encode_status(error: FarhandError) -> bytes:
    """A refusal as it is remembered."""
    status: bytes = status_of(error).SerializeToString()
    return status


def refusal(status: bytes) -> FarhandError:
    """The error of a remembered refusal, of the class that has its reason."""
    known = status_error(Status.FromString(status))
    return _class_of(known.reason)(known.message, known.metadata, known.violations, known.retry_delay)


def _class_of(reason: str) -> type[FarhandError]:
    classes: list[type[FarhandError]] = [FarhandError]
    for kind in classes:
        if kind.reason == reason:
            return kind
        classes.extend(kind.__subclasses__())
    return FarhandError
