"""How a job looks in a table."""

import json
from typing import TYPE_CHECKING

from farhand.cli.fields import NOTHING, between, enum_name, fallback_name, span, when
from farhand.kernel.names import group_label

if TYPE_CHECKING:
    from farhand.api.scheduler.v1.job_pb2 import Job
    from farhand.api.scheduler.v1.job_service_pb2 import ExplainJobResponse

HEADERS = ("ID", "STATE", "GROUP", "TYPE", "WORKER", "AGE", "WAITED", "RAN")

_LONGEST_TASK = 2000  # characters of the properties that a table shows


def state_name(state: int) -> str:
    """CREATED, RUNNING, …"""
    from farhand.api.scheduler.v1 import job_pb2

    return enum_name(job_pb2.JobState, state, "JOB_STATE_")


def ended_well(job: "Job") -> bool:
    """Whether it is in SUCCESS or WARNING."""
    from farhand.api.scheduler.v1 import job_pb2

    return job.state in (job_pb2.JOB_STATE_SUCCESS, job_pb2.JOB_STATE_WARNING)


def has_ended(job: "Job") -> bool:
    """Whether its state is final."""
    from farhand.api.scheduler.v1 import job_pb2

    return ended_well(job) or job.state in (job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_KILLED)


def row(job: "Job", age: str) -> tuple[str, ...]:
    """One line of a list; see HEADERS."""
    return (
        job.id,
        state_name(job.state),
        group_label(job.worker_group),
        job.task_type.rpartition("plugin.")[2] or NOTHING,
        job.worker or NOTHING,
        age,
        between(job, "create_time", "assign_time"),
        _ran(job),
    )


def rows(job: "Job") -> list[tuple[str, str]]:
    """All of one job."""
    lines = [
        ("id", job.id),
        ("state", state_name(job.state)),
        ("tenant", job.tenant),
        ("namespace", job.spec.namespace or NOTHING),
        ("worker group", group_label(job.worker_group)),
        ("fallback", fallback_name(job.spec.fallback)),
        ("type", job.task_type),
    ]
    if job.HasField("spec"):
        task = job.spec.task
        lines += [(f"  {name}", _cut(value)) for name, value in _properties(job)]
        lines += [("timeout", span(task.timeout))] if task.HasField("timeout") else []
    lines += [
        ("worker", job.worker or NOTHING),
        ("submitted", when(job, "create_time")),
        ("assigned", when(job, "assign_time")),
        ("started", when(job, "start_time")),
        ("kill asked for", when(job, "kill_time")),
        ("ended", when(job, "end_time")),
        ("waited", between(job, "create_time", "assign_time")),
        ("ran", _ran(job)),
    ]
    for lost in job.lost:
        lines.append(("lost", f"{when(lost, 'lose_time')} by {lost.worker}: {lost.reason} (fence {lost.fence})"))
    if job.HasField("outcome"):
        outcome = job.outcome
        lines += [
            ("exit code", str(outcome.exit_code) if outcome.HasField("exit_code") else NOTHING),
            ("reason", outcome.reason or NOTHING),
            ("message", outcome.message or NOTHING),
        ]
    return lines


def explanation(answer: "ExplainJobResponse") -> list[tuple[str, str]]:
    """Why a job is where it is."""
    from farhand.api.scheduler.v1 import job_service_pb2

    job, figures = answer.job, answer.figures
    lines = [
        ("id", job.id),
        ("state", state_name(job.state)),
        ("why", answer.message or NOTHING),
        ("reason", enum_name(job_service_pb2.WaitReason, answer.reason, "WAIT_REASON_")),
    ]
    if answer.position:
        place = str(answer.position) if answer.position <= 10_000 else "over 10000"
        lines.append(("place in the queue", place))
    if answer.HasField("head_wait"):
        lines.append(("the oldest waits", span(answer.head_wait)))
    if answer.HasField("figures"):
        lines.append(
            (
                f"group {group_label(figures.worker_group)}",
                f"{figures.active_workers} workers with {figures.slots} slots, "
                f"{figures.queued_jobs} queued, {figures.running_jobs} running"
                + (", paused" if figures.paused else ""),
            )
        )
    return lines


def _ran(job: "Job") -> str:
    """The worker's own measure where there is one: it has one clock, not two."""
    if job.HasField("outcome") and job.outcome.HasField("run_duration"):
        return span(job.outcome.run_duration)
    return between(job, "start_time", "end_time")


def _properties(job: "Job") -> list[tuple[str, str]]:
    from farhand.runtime.wire import plain

    values = sorted(plain(job.spec.task.properties).items())  # a Struct keeps no order
    return [(name, json.dumps(value, ensure_ascii=False)) for name, value in values]


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TASK else text[: _LONGEST_TASK - 1] + "…"
