"""How an execution looks: one line, all of it, and the tree of its task runs."""

import datetime
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from farhand.cli.execution_tree import Branch, run_name, run_state, tree
from farhand.cli.fields import NOTHING, age, between, enum_name, listed, when
from farhand.kernel.names import group_label

if TYPE_CHECKING:
    from farhand.api.scheduler.v1.execution_pb2 import Execution

HEADERS = ("ID", "STATE", "FLOW", "REVISION", "LABELS", "AGE", "TOOK", "NOTE")
TREE_HEADERS = ("TASK", "STATE", "GROUP", "WORKER", "WAITED", "RAN", "NOTE")

LONGEST_NOTE = 100  # characters of an execution's message in a list; `get` shows all of it
MOST_EXPLAINED = 5  # waiting jobs of which it is asked at a time why they wait

ENDED_WELL = ("SUCCESS", "WARNING")
ENDED = (*ENDED_WELL, "FAILED", "KILLED")


def state_name(state: int) -> str:
    """CREATED, RUNNING, … of an execution."""
    from farhand.api.scheduler.v1 import execution_pb2

    return enum_name(execution_pb2.ExecutionState, state, "EXECUTION_STATE_")


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
        "; ".join([*_first_words(execution.message), *(f"{a} {b}" for a, b in _relatives(execution, most=1))]),
    )


def _first_words(message: str) -> list[str]:
    """What there is room for in a list of a message, if there is one."""
    line = message.partition("\n")[0]
    return [line if len(line) <= LONGEST_NOTE else line[: LONGEST_NOTE - 1] + "…"] if line else []


def _relatives(execution: "Execution", most: int) -> list[tuple[str, str]]:
    """The trigger or the executions from which it came, and those, at most so many of a kind, that came from it."""
    found = []
    for what, ids in (
        ("started by trigger", [execution.trigger_id] if execution.trigger_id else []),
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
    from farhand.runtime.wire import plain

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
    inputs = sorted(plain(execution.inputs).items())  # a Struct keeps no order
    return lines + [(f"input {name}", json.dumps(value, ensure_ascii=False)) for name, value in inputs]


def tree_row(branch: Branch, now: datetime.datetime, reasons: Mapping[str, str]) -> tuple[str, ...]:
    """A line of the tree; see TREE_HEADERS. `reasons`: why jobs wait, by their ids."""
    run = branch.run
    if branch.hidden:
        shown = f"{'  ' * branch.depth}… {branch.hidden} more round{'' if branch.hidden == 1 else 's'}"
        return (shown, *[""] * (len(TREE_HEADERS) - 1))
    control = not run.job_id and not run.fallback
    started = run.HasField("start_time")
    waits = not started and not run.HasField("end_time")
    waited = between(run, "create_time", "start_time") if started else between(run, "create_time", "end_time")
    ran = between(run, "start_time", "end_time")
    return (
        "  " * branch.depth + run_name(run.task_id, run.iteration),
        run_state(run.state),
        NOTHING if control else group_label(run.worker_group),
        run.worker or NOTHING,
        NOTHING if control else age(run, "create_time", now) if waits else waited,
        age(run, "start_time", now) if started and not run.HasField("end_time") else ran,
        _note(branch, reasons),
    )


def _note(branch: Branch, reasons: Mapping[str, str]) -> str:
    run, parts = branch.run, []
    if run.in_errors and not run.parent_task_id:
        parts.append("upon failure")
    if run.attempt > 1:
        parts.append(f"attempt {run.attempt}")
    if run.branch:
        parts.append(run.branch.removeprefix("cases."))
    if branch.rounds:
        parts.append(branch.rounds)
    if run.taken_from:
        parts.append(f"taken over from {run.taken_from}")
    if run.lost_deliveries:
        parts.append(f"lost its worker {run.lost_deliveries}×")
    if run.outputs_left_out:
        parts.append(f"outputs left out: `farhand job get {run.job_id} --output json`")
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
    """The output files that its task runs tell of: task_id, iteration, attempt, path, uri."""
    from farhand.cli.render import document

    found = []
    for run in execution.task_runs:
        outputs = document(run).get("outputs") or {}
        facts = {"task_id": run.task_id, "iteration": run.iteration, "attempt": run.attempt}
        for path, uri in sorted((outputs.get("outputFiles") or {}).items()):
            found.append({**facts, "path": path, "uri": uri})
    return found


def owner(file: Mapping[str, Any]) -> str:
    """The task run of an output file, as people call it."""
    return run_name(file["task_id"], file["iteration"])
