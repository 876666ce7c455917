"""The tables of executions and task runs, and what steps do that no story tells."""

from dataclasses import replace
from datetime import timedelta

import pytest

from farhand.api.scheduler.v1 import execution_pb2
from farhand.kernel.flow import ForEach, Parallel
from farhand.scheduler.core import execution, task_run
from farhand.scheduler.core.execution import (
    Begin,
    BeginAgain,
    End,
    EndWait,
    Execution,
    ExecutionState,
    IllegalMove,
    Kill,
    Move,
    Settle,
    Skip,
    WakeAt,
    after,
)
from farhand.scheduler.core.execution_step import abandon, step
from farhand.scheduler.core.job import JobState
from farhand.scheduler.core.task_run import JobView, Refused, Run, RunId, RunState
from tests.fixtures.execution_play import START, Play, a_flow

A = RunId("a")
ONE = a_flow("tasks:\n  - {id: a}")
RUNNING = Execution(ExecutionState.RUNNING)


def a_run(id: RunId = A, state: RunState = RunState.CREATED, job: JobView | None = None) -> Run:
    return Run(id, START, state, job=job, ended_at=START if state in task_run.FINAL else None)


# ── the tables ──


def test_every_state_has_its_row_and_nothing_follows_a_final_one() -> None:
    assert set(task_run.TABLE) == set(RunState) and set(execution.TABLE) == set(ExecutionState)
    assert not any(task_run.TABLE[state] for state in task_run.FINAL)
    assert not any(execution.TABLE[state] for state in execution.FINAL)


def test_every_state_can_be_reached_and_comes_to_an_end() -> None:
    assert task_run.FIRST.union(*task_run.TABLE.values()) == set(RunState)
    assert {ExecutionState.CREATED}.union(*execution.TABLE.values()) == set(ExecutionState)
    assert all(task_run.TABLE[state] & task_run.FINAL for state in set(RunState) - task_run.FINAL)
    assert all(execution.TABLE[state] & execution.FINAL for state in set(ExecutionState) - execution.FINAL)


def test_the_wire_has_the_same_states() -> None:
    assert {f"TASK_RUN_STATE_{state}" for state in RunState} | {"TASK_RUN_STATE_UNSPECIFIED"} == set(
        execution_pb2.TaskRunState.keys()
    )
    assert {f"EXECUTION_STATE_{state}" for state in ExecutionState} | {"EXECUTION_STATE_UNSPECIFIED"} == set(
        execution_pb2.ExecutionState.keys()
    )


@pytest.mark.parametrize("before", RunState)
@pytest.mark.parametrize("to", RunState)
def test_a_task_run_moves_as_the_table_says_and_no_other_way(before: RunState, to: RunState) -> None:
    runs = {A: a_run(state=before)}
    if to in task_run.TABLE[before]:
        assert after(RUNNING, runs, [End(A, to)], now=START)[1][A].state is to
    else:
        with pytest.raises(IllegalMove, match="does not become"):
            after(RUNNING, runs, [End(A, to)], now=START)


@pytest.mark.parametrize("before", ExecutionState)
@pytest.mark.parametrize("to", ExecutionState)
def test_an_execution_moves_as_the_table_says_and_no_other_way(before: ExecutionState, to: ExecutionState) -> None:
    if to in execution.TABLE[before]:
        assert after(Execution(before), {}, [Move(to, "why")], now=START)[0] == Execution(to, message="why")
    else:
        with pytest.raises(IllegalMove, match="does not become"):
            after(Execution(before), {}, [Move(to)], now=START)


@pytest.mark.parametrize("effect", [Begin(A, ONE.tasks[0]), Skip(A)])
def test_no_task_run_is_made_twice(effect: Begin | Skip) -> None:
    _, runs = after(RUNNING, {}, [effect], now=START)
    with pytest.raises(IllegalMove, match="begins twice"):
        after(RUNNING, runs, [effect], now=START)


def test_an_attempt_ended_when_it_failed_and_not_when_the_next_one_began() -> None:
    later = START + timedelta(minutes=1)
    _, runs = after(RUNNING, {A: a_run()}, [End(A, RunState.RETRYING, "EXIT_CODE", "1")], now=START)
    _, runs = after(RUNNING, runs, [End(A, RunState.FAILED, "EXIT_CODE", "1")], now=later)
    assert (runs[A].state, runs[A].ended_at) == (RunState.FAILED, START)


