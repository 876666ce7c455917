"""One execution in the hands of a step, and all that the step will write of it.

The rules (core.execution_step) say what follows; here their effects are put into
the execution and its task runs, again and again until nothing follows, and what is
to be written is gathered. A `Begin` needs more than the rules know (outputs, keys,
the copy of the registry): `advance` stops there, and the caller, who holds many
executions and asks for all of them at once, puts in what came of it and goes on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from farhand.kernel.job_id import execution_id, task_run_id
from farhand.scheduler.core import execution as states
from farhand.scheduler.core.execution import (
    NEEDS_NOTHING,
    Begin,
    BeginAgain,
    Effect,
    EndWait,
    Execution,
    Kill,
    Move,
    WakeAt,
    after,
)
from farhand.scheduler.core.execution_step import abandon, step
from farhand.scheduler.core.job import JobState
from farhand.scheduler.core.preparation import Facts, FlowPlan, Prepared
from farhand.scheduler.core.task_run import JobView, Refused, Run, RunId, RunState, into_round
from farhand.scheduler.loops.named_outputs import Named, Outputs
from farhand.scheduler.store.executions import Found, Locked, MovedRow, RunRow
from farhand.scheduler.store.queue import NewJob

# Until a task run is tried again that can't be queued: the registry is away, or its queue has no room for it.
AGAIN = timedelta(seconds=2)
MOST_TURNS = 5_000  # of one step between two begins; more can only be a mistake, which must not stop the others
BEGINS_AT_ONCE = 50  # turns at which something begins, in one transaction; what is left is due at once


@dataclass(frozen=True, slots=True)
class Queued:
    """A job to be queued, and how its group was found."""

    job: NewJob
    prepared: Prepared


@dataclass
class Moving:
    """See the module. `asked`: the registry was asked since this execution was found to want what is not there."""

    locked: Locked
    found: Sequence[Found]
    asked: bool = False
    plan: FlowPlan | None = None

    execution: Execution = field(init=False)
    runs: dict[RunId, Run] = field(init=False)
    keys: dict[RunId, int] = field(init=False)
    jobs: dict[RunId, Queued] = field(init=False)
    kills: list[RunId] = field(init=False)
    overdue: list[EndWait] = field(init=False)
    wakes: list[datetime] = field(init=False)
    passed: list[str] = field(init=False)  # the states that the execution goes through
    ask: bool = field(init=False)  # the registry is to be asked
    changed: bool = field(init=False)
    values: dict[RunId, Sequence[Any]] = field(init=False)  # of loops that know them since this step
    _turns: int = field(init=False)

    def __post_init__(self) -> None:
        self.outputs = Outputs(self.found)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.execution = self.locked.execution
        self.runs = {found.run.id: self._as_found(found.run) for found in self.found}
        self.keys = {found.run.id: found.key for found in self.found}
        self.jobs, self.kills, self.overdue, self.wakes, self.passed = {}, [], [], [], []
        self.ask = self.changed = False
        self.values = {}
        self._turns = 0

    def _as_found(self, run: Run) -> Run:
        return replace(run, again_at=None) if self.asked and run.again_at is not None else run

    @property
    def key(self) -> int:
        """The execution's key."""
        return self.locked.key

    @property
    def ended(self) -> bool:
        """Whether this step ends it."""
        return bool(self.passed) and self.execution.state in states.FINAL

    def advance(self) -> list[Begin | BeginAgain]:
        """Do what follows, up to where something begins that needs the caller; empty: nothing follows any more."""
        assert self.plan is not None
        self._turns += 1
        if self._turns > BEGINS_AT_ONCE:  # a long loop whose rounds need no worker must not hold up the others
            self.wakes.append(self.locked.now)
            return []
        for _ in range(MOST_TURNS):
            effects = step(self.plan.flow, self.execution, self.runs, now=self.locked.now)
            self._apply(effects)
            begins = [
                effect
                for effect in effects
                if isinstance(effect, Begin | BeginAgain) and not isinstance(effect.task, NEEDS_NOTHING)
            ]
            if begins or not effects:
                return begins
        raise RuntimeError(f"a step did not come to an end in {MOST_TURNS:,} turns")

    def abandon(self, message: str) -> None:
        """Forget what this step did, and end the execution instead."""
        self._begin_anew()
        self._apply(abandon(self.execution, self.runs, message))

    def without_key(self) -> list[RunId]:
        """Task runs that were made and have no key yet."""
        return [id for id in self.runs if id not in self.keys]

    def named(self, id: RunId) -> dict[str, Named]:
        """Where the outputs are that a task run's expressions name, by task."""
        assert self.plan is not None
        return self.outputs.named(self.plan, id, self.runs)

    def rounds_around(self, id: RunId) -> list[tuple[RunId, int]]:
        """The rounds whose values a task run's expressions name: the loops' runs and the numbers, outermost first."""
        assert self.plan is not None
        if not self.plan.values_needed(id.task_id):
            return []
        found: list[tuple[RunId, int]] = []
        iteration = ""
        for loop, number in zip(self.plan.places[id.task_id].loops, id.iteration.split("/"), strict=True):
            found.append((RunId(loop, iteration), int(number)))
            iteration = into_round(iteration, int(number))
        return found

    def facts(self, id: RunId, outputs: Mapping[str, Mapping[str, Any]], values: Sequence[Any]) -> Facts:
        """What a task run's expressions may name."""
        return Facts(
            tenant=self.locked.tenant,
            flow_revision=self.locked.flow_revision,
            execution_id=execution_id(self.key),
            execution_created_at=self.locked.created_at,
            inputs=self.locked.inputs,
            labels=self.locked.labels,
            outputs=outputs,
            run=id,
            run_id=task_run_id(self.keys[id]),
            run_created_at=self.runs[id].created_at,
            trigger=self.locked.trigger,
            values=values,
        )

    # ── what came of a Begin ──

    def branched(self, id: RunId, branch: str) -> None:
        """An If or a Switch knows its branch."""
        self.runs[id] = replace(self.runs[id], branch=branch, state=RunState.RUNNING)

    def looped(self, id: RunId, values: Sequence[Any]) -> None:
        """A ForEach knows its values."""
        self.runs[id] = replace(self.runs[id], rounds=len(values), state=RunState.RUNNING)
        self.values[id] = values

    def queued(self, id: RunId, queued: Queued) -> None:
        """A leaf has a job, which waits."""
        job = JobView(JobState.CREATED, waiting_since=self.locked.now)
        self.runs[id] = replace(self.runs[id], job=job, wait_limit=queued.prepared.wait_limit)
        self.jobs[id] = queued

    def refused(self, id: RunId, refused: Refused) -> None:
        """It can't begin; or, where only our copy of the registry says so, not yet: then the registry is asked, and
        it is tried again, also while that can't be reached."""
        self.jobs.pop(id, None)
        run = replace(self.runs[id], job=None, wait_limit=None)
        if not refused.ask_registry or self.asked:
            self.runs[id] = replace(run, refused=refused)
            return
        message = (
            f"{refused.message} That is what this scheduler knows; before it is final the registry is asked, and "
            f"until it answers this is tried again every {AGAIN.seconds} seconds."
        )
        self.runs[id] = replace(run, again_at=self.locked.now + AGAIN, reason=refused.reason, message=message)
        self.ask = True

    def held_back(self, id: RunId, reason: str, message: str) -> None:
        """It can't be queued yet, and says why; it is tried again."""
        self.jobs.pop(id)
        run = replace(self.runs[id], job=None, wait_limit=None)
        self.runs[id] = replace(run, again_at=self.locked.now + AGAIN, reason=reason, message=message)

    # ── effects ──

    def _apply(self, effects: Sequence[Effect]) -> None:
        self.execution, self.runs = after(self.execution, self.runs, effects, now=self.locked.now)
        self.changed = True
        for effect in effects:
            match effect:
                case Kill(id, job) if job:
                    # Where it waits it ends at once, which makes another step due; that one sees the end.
                    self._job_is(id, JobState.KILLING)
                    self.kills.append(id)
                case EndWait(id):
                    self._job_is(id, JobState.ASSIGNED)
                    self.overdue.append(effect)
                case WakeAt(at):
                    self.wakes.append(at)
                case Move(state):
                    self.passed.append(state.value)

    def _job_is(self, id: RunId, state: JobState) -> None:
        run = self.runs[id]
        assert run.job is not None
        self.runs[id] = replace(run, job=replace(run.job, state=state))

    # ── what is to be written ──

    def rows(self, job_keys: Mapping[RunId, int]) -> tuple[list[RunRow], list[RunRow]]:
        """Task runs to insert and to update. `job_keys`: of the jobs that are queued."""
        found = {one.run.id: one for one in self.found}
        new: list[RunRow] = []
        changed: list[RunRow] = []
        for id, run in self.runs.items():
            before = found.get(id)
            if before is None:
                new.append(self._row(run, None, job_keys))
            elif id in job_keys or (run is not before.run and _kept(before.run) != _kept(run)):
                changed.append(self._row(run, before, job_keys))
        return new, changed

    def _row(self, run: Run, before: Found | None, job_keys: Mapping[RunId, int]) -> RunRow:
        prepared = self.jobs[run.id].prepared if run.id in self.jobs else None
        started_at = before.started_at if before else None
        if started_at is None and run.state is RunState.RUNNING:
            started_at = self.locked.now
        return RunRow(
            self.keys[run.id],
            self.key,
            run.id,
            run.state.value,
            job_keys.get(run.id, before.job_key if before else None),
            run.branch,
            run.reason or None,
            run.message or None,
            prepared.placement.key if prepared else None,
            prepared.key_level if prepared else None,
            prepared.placement.fallback.value if prepared else None,
            prepared.fallback_level if prepared else None,
            run.wait_limit,
            run.again_at,
            run.created_at,
            started_at,
            run.ended_at,
            run.rounds,
            run.rounds_over.to_bytes((run.rounds_over.bit_length() + 7) // 8, "little") or None,
            run.over,
        )

    def over(self) -> list[int]:
        """The keys of task runs that were found and that no step reads again."""
        return [found.key for found in self.found if self.runs[found.run.id].over]

    def moved(self) -> MovedRow | None:
        """The execution as it is to be written; None: as it was."""
        runs_over = self.locked.execution.runs_over + sum(run.over for run in self.runs.values())
        if self.execution == self.locked.execution and not self.passed and runs_over == self.execution.runs_over:
            return None
        return MovedRow(
            self.key,
            self.passed,
            self.execution.message,
            self.execution.wake_at,
            self.locked.now if self.ended else None,
            runs_over,
        )


def _kept(run: Run) -> Run:
    """What of a task run is kept in its row, apart from whether it is over."""
    return replace(run, job=None, refused=None, over=False)
