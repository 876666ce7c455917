"""How an execution looks: one line, all of it, and the tree of its task runs."""

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from farhand.cli.fields import NOTHING, age, between, enum_name, listed, when
from farhand.kernel.names import group_label

if TYPE_CHECKING:
    from farhand.api.scheduler.v1.execution_pb2 import Execution, TaskRun

HEADERS = ("ID", "STATE", "FLOW", "REVISION", "LABELS", "AGE", "TOOK", "NOTE")
TREE_HEADERS = ("TASK", "STATE", "GROUP", "WORKER", "WAITED", "RAN", "NOTE")

MOST_EXPLAINED = 5  # waiting jobs of which it is asked at a time why they wait

ENDED_WELL = ("SUCCESS", "WARNING")
ENDED = (*ENDED_WELL, "FAILED", "KILLED")


def state_name(state: int) -> str:
    """CREATED, RUNNING, … of an execution."""
    from farhand.api.scheduler.v1 import execution_pb2

    return enum_name(execution_pb2.ExecutionState, state, "EXECUTION_STATE_")


def run_state(state: int) -> str:
    """The same of a task run."""
    from farhand.api.scheduler.v1 import execution_pb2

    return enum_name(execution_pb2.TaskRunState, state, "TASK_RUN_STATE_")


def flow_of(execution: "Execution") -> str:
    """NAMESPACE/ID, as other commands take it."""
    return f"{execution.namespace}/{execution.flow_id}"


def row(execution: "Execution", now: datetime.datetime) -> tuple[str, ...]:
    """One line of a list; see HEADERS."""
    return (
        execution.id,
        state_name(execution.state),
        flow_of(execution),
        str(execution.flow_revision),
        listed(f"{name}={value}" for name, value in sorted(execution.labels.items())),
        age(execution, "create_time", now),
        between(execution, "create_time", "end_time"),
        "; ".join(f"{what} {others}" for what, others in _relatives(execution, most=1)),
    )


def _relatives(execution: "Execution", most: int) -> list[tuple[str, str]]:
    """The executions from which it came, and those, at most so many of a kind, that came from it."""
    found = []
    for what, ids in (
        ("restart of", [execution.restart_of] if execution.restart_of else []),
        ("replay of", [execution.replay_of] if execution.replay_of else []),
        ("restarted as", execution.restarts),
        ("replayed as", execution.replays),
    ):
        if ids:
            more = f" and {len(ids) - most} more" if len(ids) > most else ""
            found.append((what, ", ".join(ids[:most]) + more))
    return found


def rows(execution: "Execution") -> list[tuple[str, str]]:
    """All of one execution but its task runs."""
    from farhand.cli.render import document

    lines = [
        ("id", execution.id),
        ("state", state_name(execution.state)),
        ("why", execution.message or NOTHING),
        ("tenant", execution.tenant),
        ("flow", f"{flow_of(execution)} revision {execution.flow_revision}"),
        ("labels", listed(f"{name}={value}" for name, value in sorted(execution.labels.items()))),
        ("created", when(execution, "create_time")),
        ("kill asked for", when(execution, "kill_time")),
        ("ended", when(execution, "end_time")),
        ("took", between(execution, "create_time", "end_time")),
        *_relatives(execution, most=10),
        ("trace", execution.trace_id or NOTHING),
    ]
    inputs = document(execution).get("inputs") or {}
    return lines + [(f"input {name}", json.dumps(value, ensure_ascii=False)) for name, value in inputs.items()]


@dataclass(frozen=True)
class Branch:
    """A line of the tree; `depth` counts the flow control that it stands in."""

    depth: int
    run: "TaskRun"


def tree(execution: "Execution") -> list[Branch]:
    """The newest attempt of each task, children behind their parent, in the order in which they began."""
    newest: dict[tuple[str, str], TaskRun] = {}
    for run in execution.task_runs:
        key = (run.task_id, run.iteration)
        if key not in newest or newest[key].attempt < run.attempt:
            newest[key] = run
    children: dict[str, list[TaskRun]] = {}
    for run in newest.values():
        children.setdefault(run.parent_task_id, []).append(run)
    lines: list[Branch] = []

    def add(parent: str, depth: int) -> None:
        for run in children.pop(parent, ()):
            lines.append(Branch(depth, run))
            add(run.task_id, depth + 1)

    add("", 0)
    for orphans in list(children.values()):  # their parent is not known here, which no one should see
        lines += [Branch(0, run) for run in orphans]
    return lines


def tree_row(branch: Branch, now: datetime.datetime, reasons: Mapping[str, str]) -> tuple[str, ...]:
    """A line of the tree; see TREE_HEADERS. `reasons`: why jobs wait, by their ids."""
    run = branch.run
    control = not run.job_id and not run.fallback
    started = run.HasField("start_time")
    waits = not started and not run.HasField("end_time")
    waited = between(run, "create_time", "start_time") if started else between(run, "create_time", "end_time")
    ran = between(run, "start_time", "end_time")
    return (
        "  " * branch.depth + run.task_id + (f" [{run.iteration}]" if run.iteration else ""),
        run_state(run.state),
        NOTHING if control else group_label(run.worker_group),
        run.worker or NOTHING,
        NOTHING if control else age(run, "create_time", now) if waits else waited,
        age(run, "start_time", now) if started and not run.HasField("end_time") else ran,
        _note(run, reasons),
    )


def _note(run: "TaskRun", reasons: Mapping[str, str]) -> str:
    parts = []
    if run.in_errors and not run.parent_task_id:
        parts.append("upon failure")
    if run.attempt > 1:
        parts.append(f"attempt {run.attempt}")
    if run.branch:
        parts.append(run.branch)
    if run.taken_from:
        parts.append(f"taken over from {run.taken_from}")
    if run.lost_deliveries:
        parts.append(f"lost its worker {run.lost_deliveries}×")
    if text := run.message or reasons.get(run.job_id, ""):
        parts.append(text)
    return "; ".join(parts)


def tree_rows(execution: "Execution", reasons: Mapping[str, str] | None = None) -> list[tuple[str, ...]]:
    """All lines of the tree as they are now."""
    now = datetime.datetime.now(datetime.UTC)
    return [tree_row(branch, now, reasons or {}) for branch in tree(execution)]


def waiting_jobs(execution: "Execution") -> list[str]:
    """Jobs of which the scheduler is to be asked why they wait: the first of them, as all may wait for the same."""
    waiting = [run.job_id for run in execution.task_runs if run_state(run.state) == "CREATED" and run.job_id]
    return waiting[:MOST_EXPLAINED]


def files(execution: "Execution") -> list[dict[str, Any]]:
    """The output files that its task runs tell of: task_id, attempt, path, uri."""
    from farhand.cli.render import document

    found = []
    for run in execution.task_runs:
        outputs = document(run).get("outputs") or {}
        for path, uri in sorted((outputs.get("outputFiles") or {}).items()):
            found.append({"task_id": run.task_id, "attempt": run.attempt, "path": path, "uri": uri})
    return found
