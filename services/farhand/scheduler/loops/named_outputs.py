"""Whose outputs an expression means that names a task: `outputs.TASK`.

A task inside of loops has a task run for each round. Named from inside of the same
round it is the run of that round; from anywhere else it is all of them, by the
numbers of the rounds: `outputs.train['0'].vars.loss`. In between, with loops in
loops, what both stand in is the same round, and the rest is by number (decisions/0027).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from farhand.scheduler.core import job
from farhand.scheduler.core.preparation import FlowPlan
from farhand.scheduler.core.task_run import RunId
from farhand.scheduler.store.executions import Found


@dataclass(frozen=True, slots=True)
class Named:
    """The jobs that did a task's work, each by the rounds that are told apart by number; no rounds: the one."""

    jobs: Sequence[tuple[tuple[str, ...], int]]
    by_round: bool

    def filled(self, outputs: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
        """What `outputs.TASK` is. `outputs`: by job; one without any has none."""
        if not self.by_round:
            return dict(outputs.get(self.jobs[0][1], {}))
        filled: dict[str, Any] = {}
        for rounds, job_key in self.jobs:
            *outer, last = rounds
            inside = filled
            for number in outer:
                inside = inside.setdefault(number, {})
            inside[last] = outputs.get(job_key, {})
        return filled


class Outputs:
    """The task runs of one execution, as far as their outputs can be named."""

    def __init__(self, found: Iterable[Found]) -> None:
        self._newest: dict[str, dict[str, Found]] = {}  # by task and iteration
        self._whole: set[str] = set()  # tasks of which also those are here whose rounds are over
        self._add(found)

    def to_read(self, plan: FlowPlan, task_id: str) -> set[str]:
        """The tasks of which the runs are needed also of rounds that are over, for what this one names."""
        loops = plan.places[task_id].loops
        return {
            name
            for name in plan.outputs_needed(task_id)
            if name not in self._whole and _common(loops, plan.places[name].loops) < len(plan.places[name].loops)
        }

    def add_over(self, task_ids: Iterable[str], found: Iterable[Found]) -> None:
        """Those of these tasks were read."""
        self._whole.update(task_ids)
        self._add(found)

    def named(self, plan: FlowPlan, run: RunId, begun: Collection[RunId]) -> dict[str, Named]:
        """What a task run names, by task. `begun`: all that has begun: of a loop that has not nothing is there at all,
        and one without rounds is empty."""
        place = plan.places[run.task_id]
        found: dict[str, Named] = {}
        for name in plan.outputs_needed(run.task_id):
            loops = plan.places[name].loops
            common = _common(place.loops, loops)
            around = run.iteration.split("/")[:common]
            prefix = "/".join(around)
            by_round = common < len(loops)
            runs = self._newest.get(name, {})
            if not by_round:
                runs = {prefix: runs[prefix]} if prefix in runs else {}
            jobs = [
                (tuple(numbers[common:]), job_key)
                for iteration, each in runs.items()
                if (job_key := each.job_key or each.taken_job_key) is not None
                and _has_ended(each)
                and (numbers := iteration.split("/") if iteration else [])[:common] == around
            ]
            if jobs or (by_round and RunId(loops[common], prefix) in begun):
                found[name] = Named(jobs, by_round)
        return found

    def _add(self, found: Iterable[Found]) -> None:
        for each in found:
            of_task = self._newest.setdefault(each.run.id.task_id, {})
            known = of_task.get(each.run.id.iteration)
            if known is None or known.run.id.attempt < each.run.id.attempt:
                of_task[each.run.id.iteration] = each


def _common(loops: Sequence[str], others: Sequence[str]) -> int:
    """How many loops, from the outermost, are around both."""
    count = 0
    for one, other in zip(loops, others, strict=False):
        if one != other:
            break
        count += 1
    return count


def _has_ended(found: Found) -> bool:
    return found.run.job is None or found.run.job.state in job.FINAL
