"""Why an execution, or flow control inside of it, did not simply succeed, in one sentence."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from farhand.kernel.flow import AnyTask
from farhand.scheduler.core.job import JobState
from farhand.scheduler.core.task_run import Run, RunState

_BAD = (RunState.FAILED, RunState.WARNING)


def first_cause(tasks: Iterable[AnyTask], last: Mapping[str, Run], whole: RunState) -> str:
    """The first of these tasks that failed, and why.

    `last`: the newest attempt of each task, by its id. `whole`: what the tasks came to together. FAILED: failures
    that were allowed are not to blame; WARNING: they are, and so are warnings. Else, and where there is none: empty.
    """
    causes = list(_causes(tasks, last, whole))
    return min(causes, key=lambda cause: cause[0])[1] if causes else ""


def killed_by(run: Run) -> str:
    """What an execution says that ends with this task run, whose job was killed or cancelled."""
    reason, why = (run.job.reason, run.job.message) if run.job else (run.reason, run.message)
    verb = "was cancelled" if reason == "GROUP_NOT_AVAILABLE" else "was killed"
    return _sentence(f"Task '{run.id.task_id}' {verb}", why)


def inside(task: AnyTask) -> Iterator[AnyTask]:
    """The tasks that stand directly in flow control."""
    for tasks in task.children.values():
        yield from tasks


def _causes(tasks: Iterable[AnyTask], last: Mapping[str, Run], whole: RunState) -> Iterator[tuple[datetime, str]]:
    for task in tasks:
        run = last.get(task.id)
        if run is None or run.state is not whole or whole not in _BAD:
            continue
        # Flow control whose failure is allowed is a WARNING with a failure inside.
        deeper = list(_causes(inside(task), last, RunState.FAILED))
        if run.state is RunState.WARNING and not deeper:
            deeper = list(_causes(inside(task), last, RunState.WARNING))
        yield from deeper or [(run.ended_at or run.created_at, _verdict(run))]


def _verdict(run: Run) -> str:
    attempts = f" after {run.id.attempt} attempts" if run.id.attempt > 1 else ""
    if run.state is RunState.FAILED:
        verb = f"failed{attempts}"
    elif run.job is not None and run.job.state is JobState.WARNING:
        verb = "ended with a warning"
    else:
        verb = f"failed{attempts}, which it may"
    return _sentence(f"Task '{run.id.task_id}' {verb}", run.message or run.reason)


def _sentence(what: str, why: str) -> str:
    return f"{what}: {why}" if why else f"{what}."
