"""Whatever happens to an execution and whenever it is stepped, it ends, and ends right.

Jobs start, end and are lost, people kill, time passes; a step comes at once, late, or
twice. Without a kill the end is what a naive interpreter foretells. With one it is
KILLED, and nothing begins from the step on that saw it.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from farhand.kernel.durations import parse_duration
from farhand.kernel.flow import AnyTask, ForEach, If, Parallel, Switch, Task
from farhand.scheduler.core import execution, task_run
from farhand.scheduler.core.execution import Begin, BeginAgain
from farhand.scheduler.core.job import JobState
from farhand.scheduler.core.task_run import JobView, Refused, Run, RunId, RunState, into_round
from tests.fixtures.execution_play import Play
from tests.fixtures.random_flows import Fate, Plot, foretell, plots


class ExecutionMachine(RuleBasedStateMachine):
    """One execution of a random flow."""

    @initialize(plot=plots(), peaceful=st.booleans())
    def create(self, plot: Plot, peaceful: bool) -> None:
        self.plot = plot
        self.peaceful = peaceful  # nobody kills
        self.play = Play(plot.flow, self.queue, self.choose, self.count)
        self.killed = False  # by anybody
        self.was: dict[RunId, RunState] = {}
        self.newest: dict[tuple[str, str], Run] = {}  # as of the last look at the order

    def queue(self, id: RunId, task: Task, now: datetime) -> JobView | Refused | datetime:
        if id.attempt > 1:
            before = self.play.runs[id._replace(attempt=id.attempt - 1)]
            assert task.retry and before.state is RunState.FAILED and before.ended_at
            pause = parse_duration(task.retry.interval) * (2 ** (id.attempt - 2) if "exp" in task.retry.type else 1)
            assert now > before.ended_at and now >= before.ended_at + timedelta(seconds=pause), "it is too early"
        fate = self.plot.fate(*id)
        if fate is Fate.REFUSED:
            return Refused("UNKNOWN_WORKER_GROUP", "There is no worker group 'gpuu'.")
        if fate is Fate.UNAVAILABLE:
            return JobView(JobState.FAILED, "GROUP_NOT_AVAILABLE", "No worker.")
        if fate is Fate.AWAY and self.play.runs[id].created_at == now:
            return now + timedelta(seconds=2)
        return JobView(JobState.CREATED, waiting_since=now)

    def choose(self, id: RunId, task: If | Switch) -> str | Refused:
        return self.plot.branches[id.task_id] or Refused("EXPRESSION_FAILED", "`inputs.x` is not defined")

    def count(self, id: RunId, task: ForEach) -> int | Refused:
        broken = Refused("EXPRESSION_FAILED", "`inputs.x` is not defined")
        return broken if self.plot.branches[id.task_id] is None else len(task.values)

    # ── what happens ──

    @rule()
    def step(self) -> None:
        begins = self.play.step()
        assert not any(isinstance(effect, Begin | BeginAgain) for effect in begins) or not self.killed
        assert self.play.at_rest(), "a step done twice changes something"

    @precondition(lambda self: self.play.live())
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        self.play.start(data.draw(st.sampled_from(self.play.live())))

    @precondition(lambda self: self.play.live())
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.end_of(data.draw(st.sampled_from(self.play.live())))

    @precondition(lambda self: self.play.live())
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        self.play.lose(data.draw(st.sampled_from(self.play.live())))

    @rule(seconds=st.sampled_from([1, 60, 600]))
    def wait(self, seconds: int) -> None:
        self.play.advance(timedelta(seconds=seconds))

    @precondition(lambda self: not self.peaceful and len(self.play.begun) > 3)
    @rule()
    def kill(self) -> None:
        if self.play.execution.state not in execution.FINAL:
            self.killed = True
        self.play.kill()

    @precondition(lambda self: not self.peaceful and len(self.play.begun) > 3 and self.play.live())
    @rule(data=st.data())
    def kill_a_job(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(self.play.live()))
        self.killed = True
        run = self.play.runs[id]
        self.play.runs[id] = replace(run, job=JobView(JobState.KILLED, "KILLED", "Somebody killed the job."))

    # ── what holds ──

    @invariant()
    def nothing_begins_twice(self) -> None:
        assert len(set(self.play.begun)) == len(self.play.begun)

    @invariant()
    def moves_are_in_the_tables(self) -> None:
        for id, run in self.play.all_runs().items():
            before = self.was.get(id)
            assert before not in task_run.FINAL or run.state is before, "a final state changed"
        self.was = {id: run.state for id, run in self.play.all_runs().items()}

    @invariant()
    def order_is_kept(self) -> None:
        """What has begun had all that stands before it ended well; of a Parallel or ForEach no more are live than may
        be; and no round begins before the one before it."""
        self.newest = {id[:2]: run for id, run in sorted(self.play.all_runs().items())}
        self.in_order(self.play.flow.tasks, "")
        if any(self.state(task, "") for task in self.play.flow.errors):
            assert any(self.state(task, "") is RunState.FAILED for task in self.play.flow.tasks)
            self.in_order(self.play.flow.errors, "")

    def in_order(self, tasks: tuple[AnyTask, ...], iteration: str) -> None:
        for before, behind in pairwise(tasks):
            if self.state(behind, iteration):
                assert self.state(before, iteration) in (RunState.SUCCESS, RunState.WARNING, RunState.SKIPPED)
        for task in tasks:
            self.inside_is_in_order(task, iteration)

    def inside_is_in_order(self, task: AnyTask, iteration: str) -> None:
        run = self.newest.get((task.id, iteration))
        inside = [each for tasks in task.children.values() for each in tasks]
        iterations = [iteration]
        if run is None or run.state is RunState.SKIPPED:
            assert not any(self.state(each, iteration) for each in inside)
        elif isinstance(task, Parallel):
            begun = [each for each in task.tasks if self.state(each, iteration)]
            live = [each for each in begun if self.state(each, iteration) not in task_run.FINAL]
            assert not task.concurrent or len(live) <= task.concurrent
            for each in task.tasks:
                self.inside_is_in_order(each, iteration)
        elif isinstance(task, If | Switch):
            taken = run.branch
            for name, tasks in task.children.items():
                if name == taken:
                    self.in_order(tasks, iteration)
                else:
                    assert not any(self.state(each, iteration) for each in tasks)
        elif isinstance(task, ForEach):
            iterations = [into_round(iteration, number) for number in range(run.rounds or 0)]
            begun_rounds = [self.state(task.tasks[0], each) is not None for each in iterations]
            assert begun_rounds == sorted(begun_rounds, reverse=True), "a round was passed over"
            live_rounds = [
                each
                for each in iterations
                if any(self.state(one, each) not in (*task_run.FINAL, None) for one in inside)
            ]
            assert not task.concurrency_limit or len(live_rounds) <= task.concurrency_limit
            for here in iterations:
                self.in_order(task.tasks, here)
        else:
            self.in_order(tuple(inside), iteration)
        if run is not None and run.state in task_run.FINAL:
            assert all(self.state(each, here) in (*task_run.FINAL, None) for each in inside for here in iterations)

    def state(self, task: AnyTask, iteration: str) -> RunState | None:
        run = self.newest.get((task.id, iteration))
        return run.state if run else None

    # ── and in the end ──

    def end_of(self, id: RunId) -> None:
        fate = self.plot.fate(*id)
        self.play.end(id, JobState(fate.value) if fate.value in JobState.__members__ else JobState.SUCCESS)

    def teardown(self) -> None:
        if not hasattr(self, "plot"):
            return
        for _ in range(1000):
            self.step()
            self.order_is_kept()
            self.moves_are_in_the_tables()
            if self.play.execution.state in execution.FINAL:
                break
            for id in self.play.live():
                self.end_of(id)
            if not self.play.live() and self.play.wakes:
                self.play.to_next_wake()
        state, told, perhaps = foretell(self.plot)
        runs = self.play.all_runs()
        assert self.play.execution.state in execution.FINAL, "it does not end"
        assert all(run.state in task_run.FINAL for run in runs.values()), "it left something behind"
        assert all(run.job is None or run.job.state.value in RunState.__members__ for run in self.play.runs.values())
        assert not self.play.live(), "it left a job behind"
        if self.killed:
            assert self.play.execution.state == "KILLED"
        else:
            assert self.play.execution.state == state
            states: dict[tuple[str, str], list[str]] = {}
            for id in sorted(runs):
                states.setdefault(id[:2], []).append(runs[id].state)
            assert states == told | {key: perhaps[key] for key in perhaps if key in states}
        assert bool(self.play.execution.message) == (self.play.execution.state != "SUCCESS")


TestExecutionMachine = ExecutionMachine.TestCase
TestExecutionMachine.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@given(plots())
@settings(deadline=None, max_examples=200)
def test_an_execution_that_nobody_disturbs_ends_as_foretold(plot: Plot) -> None:
    machine = ExecutionMachine()
    machine.create(plot, peaceful=True)
    machine.teardown()
