"""What follows, given a flow, an execution of it and its task runs.

`step` walks over the flow, along what has begun. Each task answers where it is: the
walk begins what may begin, ends what has ended, and goes on behind it, so that one
step does a whole cascade, as far as nobody outside has to be asked. The rules
(semantics.md, 3 and 4; design.md, Executions):

A sequence stops at its first failure. A Parallel lets its siblings finish, those too
that wait for a place, and then fails. A ForEach begins no round after a failed one,
lets those that run finish, and then fails. Then the flow's `errors` run, in sequence, and
the execution is FAILED. `allowFailure` makes WARNING of a failure, and the flow goes
on; `retry` makes another attempt, of FAILED alone; a disabled task is SKIPPED.

A kill that is asked for, or a task run that is KILLED (its fallback is CANCEL, or its
job was killed), ends the execution KILLED: nothing begins from then on, `errors` do
not run, what waits ends, what runs is killed and waited for. Before it begins
anything a step looks for such a task run everywhere.

Of an execution that waits for its turn (places.py) nothing follows but a kill.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from farhand.kernel.durations import format_duration
from farhand.kernel.flow import AnyTask, Flow, ForEach, If, Parallel, Sequential, Switch, Task
from farhand.scheduler.core import execution as execution_
from farhand.scheduler.core import job as job_
from farhand.scheduler.core.cause import cause_inside, earliest_cause, first_cause, killed_by
from farhand.scheduler.core.execution import (
    Begin,
    BeginAgain,
    Effect,
    End,
    EndWait,
    Execution,
    ExecutionState,
    Kill,
    Move,
    Settle,
    Skip,
    WakeAt,
)
from farhand.scheduler.core.job import JobState
from farhand.scheduler.core.retrying import next_attempt_at
from farhand.scheduler.core.task_run import FINAL, Run, RunId, RunState, into_round

# Members of an enum, looked up once: Python 3.11 takes longer to look one up than all the rest of a task takes.
_CREATED, _RUNNING, _KILLING, _RETRYING, _SUCCESS, _WARNING, _FAILED, _KILLED, _SKIPPED = RunState
_JOB_CREATED, _, _, _JOB_KILLING, _, _, _JOB_FAILED, _JOB_KILLED = JobState

# What several tasks come to together is what the gravest of them says. The last two are not ended.
_GRAVITY = {
    _SUCCESS: 0,
    _SKIPPED: 0,
    _WARNING: 1,
    _FAILED: 2,
    _KILLED: 3,
    _RETRYING: 4,  # nothing but an attempt that comes later
    _RUNNING: 5,
}

GROUP_WAIT_TIMEOUT = "GROUP_WAIT_TIMEOUT"

MOST_TASK_RUNS = 10_000  # of an execution, attempts and rounds included
MORE_FOR_ERRORS = 1_000  # that `errors` may have beyond
_FULL = f"It has {MOST_TASK_RUNS:,} task runs, and an execution makes no more: what would have come next did not begin."


def step(flow: Flow, execution: Execution, runs: Mapping[RunId, Run], *, now: datetime) -> list[Effect]:
    """What follows now, in the order in which it is to be written; empty: nothing.

    `flow` is that of a plan, with all that its tasks inherit. `runs` are all task runs of the execution, each under
    its id, save those that are `over`. Deterministic, and of an execution that has ended always empty. Costs time in
    proportion to the runs.
    """
    if execution.state in execution_.FINAL or (execution.waits and execution.kill_at is None):
        return []
    return _Walk(flow, execution, runs, now).effects()


def abandon(execution: Execution, runs: Mapping[RunId, Run], message: str) -> list[Effect]:
    """What ends an execution of which a step failed by a mistake of ours: FAILED, with all that it runs (INTERNAL).

    Live jobs are killed, and not waited for.
    """
    effects: list[Effect] = []
    if execution.state in execution_.FINAL:
        return effects
    for run in runs.values():
        if run.state in FINAL:
            continue
        if run.job is not None and run.job.state not in job_.FINAL:
            effects.append(Kill(run.id, run.job.state is not _JOB_KILLING))
        effects.append(End(run.id, RunState.FAILED, "INTERNAL", message))
    return [*effects, Move(ExecutionState.FAILED, message)]


class _Walk:
    """One walk over the flow."""

    def __init__(self, flow: Flow, execution: Execution, runs: Mapping[RunId, Run], now: datetime) -> None:
        self._flow = flow
        self._execution = execution
        self._runs = runs
        self._now = now
        self._effects: list[Effect] = []
        self._wake: datetime | None = None
        self._last: dict[tuple[str, str], Run] = {}  # the newest attempt of each task in each round
        self._left = MOST_TASK_RUNS - execution.runs_over - len(runs)  # task runs that may still be made
        self._full = False  # there was something to begin, and nothing was left
        self._cancelled: Run | None = None  # a task run that ends all
        for (task_id, iteration, attempt), run in runs.items():
            if run.over:
                continue
            last = self._last.get((task_id, iteration))
            if last is None or last.id.attempt < attempt:
                self._last[task_id, iteration] = run
            if run.state is _KILLED or (run.job is not None and run.job.state is _JOB_KILLED):
                self._cancelled = self._cancelled or run
        self._killing = (
            execution.state is ExecutionState.KILLING or execution.kill_at is not None or self._cancelled is not None
        )

    def effects(self) -> list[Effect]:
        state = self._sequence(self._flow.tasks, "")
        if state is _FAILED:
            self._left += MORE_FOR_ERRORS
            state = max(state, self._sequence(self._flow.errors, ""), key=_GRAVITY.__getitem__)
        self._move(state)
        known = self._execution.wake_at
        if self._wake is not None and (known is None or self._wake < known):
            self._effects.append(WakeAt(self._wake))
        return self._effects

    # ── the walk; each answers the state that it comes to: a final one, RETRYING, or RUNNING ──

    def _sequence(self, tasks: Sequence[AnyTask], iteration: str) -> RunState:
        worst = _SUCCESS
        for task in tasks:
            state = self._task(task, iteration)
            if state is _WARNING:
                worst = state
            elif state is not _SUCCESS and state is not _SKIPPED:
                return state
        return worst

    def _parallel(self, task: Parallel, iteration: str) -> RunState:
        worst = _SUCCESS
        places = task.concurrent or len(task.tasks)
        for each in task.tasks:  # those that began come first, since they began in this order
            if places == 0 and (each.id, iteration) not in self._last:
                continue  # those that hold the places are not ended, so neither is the whole
            state = self._task(each, iteration)
            if state not in FINAL:
                places -= 1
            if _GRAVITY[state] > _GRAVITY[worst]:
                worst = state
        return worst

    def _loop(self, task: ForEach, run: Run) -> RunState:
        worst = _SUCCESS
        places = task.concurrency_limit or run.rounds or 0
        failed = False
        ended: list[tuple[RunState, int]] = []
        for number in run.open_rounds():  # those that began come first, save what a restart took over
            iteration = into_round(run.id.iteration, number)
            if (task.tasks[0].id, iteration) not in self._last and (self._killing or failed):
                if self._killing:
                    worst = max(worst, _KILLED, key=_GRAVITY.__getitem__)
                break
            if places == 0 and not self._killing:
                break  # those that hold the places are not ended, so neither is the whole
            state = self._sequence(task.tasks, iteration)
            if state in FINAL:
                failed = failed or state is _FAILED
                ended.append((state, number))
            else:
                places -= 1
            if _GRAVITY[state] > _GRAVITY[worst]:
                worst = state
        self._settle(task, run, ended)
        return worst

    def _settle(self, task: ForEach, run: Run, ended: Sequence[tuple[RunState, int]]) -> None:
        """Of the rounds that ended those are kept that the loop's own end is told by: the first failure, and the
        first warning."""
        if self._killing or self._full:
            return
        first: dict[RunState, tuple[datetime, int]] = {}
        for state, number in ended:
            cause = earliest_cause(task.tasks, self._last, state, into_round(run.id.iteration, number))
            if cause is not None and (state not in first or cause[0] < first[state][0]):
                first[state] = cause[0], number
        kept = {number for _, number in first.values()}
        self._effects += [Settle(run.id, task, number) for _, number in ended if number not in kept]

    def _task(self, task: AnyTask, iteration: str) -> RunState:
        run = self._last.get((task.id, iteration))
        if run is not None and run.state in FINAL:
            return run.state
        if run is None:
            if self._killing:
                return _KILLED  # it never begins
            if self._left <= 0:
                self._full = True
                return _FAILED  # nor does it
            self._left -= 1
            if task.disabled:
                self._effects.append(Skip(RunId(task.id, iteration)))
                return _SKIPPED
            run = self._begin(RunId(task.id, iteration), task)
        elif isinstance(task, Task):
            return self._leaf(task, run)
        elif run.state is _CREATED:
            return self._choice(task, run)
        return self._inside(task, run)

    def _inside(self, task: AnyTask, run: Run) -> RunState:
        """Flow control, as far as it is known what is to run of it; and a leaf that has just begun."""
        if isinstance(task, Parallel):
            return self._control(task, run, self._parallel(task, run.id.iteration))
        if isinstance(task, Sequential):
            return self._control(task, run, self._sequence(task.tasks, run.id.iteration))
        if isinstance(task, ForEach) and run.rounds is not None:
            return self._control(task, run, self._loop(task, run))
        if isinstance(task, If | Switch) and run.branch is not None:
            return self._control(task, run, self._sequence(task.children[run.branch], run.id.iteration))
        return _RUNNING

    def _begin(self, id: RunId, task: AnyTask) -> Run:
        self._effects.append(Begin(id, task))
        return Run(id, self._now)

    def _control(self, task: AnyTask, run: Run, state: RunState) -> RunState:
        """Flow control, by what its inside came to."""
        if state not in FINAL:
            if self._killing and run.state is not _KILLING:
                self._effects.append(Kill(run.id, job=False))
            return state
        message = cause_inside(task, run, self._last, state) or (_FULL if self._full and state is not _SUCCESS else "")
        if state is _FAILED:
            return self._fail(task, run, "", message)
        return self._end(run, state, "KILLED" if state is _KILLED else "", message)

    def _choice(self, task: AnyTask, run: Run) -> RunState:
        """An If, Switch or ForEach of which it is not known yet what is to run."""
        if self._killing:
            return self._end(run, _KILLED, "KILLED", "It was killed before it began.")
        if run.refused is not None:
            return self._fail(task, run, run.refused.reason, run.refused.message)
        self._effects.append(BeginAgain(run.id, task))
        return _RUNNING

    def _leaf(self, task: Task, run: Run) -> RunState:
        if run.state is _RETRYING:
            return self._retrying(task, run)
        job = run.job
        if job is None:
            return self._not_queued(task, run)
        if job.state in job_.FINAL:
            if job.state is _JOB_FAILED:
                return self._fail_leaf(task, run, job.reason, job.message)
            return self._end(run, RunState(job.state.value), job.reason, job.message)
        if self._killing:
            to_kill = job.state is not _JOB_KILLING
            if to_kill or run.state is not _KILLING:
                self._effects.append(Kill(run.id, to_kill))
        elif run.wait_limit is not None and job.state is _JOB_CREATED and job.waiting_since is not None:
            self._wait(run, run.wait_limit, job.waiting_since)
        return _RUNNING

    def _not_queued(self, task: Task, run: Run) -> RunState:
        """A leaf that has begun and has no job."""
        if self._killing:
            return self._end(run, _KILLED, "KILLED", "It was killed before it could be queued.")
        if run.refused is not None:
            return self._fail_leaf(task, run, run.refused.reason, run.refused.message)
        if run.again_at is None or run.again_at <= self._now:
            self._effects.append(BeginAgain(run.id, task))
        else:
            self._wake_at(run.again_at)
        return _RUNNING

    def _wait(self, run: Run, wait_limit: timedelta, since: datetime) -> None:
        """A leaf whose job waits, and may not wait for ever."""
        if since + wait_limit > self._now:
            self._wake_at(since + wait_limit)
            return
        limit = format_duration(wait_limit.total_seconds())
        message = f"It waited {limit} for a worker of its group, and its workerGroup.timeout allows no more."
        self._effects.append(EndWait(run.id, GROUP_WAIT_TIMEOUT, message))

    def _retrying(self, task: Task, run: Run) -> RunState:
        if self._killing:
            message = f"It was killed before its next attempt. Its last one failed: {run.message or run.reason}"
            return self._end(run, _KILLED, "KILLED", message)
        failed_at = run.ended_at or self._now
        at = self._next_attempt_at(task, run, failed_at)
        if at is None:  # what it inherits has changed
            return self._fail(task, run, run.reason, run.message)
        if at > self._now or failed_at >= self._now:  # a step's transaction makes one attempt, or it might never end
            self._wake_at(at)
            return _RETRYING
        self._end(run, _FAILED, run.reason, run.message)
        self._begin(run.id._replace(attempt=run.id.attempt + 1), task)
        return _RUNNING

    # ── ends ──

    def _fail_leaf(self, task: Task, run: Run, reason: str, message: str) -> RunState:
        at = None if self._killing else self._next_attempt_at(task, run, self._now)
        if at is None:
            return self._fail(task, run, reason, message)
        self._wake_at(at)
        return self._end(run, _RETRYING, reason, message)

    def _fail(self, task: AnyTask, run: Run, reason: str, message: str) -> RunState:
        return self._end(run, _WARNING if task.allow_failure else _FAILED, reason, message)

    def _end(self, run: Run, state: RunState, reason: str, message: str) -> RunState:
        self._effects.append(End(run.id, state, reason, message))
        self._last[run.id.task_id, run.id.iteration] = replace(
            run, state=state, reason=reason, message=message, ended_at=run.ended_at or self._now
        )
        return state

    def _next_attempt_at(self, task: Task, run: Run, failed_at: datetime) -> datetime | None:
        if task.retry is None or self._left <= 0:
            return None
        first = self._runs.get(run.id._replace(attempt=1), run)
        return next_attempt_at(task.retry, attempts=run.id.attempt, first_at=first.created_at, failed_at=failed_at)

    def _wake_at(self, at: datetime) -> None:
        if self._wake is None or at < self._wake:
            self._wake = at

    # ── what the execution comes to, and what it says of it ──

    def _move(self, state: RunState) -> None:
        if self._killing:
            to = ExecutionState.KILLED if state in FINAL else ExecutionState.KILLING
            message = self._execution.message if self._execution.state is ExecutionState.KILLING else self._killed_by()
        else:
            to = ExecutionState(state.value)
            message = first_cause(self._flow.tasks, self._last, state) or (_FULL if self._full else "")
        if to is not self._execution.state:
            self._effects.append(Move(to, message))

    def _killed_by(self) -> str:
        if self._execution.waits:
            return "A kill was asked for while it waited for its turn."
        if self._execution.kill_at is not None or self._cancelled is None:
            return "A kill was asked for."
        return killed_by(self._cancelled)
