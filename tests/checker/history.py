"""All events, by what they are about: requests, jobs, executions, workers, flows.

A task run's job is judged as any job is. Nobody submits it, so its request is made
here, from the creation of its execution and from what its flow says of the task: its
name is EXECUTION/TASK/ATTEMPT, and it has no acknowledgement.

Nobody creates what a trigger starts. Each tick between a schedule's first and its last,
and each file that was dropped, is a creation that is made here.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.checker.events import (
    Assignment,
    Create,
    Created,
    Drop,
    Ended,
    Event,
    ExecutionKilled,
    Final,
    Fired,
    Kill,
    Killed,
    KillExecution,
    QuotaLine,
    Restart,
    Restarted,
    RunLine,
    SavedFlow,
    Schedule,
    ScheduleEnded,
    Submit,
    Submitted,
    TaskRun,
    Worker,
    fired_name,
    task_run_name,
)
from tests.checker.flow_tree import Tree

MOST_LOST = 3  # deliveries of a task's job before it ends FAILED (WORKER_LOST)


@dataclass(slots=True)
class Request:
    """One wish for a job: all that was written under its request id."""

    id: str
    submits: list[Submit] = field(default_factory=list)
    acks: list[Submitted] = field(default_factory=list)

    @property
    def began(self) -> float:
        return min(submit.at for submit in self.submits)

    @property
    def acked(self) -> float | None:
        return min((ack.at for ack in self.acks), default=None)


@dataclass(slots=True)
class Run:
    """What was written by the runs of a job under one fence; there should be one."""

    fence: int
    starts: list[RunLine] = field(default_factory=list)
    ends: list[RunLine] = field(default_factory=list)
    last: RunLine | None = None  # the last sign of life

    @property
    def first(self) -> RunLine:
        return min(self.starts, key=lambda line: line.at)


@dataclass(slots=True)
class Job:
    """All that is known under one job id."""

    id: str
    requests: set[str] = field(default_factory=set)  # that it was acknowledged for, or that its programs named
    acks: list[Submitted] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    killed: list[Killed] = field(default_factory=list)
    finals: list[Final] = field(default_factory=list)
    lines: list[RunLine] = field(default_factory=list)
    runs: dict[int, Run] = field(default_factory=dict)  # by fence; those with a start

    def assignments(self) -> dict[int, Assignment]:
        """By fence: what clients were told of, and beyond that what ran."""
        found = {run.fence: Assignment(run.fence, run.first.worker) for run in self.runs.values()}
        for final in self.finals:
            found |= {assignment.fence: assignment for assignment in final.assignments}
        return found


@dataclass(slots=True)
class Execution:
    """All that is known under one execution id."""

    id: str
    requests: set[str] = field(default_factory=set)  # that it was acknowledged for, or that its programs named
    acks: list[Created | Restarted | Fired] = field(default_factory=list)
    restart_of: str = ""  # the execution that it goes on from; then its programs name that one's request
    kills: list[KillExecution] = field(default_factory=list)
    killed: list[ExecutionKilled] = field(default_factory=list)
    ends: list[Ended] = field(default_factory=list)
    lines: list[RunLine] = field(default_factory=list)

    def lives(self) -> dict[tuple[str, int], list[RunLine]]:
        """What the programs of each task run wrote, by task and attempt, in the order of time."""
        found: dict[tuple[str, int], list[RunLine]] = {}
        for line in sorted(self.lines, key=lambda line: line.at):
            found.setdefault((line.task, line.attempt), []).append(line)
        return found


@dataclass(slots=True)
class History:
    """All events, by what they are about."""

    requests: dict[str, Request] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    workers: dict[str, Worker] = field(default_factory=dict)
    quotas: dict[tuple[str, str], QuotaLine] = field(default_factory=dict)  # by group and tenant
    executions: dict[str, Execution] = field(default_factory=dict)
    creates: dict[str, list[Create]] = field(default_factory=dict)  # by request
    restarts: dict[str, list[Restart]] = field(default_factory=dict)  # by request
    flows: dict[tuple[str, str], SavedFlow] = field(default_factory=dict)  # by tenant and id
    schedules: dict[tuple[str, str], Schedule] = field(default_factory=dict)  # by tenant and flow, as their ends
    schedule_ends: dict[tuple[str, str], ScheduleEnded] = field(default_factory=dict)
    drops: dict[str, Drop] = field(default_factory=dict)  # by request

    @classmethod
    def of(cls, events: Iterable[Event]) -> "History":
        """Sorts them in, whatever order they come in."""
        history = cls()
        for event in events:
            history._add(event)
        for schedule in history.schedules.values():
            history._ask_for_ticks(schedule)
        for execution in list(history.executions.values()):
            history._ask_for_task_runs(execution)
        for job in history.jobs.values():
            for line in sorted(job.lines, key=lambda line: line.at):
                run = job.runs.setdefault(line.fence, Run(line.fence))
                run.last = line
                {"start": run.starts, "end": run.ends}.get(line.what, []).append(line)
            job.runs = {fence: run for fence, run in job.runs.items() if run.starts}
        return history

    def _add(self, event: Event) -> None:
        match event:
            case Worker():
                self.workers[event.worker] = event
            case QuotaLine():
                self.quotas[event.group, event.tenant] = event
            case Submit():
                self._request(event.request).submits.append(event)
            case Submitted():
                self._request(event.request).acks.append(event)
                self._job(event.job).acks.append(event)
                self._job(event.job).requests.add(event.request)
            case Kill():
                self._job(event.job).kills.append(event)
            case Killed():
                self._job(event.job).killed.append(event)
            case Final():
                self._job(event.job).finals.append(event)
            case RunLine() if event.execution:
                execution = self._execution(event.execution)
                execution.lines.append(event)
                execution.requests.add(event.request)
                self._add_to_job(event)
            case RunLine():
                self._add_to_job(event)
            case SavedFlow():
                self.flows[event.tenant, event.flow] = event
            case Create():
                self.creates.setdefault(event.request, []).append(event)
            case Created() | Fired():
                self._execution(event.execution).acks.append(event)
                self._execution(event.execution).requests.add(event.request)
            case Restart():
                self.restarts.setdefault(event.request, []).append(event)
            case Restarted():
                execution = self._execution(event.execution)
                execution.acks.append(event)
                execution.restart_of = event.of
            case KillExecution():
                self._execution(event.execution).kills.append(event)
            case ExecutionKilled():
                self._execution(event.execution).killed.append(event)
            case Schedule():
                self.schedules[event.tenant, event.flow] = event
            case ScheduleEnded():
                self.schedule_ends[event.tenant, event.flow] = event
            case Drop():
                self.drops[event.request] = event
                self._ask_for(event.request, event)
            case Ended():
                execution = self._execution(event.execution)
                execution.ends.append(event)
                for run in event.runs:
                    if run.job and not run.taken:
                        self._job(run.job).requests.add(task_run_name(execution.id, run.task, run.attempt))

    def _add_to_job(self, line: RunLine) -> None:
        self._job(line.job).lines.append(line)
        self._job(line.job).requests.add(line.wish)

    def request_of(self, job: Job) -> Request | None:
        """Its request; None where nobody asked for it."""
        found = [self.requests[name] for name in sorted(job.requests) if name in self.requests]
        return next((request for request in found if request.submits), None)

    def create_of(self, execution: Execution) -> Create | None:
        """The first attempt to create it, or the one that it is a restart of; None where nobody asked for it."""
        if execution.restart_of:
            return self.create_of(self._execution(execution.restart_of))
        found = [create for name in sorted(execution.requests) for create in self.creates.get(name, ())]
        return min(found, key=lambda create: create.at, default=None)

    def tree_of(self, execution: Execution) -> Tree | None:
        """Its flow; None where nobody asked for it, or saved that."""
        create = self.create_of(execution)
        saved = None if create is None else self.flows.get((create.tenant, create.flow))
        return None if saved is None else saved.tree

    def ticks(self, schedule: Schedule) -> Iterator[str]:
        """The names of all of its ticks up to its last, or up to the last that is known of one that was not ended."""
        end = self.schedule_ends.get((schedule.tenant, schedule.flow))
        last = self._last_known(schedule) if end is None else end.last
        at = schedule.first
        while at <= last:
            yield fired_name(schedule.tenant, schedule.flow, at.isoformat())
            at += timedelta(seconds=schedule.every)

    def _last_known(self, schedule: Schedule) -> datetime:
        prefix = fired_name(schedule.tenant, schedule.flow, "")
        names = {name for execution in self.executions.values() for name in execution.requests}
        known = [datetime.fromisoformat(name.removeprefix(prefix)) for name in names if name.startswith(prefix)]
        return max(known, default=schedule.first)

    def _ask_for_ticks(self, schedule: Schedule) -> None:
        for name in self.ticks(schedule):
            self._ask_for(name, schedule)

    def _ask_for(self, name: str, by: Schedule | Drop) -> None:
        self.creates[name] = [Create(by.line, by.at, name, by.tenant, by.flow, "then")]

    def _ask_for_task_runs(self, execution: Execution) -> None:
        create, tree = self.create_of(execution), self.tree_of(execution)
        if create is None or tree is None:
            return
        for task, attempt in {(run.task, run.attempt) for run in _task_runs(execution)}:
            leaf = tree.leaves.get(task)
            if leaf is None or attempt > leaf.attempts:
                continue  # nobody asked for that
            expects = {"FAILED" if leaf.code(attempt) else "SUCCESS"}
            if leaf.fallback == "FAIL" or _worker_lost(execution, task, attempt):
                expects.add("FAILED")
            if execution.kills or tree.cancels:
                expects.add("KILLED")
            name = task_run_name(execution.id, task, attempt)
            submit = Submit(create.line, create.at, name, leaf.group, create.tenant, frozenset(expects))
            self._request(name).submits.append(submit)

    def _request(self, name: str) -> Request:
        return self.requests.setdefault(name, Request(name))

    def _job(self, name: str) -> Job:
        return self.jobs.setdefault(name, Job(name))

    def _execution(self, name: str) -> Execution:
        return self.executions.setdefault(name, Execution(name))


def _task_runs(execution: Execution) -> Iterator[TaskRun | RunLine]:
    yield from execution.lines
    for end in execution.ends:
        yield from (run for run in end.runs if run.job and not run.taken)


def _worker_lost(execution: Execution, task: str, attempt: int) -> bool:
    """Whether its job was lost with its workers more often than is allowed."""
    runs = [run for end in execution.ends for run in end.runs if (run.task, run.attempt) == (task, attempt)]
    return any(run.reason == "WORKER_LOST" and run.lost >= MOST_LOST for run in runs)
