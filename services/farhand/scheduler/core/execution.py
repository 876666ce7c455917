"""The life of an execution: its states, and what one step of it may ask for.

An execution is one run of a flow's revision. It moves by steps: something happened
(a job ended, a time came, a kill was asked for), somebody locks the execution, looks
at what is, and does what follows. `execution_step.step` is the rule. It is
level-triggered: it gets the flow, the execution and its task runs as they are, and
answers with effects, never with what happened before in mind. So a step that is
done twice, or by two replicas one after the other, changes nothing the second time.

How a caller (the scheduler's step loop) goes about it, all in one transaction:

    lock the execution's row; load `Execution` and all its `Run`s with their `JobView`s
    while effects := step(plan.flow, execution, runs, now=now):      # the plan: preparation.py
        execution, runs := after(execution, runs, effects, now=now)      # what needs no look around
        write what the effects say; for Begin, BeginAgain, Kill and EndWait
        put what came of it into `runs` (see there), then look again
    commit

`now` is the transaction's: two steps of one transaction have the same. Each round
changes something, so the loop ends; a flow's whole cascade takes few rounds.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from farhand.kernel.flow import AnyTask, ForEach, Parallel, Sequential
from farhand.scheduler.core import task_run
from farhand.scheduler.core.task_run import Run, RunId, RunState, into_round


class ExecutionState(StrEnum):
    """Where an execution is."""

    CREATED = "CREATED"  # recorded, and nothing of it has begun; also while it waits for its turn
    RUNNING = "RUNNING"  # it runs; also while its tasks wait for workers
    KILLING = "KILLING"  # to be ended; some of it has not ended yet
    RETRYING = "RETRYING"  # all that is left to do is to try a task again, later
    SUCCESS = "SUCCESS"  # all did what was asked
    WARNING = "WARNING"  # it ended well enough, with something to look at
    FAILED = "FAILED"  # a task failed
    KILLED = "KILLED"  # killed, or a task of it was cancelled


_S = ExecutionState

FINAL = frozenset({_S.SUCCESS, _S.WARNING, _S.FAILED, _S.KILLED})

TABLE: dict[ExecutionState, frozenset[ExecutionState]] = {
    _S.CREATED: frozenset({_S.RUNNING, _S.KILLING, _S.RETRYING, *FINAL}),
    _S.RUNNING: frozenset({_S.KILLING, _S.RETRYING, *FINAL}),
    _S.RETRYING: frozenset({_S.KILLING, _S.RUNNING, *FINAL}),
    _S.KILLING: frozenset({_S.KILLED, _S.FAILED}),  # FAILED: only when it is abandoned
    **{state: frozenset() for state in FINAL},
}
"""What may follow what."""


@dataclass(frozen=True, slots=True)
class Execution:
    """What the rules look at. Times are the database's."""

    state: ExecutionState = ExecutionState.CREATED
    kill_at: datetime | None = None  # when a kill was asked for; None: never
    message: str = ""  # why it did, or will, not succeed
    wake_at: datetime | None = None  # the earliest step that is already due later than now; None: there is none
    waits: bool = False  # CREATED: its flow's places are taken (places.py)
    runs_over: int = 0  # how many task runs it has beside those that were loaded: their rounds are over


NEEDS_NOTHING = (Parallel, Sequential)
"""Flow control that runs as soon as it begins."""


@dataclass(frozen=True, slots=True)
class Begin:
    """The task run begins: there is none of that id yet, and it becomes CREATED (NEEDS_NOTHING: RUNNING).

    A leaf: prepare it (preparation.py) and queue its job. Put into its Run then: `job`, as it is after the queue
    decided its fallback, which may have ended it, and `wait_limit`; or `refused`; or, if the registry is away,
    `again_at`, `reason` and `message`. An If or Switch: render what it chooses by; put `branch` and RUNNING, or
    `refused`. A ForEach: render its values; put `rounds` and RUNNING, or `refused`. NEEDS_NOTHING: nothing more.
    """

    run: RunId
    task: AnyTask


@dataclass(frozen=True, slots=True)
class BeginAgain:
    """The task run is there, CREATED, and nothing came of it yet: its `again_at` has come. Do as Begin says."""

    run: RunId
    task: AnyTask


@dataclass(frozen=True, slots=True)
class Skip:
    """The task is disabled: its task run is made SKIPPED."""

    run: RunId


