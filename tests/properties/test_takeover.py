"""Whatever an execution came to, a restart and a replay of it end as if what they take over had just happened so.

A random execution is played to its end. Then a new one is played that has what the rule
takes over, and whose own tasks all succeed. A naive interpreter foretells the end.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from farhand.kernel.errors import NotReplayable
from farhand.kernel.flow import If, Task
from farhand.scheduler.core import execution, task_run
from farhand.scheduler.core.flow_outline import outline
from farhand.scheduler.core.job import JobState
from farhand.scheduler.core.takeover import OldRun, Takeover, replay, restart
from farhand.scheduler.core.task_run import Run, RunId, RunState
from tests.fixtures.execution_play import Play
from tests.fixtures.random_flows import Plot, foretell, plots
from tests.properties.test_execution_machine import ExecutionMachine

WELL = (RunState.SUCCESS, RunState.WARNING, RunState.SKIPPED)


def played(plot: Plot) -> Play:
    """An execution of it that has ended."""
    machine = ExecutionMachine()
    machine.create(plot, peaceful=True)
    machine.teardown()
    return machine.play


def old_runs(play: Play) -> list[OldRun]:
    return [OldRun(run.id, run.state, run.branch is not None) for run in play.runs.values()]


def play_on(plot: Plot, old: Play, over: Takeover) -> Play:
    """A new execution that takes this over, played to its end; whatever runs in it succeeds."""

    def choose(id: RunId, task: If) -> str:
        return plot.branches[id.task_id] or "then"

    play = Play(plot.flow, choose=choose)
    for id in over.as_ended:
        play.runs[id] = replace(old.runs[id], job=None)
    for id in over.go_on:
        play.runs[id._replace(attempt=1)] = Run(id, play.now, RunState.RUNNING, branch=old.runs[id].branch)
    while play.execution.state not in execution.FINAL:
        play.step()
        for id in play.live():
            play.end(id, JobState.SUCCESS)
    return play


def check(plot: Plot, old: Play, over: Takeover, new: Play) -> None:
    taken = {id.task_id for id in over.as_ended}
    assert not any(id.task_id in taken for id in new.begun), "something that was taken over runs again"
    assert all(old.runs[id].state in task_run.FINAL for id in over.as_ended)
    state, told = foretell(
        Plot(
            plot.flow,
            {id: fates if id in taken else [] for id, fates in plot.fates.items()},
            {id: branch if id in taken else branch or "then" for id, branch in plot.branches.items()},
        )
    )
    assert new.execution.state == state
    states: dict[str, list[str]] = {}
    for id in sorted(new.runs):
        states.setdefault(id.task_id, []).append(new.runs[id].state)
    assert states == told


def leaves(plot: Plot) -> Iterable[str]:
    return (task.id for _, task in plot.flow.walk() if isinstance(task, Task))


@given(plots())
@settings(deadline=None, max_examples=400)
def test_a_restart_runs_what_did_not_end_well_and_nothing_else(plot: Plot) -> None:
    old = played(plot)
    if old.execution.state != "FAILED":
        return  # and there is no restart
    over = restart(outline(plot.flow), old_runs(old))
    new = play_on(plot, old, over)
    assert new.execution.state in ("SUCCESS", "WARNING")
    check(plot, old, over, new)
    errors = {task.id for task in plot.flow.errors}
    for id in {id for id in leaves(plot) if (run := old.newest(id)) and run.state in WELL and id not in errors}:
        place = outline(plot.flow)[id]
        assert place.in_errors or id in {each.task_id for each in over.as_ended}


@given(plots(), st.data())
@settings(deadline=None, max_examples=150)
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
    check(plot, old, over, play_on(plot, old, over))
