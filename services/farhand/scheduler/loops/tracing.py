"""The scheduler's spans of a job's trace: queue wait, assign, record.

All are children of the job's submit, so that a trace reads from left to right:
submit, queue wait, assign, run (the worker's), record. Only sampled jobs cost anything.
"""

import time
from collections.abc import Sequence

from farhand.kernel.job_id import encode
from farhand.runtime.telemetry import parent_context, sampled, tracer
from farhand.scheduler.loops.stream import Outstanding
from farhand.scheduler.store.queue import Claimed, Completion, Recorded


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
    """A result was recorded."""
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
        span.end(max(end, time.time_ns()))