def test_all_that_is_inside_of_a_round_that_is_settled_is_over() -> None:
    flow = a_flow(
        """
        tasks:
          - id: outer
            type: ForEach
            values: [x, y]
            tasks:
              - {id: maybe, type: If, condition: x, then: [{id: a}]}
              - {id: inner, type: ForEach, values: [v, w], tasks: [{id: b}]}
        """
    )
    outer, [loop] = RunId("outer"), flow.tasks
    assert isinstance(loop, ForEach)
    ids = [
        RunId("maybe", "1"),
        RunId("a", "1"),
        RunId("a", "1", 2),
        RunId("inner", "1"),
        RunId("b", "1/0"),
        RunId("b", "1/1"),
    ]
    runs = {id: replace(a_run(id, RunState.SUCCESS), rounds=2) for id in [outer, *ids, RunId("a", "0")]}
    _, settled = after(RUNNING, runs, [Settle(outer, loop, 1)], now=START)
    assert {id for id, run in settled.items() if run.over} == set(ids)
    assert list(settled[outer].open_rounds()) == [0]


# ── steps ──


@pytest.mark.parametrize("state", sorted(execution.FINAL))
def test_nothing_follows_in_an_execution_that_has_ended(state: ExecutionState) -> None:
    live = {A: a_run(job=JobView(JobState.SUCCESS))}
    ended = Execution(state, kill_at=START)
    assert step(ONE, ended, live, now=START) == [] == abandon(ended, live, "why")


def test_a_thousand_disabled_tasks_are_skipped_by_one_step() -> None:
    flow = a_flow("tasks:" + "".join(f"\n  - {{id: t{n}, disabled: true}}" for n in range(1000)))
    effects = step(flow, Execution(), {}, now=START)
    assert effects == [*(Skip(RunId(f"t{n}")) for n in range(1000)), Move(ExecutionState.SUCCESS)]


def test_a_parallel_without_tasks_is_a_success() -> None:
    empty = Parallel.model_construct(id="p", type="io.kestra.plugin.core.flow.Parallel", tasks=(), disabled=False)
    flow = ONE.model_copy(update={"tasks": (empty,)})
    assert step(flow, Execution(), {}, now=START) == [
        Begin(RunId("p"), empty),
        End(RunId("p"), RunState.SUCCESS),
        Move(ExecutionState.SUCCESS),
    ]


def test_a_job_that_had_ended_before_the_kill_keeps_its_end() -> None:
    killed = replace(RUNNING, kill_at=START)
    assert step(ONE, killed, {A: a_run(job=JobView(JobState.SUCCESS))}, now=START) == [
        End(A, RunState.SUCCESS),
        Move(ExecutionState.KILLED, "A kill was asked for."),
    ]
    failed = a_flow("tasks:\n  - {id: a, retry: {type: constant, interval: PT1M, maxAttempts: 3}}")
    assert step(failed, killed, {A: a_run(job=JobView(JobState.FAILED, "EXIT_CODE", "1"))}, now=START) == [
        End(A, RunState.FAILED, "EXIT_CODE", "1"),
        Move(ExecutionState.KILLED, "A kill was asked for."),
    ]


def test_a_job_whose_kill_is_on_its_way_is_not_killed_again() -> None:
    killed = replace(RUNNING, kill_at=START)
    run = a_run(job=JobView(JobState.KILLING))  # somebody killed the job; now the execution is killed too
    assert step(ONE, killed, {A: run}, now=START)[0] == Kill(A, job=False)
    assert Kill(A, job=True) in step(ONE, killed, {A: a_run(job=JobView(JobState.RUNNING))}, now=START)


def test_a_kill_that_did_not_reach_the_job_is_sent_again() -> None:
    killing = Execution(ExecutionState.KILLING, kill_at=START)
    run = a_run(state=RunState.KILLING, job=JobView(JobState.ASSIGNED))
    effects = step(ONE, killing, {A: run}, now=START)
    assert effects == [Kill(A, job=True)]
    assert after(killing, {A: run}, effects, now=START) == (killing, {A: run})


def test_what_was_asked_first_ends_an_execution_and_stays_its_message() -> None:
    killing = Execution(ExecutionState.KILLING, message="Task 'gpu' was cancelled: no worker", kill_at=START)
    run = a_run(state=RunState.KILLING, job=JobView(JobState.KILLED))
    assert step(ONE, killing, {A: run}, now=START)[-1] == Move(ExecutionState.KILLED, killing.message)


def test_an_execution_that_is_killing_begins_nothing_even_if_nothing_else_says_so() -> None:
    assert step(ONE, Execution(ExecutionState.KILLING, message="why"), {}, now=START) == [
        Move(ExecutionState.KILLED, "why")
    ]


def test_a_task_run_that_could_not_be_queued_is_tried_again_when_its_time_has_come() -> None:
    at = START + timedelta(seconds=2)
    runs = {A: replace(a_run(), again_at=at)}
    assert step(ONE, RUNNING, runs, now=START) == [WakeAt(at)]
    assert step(ONE, RUNNING, runs, now=at) == [BeginAgain(A, ONE.tasks[0])]
    killed = replace(RUNNING, kill_at=START)
    assert step(ONE, killed, runs, now=at)[0] == End(
        A, RunState.KILLED, "KILLED", "It was killed before it could be queued."
    )


