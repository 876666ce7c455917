"""The scheduler's spans of a job's trace (queue wait, assign, record), and of an execution's: itself.

All are children of the job's submit, so that a trace reads from left to right:
submit, queue wait, assign, run (the worker's), record. Of an execution all that is of its
jobs is below the one span that is the execution, which is recorded at its end, with the
time of its creation. Only what is sampled costs anything.
A job that failed or was killed is worth a line of the log too, and it carries the trace's id.
"""

import logging
import time
from collections.abc import Sequence

from opentelemetry.trace import INVALID_SPAN, Span, use_span

from farhand.kernel.job_id import encode, execution_id
from farhand.runtime.telemetry import parent_context, sampled, start_span_as, tracer
from farhand.scheduler.loops.stream import Outstanding
from farhand.scheduler.store.executions import Locked
from farhand.scheduler.store.queue import Claimed, Completion, Recorded

log = logging.getLogger(__name__)


def assigned(jobs: Sequence[Claimed], worker_id: str) -> None:
    """Jobs were assigned and are on their way to the worker."""
    for job in jobs:
        if job.traceparent and sampled(job.traceparent):
            context = parent_context(job.traceparent)
            about: dict[str, str | int] = {"farhand.job": encode(job.key), "farhand.fence": job.fence}
            about["farhand.worker"] = worker_id
            created, assigned_at = (int(moment.timestamp() * 1e9) for moment in (job.created_at, job.assigned_at))
            tracer().start_span("queue wait", context=context, start_time=created, attributes=about).end(assigned_at)
            tracer().start_span("assign", context=context, start_time=assigned_at, attributes=about).end(
                max(assigned_at, time.time_ns())
            )


def recorded(outstanding: Outstanding, completion: Completion, answer: Recorded) -> None:
    """A result was recorded: the span of a traced job, and a line about one that did not go well."""
    span: Span = INVALID_SPAN
    end = 0
    if outstanding.traceparent and sampled(outstanding.traceparent):
        end = int(answer.ended_at.timestamp() * 1e9) if answer.ended_at else time.time_ns()
        about: dict[str, str | int] = {
            "farhand.job": encode(completion.key),
            "farhand.fence": completion.fence,
            "farhand.state": completion.state,
        }
        span = tracer().start_span(
            "record", context=parent_context(outstanding.traceparent), start_time=end, attributes=about
        )
    if completion.state in ("FAILED", "KILLED"):
        with use_span(span):  # so that the line has the trace's id
            log.info(
                f"a job ended {completion.state}",
                extra={
                    "job": encode(completion.key),
                    "fence": completion.fence,
                    "worker": completion.worker_id,
                    "reason": completion.reason,
                },
            )
    span.end(max(end, time.time_ns()))


def execution_ended(execution: Locked, state: str) -> None:
    """An execution ended in a step: the span that its jobs are below."""
    if execution.traceparent and sampled(execution.traceparent):
        about = {
            "farhand.execution": execution_id(execution.key),
            "farhand.flow": f"{execution.namespace}.{execution.flow_id}",
            "farhand.state": state,
        }
        start, end = (int(moment.timestamp() * 1e9) for moment in (execution.created_at, execution.now))
        span = start_span_as(
            execution.traceparent, "execution", parent=execution.parent_span or "", start_time=start, attributes=about
        )
        span.end(max(start, end))
