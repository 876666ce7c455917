"""Why an execution, or flow control inside of it, did not simply succeed, in one sentence."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from farhand.kernel.flow import AnyTask, ForEach
from farhand.scheduler.core.job import JobState
from farhand.scheduler.core.task_run import Run, RunState, into_round

_BAD = (RunState.FAILED, RunState.WARNING)


Last = Mapping[tuple[str, str], Run]
"""The newest attempt of each task, by its id and iteration."""


def first_cause(tasks: Iterable[AnyTask], last: Last, whole: RunState, iteration: str = "") -> str:
    """The first of these tasks that failed, and why.

    `whole`: what the tasks came to together. FAILED: failures that were allowed are not to blame; WARNING: they are,
    and so are warnings. Else, and where there is none: empty.
    """
    first = earliest_cause(tasks, last, whole, iteration)
    return first[1] if first else ""


def earliest_cause(
    tasks: Iterable[AnyTask], last: Last, whole: RunState, iteration: str
) -> tuple[datetime, str] | None:
    """The same, with the time at which it failed."""
    return min(_causes(tasks, last, whole, iteration), key=lambda cause: cause[0], default=None)


def cause_inside(task: AnyTask, run: Run, last: Last, whole: RunState) -> str:
    """The same of what is inside of flow control, which came to `whole`; `run` is the flow control's."""
    return min(_inside(task, run, last, whole), key=lambda cause: cause[0], default=(None, ""))[1]


def killed_by(run: Run) -> str:
    """What an execution says that ends with this task run, whose job was killed or cancelled."""
    reason, why = (run.job.reason, run.job.message) if run.job else (run.reason, run.message)
    verb = "was cancelled" if reason == "GROUP_NOT_AVAILABLE" else "was killed"
    return _sentence(f"Task '{run.id.task_id}'{_round(run)} {verb}", why)


def _causes(tasks: Iterable[AnyTask], last: Last, whole: RunState, iteration: str) -> Iterator[tuple[datetime, str]]:
    for task in tasks:
        run = last.get((task.id, iteration))
        if run is None or run.state is not whole or whole not in _BAD:
            continue
        # Flow control whose failure is allowed is a WARNING with a failure inside.
        deeper = list(_inside(task, run, last, RunState.FAILED))
        if run.state is RunState.WARNING and not deeper:
            deeper = list(_inside(task, run, last, RunState.WARNING))
        yield from deeper or [(run.ended_at or run.created_at, _verdict(run))]


def _inside(task: AnyTask, run: Run, last: Last, whole: RunState) -> Iterator[tuple[datetime, str]]:
    """The causes inside of flow control."""
    iteration = run.id.iteration
    iterations = [iteration]
    if isinstance(task, ForEach):
        iterations = [into_round(iteration, number) for number in run.open_rounds()]
    for inside in task.children.values():
        for each in iterations:
            yield from _causes(inside, last, whole, each)


def _verdict(run: Run) -> str:
    attempts = f" after {run.id.attempt} attempts" if run.id.attempt > 1 else ""
    if run.state is RunState.FAILED:
        verb = f"failed{attempts}"
    elif run.job is not None and run.job.state is JobState.WARNING:
        verb = "ended with a warning"
    else:
        verb = f"failed{attempts}, which it may"
    return _sentence(f"Task '{run.id.task_id}'{_round(run)} {verb}", run.message or run.reason)


def _round(run: Run) -> str:
    return f" in round {run.id.iteration}" if run.id.iteration else ""


def _sentence(what: str, why: str) -> str:
    return f"{what}: {why}" if why else f"{what}."