def test_a_wake_is_asked_for_only_if_none_is_due_earlier() -> None:
    at = START + timedelta(seconds=2)
    runs = {A: replace(a_run(), again_at=at)}
    assert step(ONE, replace(RUNNING, wake_at=at), runs, now=START) == []
    assert step(ONE, replace(RUNNING, wake_at=START + timedelta(seconds=1)), runs, now=START) == []
    assert step(ONE, replace(RUNNING, wake_at=START + timedelta(hours=1)), runs, now=START) == [WakeAt(at)]


def test_the_earliest_of_several_wakes_is_asked_for() -> None:
    flow = a_flow(
        """
        tasks:
          - id: p
            type: Parallel
            tasks: [{id: a}, {id: b}, {id: c}]
        """
    )
    play = Play(flow)
    play.step()
    for task, seconds in (("a", 30), ("b", 10), ("c", 20)):
        id = RunId(task)
        play.runs[id] = replace(play.runs[id], wait_limit=timedelta(seconds=seconds))
    [wake] = [effect for effect in play.step() if isinstance(effect, WakeAt)]
    assert wake.at == play.runs[RunId("b")].created_at + timedelta(seconds=10)


def test_a_wait_ends_only_while_the_job_waits() -> None:
    job = JobView(JobState.CREATED, waiting_since=START)
    run = replace(a_run(job=job), wait_limit=timedelta(minutes=10))
    at = START + timedelta(minutes=10)
    [effect] = step(ONE, RUNNING, {A: run}, now=at)
    assert isinstance(effect, EndWait) and effect.reason == "GROUP_WAIT_TIMEOUT"
    for state in (JobState.ASSIGNED, JobState.RUNNING, JobState.KILLING):
        assert step(ONE, RUNNING, {A: replace(run, job=replace(job, state=state))}, now=at) == []


def test_a_retry_that_is_not_inherited_any_more_ends_the_task_run() -> None:
    retrying = replace(a_run(state=RunState.RETRYING), ended_at=START, reason="EXIT_CODE", message="exit code 1")
    later = START + timedelta(seconds=1)
    assert step(ONE, RUNNING, {A: retrying}, now=later) == [
        End(A, RunState.FAILED, "EXIT_CODE", "exit code 1"),
        Move(ExecutionState.FAILED, "Task 'a' failed: exit code 1"),
    ]
    allowed = a_flow("tasks:\n  - {id: a, allowFailure: true}")
    assert step(allowed, RUNNING, {A: retrying}, now=later)[0] == End(A, RunState.WARNING, "EXIT_CODE", "exit code 1")


def test_the_order_in_which_attempts_are_loaded_does_not_matter() -> None:
    first, second = a_run(state=RunState.FAILED), a_run(RunId("a", attempt=2), job=JobView())
    for runs in ([first, second], [second, first]):
        assert step(ONE, RUNNING, {run.id: run for run in runs}, now=START) == []


def test_an_execution_that_a_mistake_of_ours_stops_is_failed_with_all_that_it_runs() -> None:
    flow = a_flow("tasks:\n  - {id: p, type: Parallel, tasks: [{id: a}, {id: b}, {id: c}]}")
    play = Play(flow)
    play.step()
    play.start(RunId("a"))
    play.end(RunId("b"), JobState.SUCCESS)
    play.step()
    effects = abandon(play.execution, play.runs, "The scheduler erred.")
    assert [effect.run.task_id for effect in effects if isinstance(effect, Kill)] == ["a", "c"]
    over, runs = after(play.execution, play.runs, effects, now=play.now)
    assert (over.state, over.message) == ("FAILED", "The scheduler erred.")
    assert {id.task_id: (run.state.value, run.reason) for id, run in runs.items()} == {
        "p": ("FAILED", "INTERNAL"),
        "a": ("FAILED", "INTERNAL"),
        "b": ("SUCCESS", ""),
        "c": ("FAILED", "INTERNAL"),
    }
    killing = replace(play.execution, state=ExecutionState.KILLING)
    assert after(killing, play.runs, abandon(killing, play.runs, "why"), now=play.now)[0].state == "FAILED"


def test_a_refused_if_may_be_allowed_to_fail() -> None:
    flow = a_flow("tasks:\n  - {id: i, type: If, condition: x, allowFailure: true, then: [{id: a}]}\n  - {id: b}")
    play = Play(flow, choose=lambda id, task: Refused("EXPRESSION_FAILED", "`x` is not defined"))
    play.step()
    assert play.states() == {"i": "WARNING", "b": "CREATED"}
    play.end(RunId("b"), JobState.SUCCESS)
    play.step()
    assert play.execution.message == "Task 'i' failed, which it may: `x` is not defined"