@dataclass(frozen=True, slots=True)
class End:
    """The task run goes to this state, which is final or RETRYING.

    An `ended_at` that it has already is kept: that of an attempt is the time at which it failed.
    """

    run: RunId
    state: RunState
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Settle:
    """A round of a ForEach has ended, and whatever may still be asked about the loop can be told without it: its bit
    is set in `rounds_over`, and its task runs become `over`. A step of a long loop so looks at what is not over."""

    run: RunId  # the loop's
    task: ForEach
    round: int


@dataclass(frozen=True, slots=True)
class Kill:
    """The task run becomes KILLING; a leaf's job is killed (`job` set): one that waits ends at once, one that a
    worker has becomes KILLING. Put the job as it is then into its Run."""

    run: RunId
    job: bool


@dataclass(frozen=True, slots=True)
class EndWait:
    """The job has waited too long for a worker: it ends FAILED by this, if it waits still. Put the job as it is then
    into its Run; a claim that was faster wins."""

    run: RunId
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class WakeAt:
    """A step is due at this time, and none before it is known to be. Too many of them do no harm."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Move:
    """The execution goes to this state. The message is the whole of what it says about itself from now on."""

    state: ExecutionState
    message: str = ""


Effect = Begin | BeginAgain | Skip | End | Settle | Kill | EndWait | WakeAt | Move


class IllegalMove(Exception):
    """An effect that the tables do not have; nothing was changed."""


def after(
    execution: Execution, runs: Mapping[RunId, Run], effects: Iterable[Effect], *, now: datetime
) -> tuple[Execution, dict[RunId, Run]]:
    """Both as they are when the effects are written, save what only the caller knows: what became of jobs, of
    preparations and of conditions, which it puts into the runs itself.

    Raises IllegalMove for what the tables do not have: then the caller has mixed up executions, or the rules are
    wrong, and nothing of it may be written.
    """
    made = dict(runs)
    for effect in effects:
        match effect:
            case Begin(id, task):
                first = RunState.RUNNING if isinstance(task, NEEDS_NOTHING) else RunState.CREATED
                _make(made, Run(id, created_at=now, state=first))
            case Skip(id):
                _make(made, Run(id, created_at=now, state=RunState.SKIPPED, ended_at=now))
            case BeginAgain(id):
                made[id] = replace(made[id], again_at=None, reason="", message="")
            case End(id, state, reason, message):
                run = _moved(made, id, state)
                made[id] = replace(run, ended_at=run.ended_at or now, reason=reason, message=message)
            case Settle(id, loop, number):
                run = made[id]
                for inside in list(_inside(made, loop.tasks, into_round(id.iteration, number))):
                    made[inside] = replace(made[inside], over=True)
                made[id] = replace(run, rounds_over=run.rounds_over | 1 << number)
            case Kill(id):
                if made[id].state is not RunState.KILLING:
                    made[id] = _moved(made, id, RunState.KILLING)
            case EndWait():
                pass
            case WakeAt(at):
                execution = replace(execution, wake_at=at)
            case Move(state, message):
                if state not in TABLE[execution.state]:
                    raise IllegalMove(f"an execution that is {execution.state} does not become {state}")
                execution = replace(execution, state=state, message=message)
    return execution, made


def _make(runs: dict[RunId, Run], run: Run) -> None:
    if run.id in runs:
        raise IllegalMove(f"task run {run.id} begins twice")
    runs[run.id] = run


def _inside(runs: Mapping[RunId, Run], tasks: Iterable[AnyTask], iteration: str) -> Iterator[RunId]:
    """The task runs of these tasks and of all that is inside of them, as far as they are not over."""
    for task in tasks:
        id = RunId(task.id, iteration)
        run = runs.get(id)
        while id in runs:
            yield id
            id = id._replace(attempt=id.attempt + 1)
        if isinstance(task, ForEach):
            for number in run.open_rounds() if run else ():
                yield from _inside(runs, task.tasks, into_round(iteration, number))
        else:
            for inside in task.children.values():
                yield from _inside(runs, inside, iteration)


def _moved(runs: dict[RunId, Run], id: RunId, state: RunState) -> Run:
    run = runs[id]
    if state not in task_run.TABLE[run.state]:
        raise IllegalMove(f"task run {id} that is {run.state} does not become {state}")
    return replace(run, state=state)
