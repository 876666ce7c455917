"""Flows between the core and the wire."""

from collections.abc import Sequence

from google.protobuf.message import Message

from farhand.api.registry.v1 import flow_pb2
from farhand.kernel import names
from farhand.kernel.errors import FlowInvalid, Violation
from farhand.kernel.flow import (
    AnyTask,
    Declaration,
    Flow,
    Problem,
    Severity,
    Task,
    Trigger,
    levels,
    of_flow,
    wait_timeout,
)
from farhand.kernel.flow.types import SCHEDULE
from farhand.kernel.resolution import resolve
from farhand.registry.core.flow import FlowRevision
from farhand.registry.rpc.wire import FALLBACKS
from farhand.runtime.wire import timestamp

_SEVERITIES = {
    Severity.ERROR: flow_pb2.FLOW_PROBLEM_SEVERITY_ERROR,
    Severity.WARNING: flow_pb2.FLOW_PROBLEM_SEVERITY_WARNING,
}
_MOST_DETAILS = 1536  # bytes of FlowProblems in an error, whose details have 4 KiB in all


def flow_message(flow: FlowRevision) -> flow_pb2.Flow:
    """A stored revision."""
    return flow_pb2.Flow(
        tenant=flow.tenant,
        namespace=flow.namespace,
        id=flow.id,
        revision=flow.revision,
        source=flow.source,
        definition=flow.definition,
        description=flow.description,
        labels=flow.labels,
        etag=flow.etag,
        create_time=timestamp(flow.create_time),
        update_time=timestamp(flow.update_time),
        saved_by=flow.saved_by,
    )


def problem_message(problem: Problem) -> flow_pb2.FlowProblem:
    """What is wrong, and where."""
    return flow_pb2.FlowProblem(
        line=problem.line,
        column=problem.column,
        path=problem.path,
        message=problem.message,
        severity=_SEVERITIES[problem.severity],
    )


def flow_invalid(problems: Sequence[Problem]) -> FlowInvalid:
    """The error for a source that can't be saved: every problem a violation, and as FlowProblems those that fit."""
    errors = [problem for problem in problems if problem.severity is Severity.ERROR]
    first = f" {errors[0]}" if len(errors) == 1 else f" {len(errors)} things are wrong, the first: {errors[0]}"
    return FlowInvalid(
        f"The flow can't be saved.{first}",
        violations=[Violation(problem.path or "source", _located(problem)) for problem in errors],
        details=[_problems_that_fit(errors)],
    )


def resolution_message(task: AnyTask, flow: Flow, outer: Sequence[Declaration]) -> flow_pb2.TaskResolution:
    """Which group the task gets, and why."""
    message = flow_pb2.TaskResolution(task_id=task.id, task_type=task.type)
    if isinstance(task, Task):
        _resolve(message, task, flow, outer)
    return message  # other ones the scheduler runs itself


def trigger_resolution_message(
    trigger: Trigger, flow: Flow, outer: Sequence[Declaration]
) -> flow_pb2.TriggerResolution:
    """Which group evaluates the trigger, and why."""
    message = flow_pb2.TriggerResolution(trigger_id=trigger.id, trigger_type=trigger.type)
    if trigger.type != SCHEDULE:
        _resolve(message, trigger, flow, outer)
    return message


def _resolve(
    message: flow_pb2.TaskResolution | flow_pb2.TriggerResolution,
    owner: Task | Trigger,
    flow: Flow,
    outer: Sequence[Declaration],
) -> None:
    declarations = [of_flow(flow), *outer]
    resolved = resolve(levels(owner, declarations))
    message.worker_group = names.group_label(resolved.key)
    message.worker_group_level = resolved.key_level
    message.fallback = FALLBACKS[resolved.fallback]
    message.fallback_level = resolved.fallback_level
    message.timeout, message.timeout_level = wait_timeout(owner, declarations) or ("", "")


def _located(problem: Problem) -> str:
    return f"line {problem.line}, column {problem.column}: {problem.message}" if problem.line else problem.message


def _problems_that_fit(problems: Sequence[Problem]) -> Message:
    message = flow_pb2.FlowProblems()
    for problem in problems:
        message.problems.append(problem_message(problem))
        if message.ByteSize() > _MOST_DETAILS:
            del message.problems[-1]
            break
    return message
