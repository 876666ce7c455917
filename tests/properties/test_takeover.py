"""Whatever an execution came to, a restart and a replay of it end as if what they take over had just happened so.

A random execution is played to its end. Then a new one is played that has what the rule
takes over, and whose own tasks all succeed. A naive interpreter foretells the end.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from farhand.kernel.errors import NotReplayable
from farhand.kernel.flow import ForEach, If, Switch, Task
from farhand.scheduler.core import execution, task_run
from farhand.scheduler.core.flow_outline import outline
from farhand.scheduler.core.job import JobState
from farhand.scheduler.core.takeover import OldRun, Takeover, replay, restart
from farhand.scheduler.core.task_run import Refused, Run, RunId, RunState
from tests.fixtures.execution_play import Play, all_written
from tests.fixtures.random_flows import Fate, Plot, foretell, plots
from tests.properties.test_execution_machine import ExecutionMachine

WELL = (RunState.SUCCESS, RunState.WARNING, RunState.SKIPPED)
BROKEN = Refused("EXPRESSION_FAILED", "`inputs.x` is not defined")


class Resumed(Plot):
    """What was taken over is as it was; all else succeeds. What could not be chosen and came over so, never can."""

    def __init__(self, plot: Plot, over: Takeover) -> None:
        ids = {id.task_id for id in over.as_ended}
        chosen = {task.id: next(iter(task.children), "") for _, task in plot.flow.walk()}
        branches = {id: branch if branch or id in ids else chosen[id] for id, branch in plot.branches.items()}
        super().__init__(plot.flow, plot.fates, branches)
        object.__setattr__(self, "taken", {id[:2] for id in over.as_ended})

    taken: set[tuple[str, str]]

    def fate(self, task_id: str, iteration: str, attempt: int) -> Fate:
        return super().fate(task_id, iteration, attempt) if (task_id, iteration) in self.taken else Fate.SUCCESS


def played(plot: Plot) -> Play:
    """An execution of it that has ended."""
    machine = ExecutionMachine()
    machine.create(plot, peaceful=True)
    machine.teardown()
    return machine.play


def old_runs(play: Play) -> list[OldRun]:
    return [
        OldRun(run.id, run.state, run.branch is not None or run.rounds is not None) for run in play.all_runs().values()
    ]


def play_on(plot: Plot, old: Play, over: Takeover) -> Play:
    """A new execution that takes this over, played to its end; whatever runs in it succeeds."""

    def choose(id: RunId, task: If | Switch) -> str | Refused:
        return plot.branches[id.task_id] or BROKEN

    def count(id: RunId, task: ForEach) -> int | Refused:
        return BROKEN if plot.branches[id.task_id] is None else all_written(id, task)

    play, was = Play(plot.flow, choose=choose, count=count), old.all_runs()
    for id in over.as_ended:
        play.runs[id] = replace(was[id], job=None, over=id in over.over)
    for id in over.go_on:
        new = id._replace(attempt=1)
        play.runs[new] = Run(new, play.now, RunState.RUNNING, branch=was[id].branch, rounds=was[id].rounds)
    while play.execution.state not in execution.FINAL:
        play.step()
        for id in play.live():
            play.end(id, JobState.SUCCESS)
    return play


def check(plot: Plot, old: Play, over: Takeover) -> Play:
    resumed = Resumed(plot, over)
    new = play_on(resumed, old, over)
    assert not any(id[:2] in resumed.taken for id in new.begun), "something that was taken over runs again"
    assert all(old.all_runs()[id].state in task_run.FINAL for id in over.as_ended)
    state, told, perhaps = foretell(resumed)
    assert new.execution.state == state
    states: dict[tuple[str, str], list[str]] = {}
    for id in sorted(new.all_runs()):
        states.setdefault(id[:2], []).append(new.all_runs()[id].state)
    assert states == told | {key: perhaps[key] for key in perhaps if key in states}
    return new


def leaves(plot: Plot) -> Iterable[str]:
    return (task.id for _, task in plot.flow.walk() if isinstance(task, Task))


@given(plots())
@settings(deadline=None, max_examples=100)
def test_a_restart_runs_what_did_not_end_well_and_nothing_else(plot: Plot) -> None:
    old = played(plot)
    if old.execution.state != "FAILED":
        return  # and there is no restart
    places = outline(plot.flow)
    over = restart(places, old_runs(old))
    assert check(plot, old, over).execution.state in ("SUCCESS", "WARNING")
    for id in leaves(plot):
        rounds = {run.id.iteration for run in old.all_runs().values() if run.id.task_id == id}
        for iteration in rounds if not places[id].in_errors else ():
            newest = old.newest(id, iteration)
            if newest is not None and newest.state in WELL:
                assert newest.id in over.as_ended


@given(plots(), st.data())
@settings(deadline=None, max_examples=60)
def test_a_replay_takes_over_what_stands_before_its_task(plot: Plot, data: st.DataObject) -> None:
    old = played(plot)
    tasks: Sequence[str] = [task.id for task in plot.flow.tasks]
    first = data.draw(st.sampled_from(tasks))
    before = plot.flow.tasks[: tasks.index(first)]
    ended = [old.newest(task.id) for task in before]
    try:
        over = replay(plot.flow, outline(plot.flow), old_runs(old), first, "x")
    except NotReplayable:
        assert not all(run is not None and run.state in WELL for run in ended)
        return
    assert all(run is not None and run.state in WELL for run in ended)
    assert {task.id for task in before} <= {id.task_id for id in over.as_ended} and not over.go_on
    check(plot, old, over)
