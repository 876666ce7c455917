"""What clients and jobs wrote down, event by event: the only evidence that the checker takes.

Clients write `submit` before each attempt and `submitted` once an answer came, `kill`
and `killed` likewise, and `final` whenever they see that a job has ended. Jobs write
`start`, `alive` every now and then, and `end`, each into the file of the worker that
runs them. Whoever sets the stage writes one `worker` line for each worker. Times (`at`,
`began`, `spawned`) are seconds of one machine's CLOCK_MONOTONIC. Each event keeps its
line, so that a finding can show what proves it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Line:
    """Where an event stands, and how."""

    place: str  # FILE:NUMBER
    text: str

    def __str__(self) -> str:
        return f"{self.place}  {self.text}"


@dataclass(frozen=True, slots=True)
class Submit:
    """A client begins to submit; `submit`."""

    line: Line
    at: float
    request: str
    group: str
    tenant: str
    expects: frozenset[str]  # states that it may end in by itself


@dataclass(frozen=True, slots=True)
class Submitted:
    """A submit was acknowledged; `submitted`."""

    line: Line
    at: float
    request: str
    job: str


@dataclass(frozen=True, slots=True)
class Kill:
    """A client begins to ask for a kill; `kill`."""

    line: Line
    at: float
    job: str


@dataclass(frozen=True, slots=True)
class Killed:
    """A kill was acknowledged, in this state of the job; `killed`."""

    line: Line
    at: float
    began: float
    job: str
    state: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a client was told of one assignment of a job, with the database's times in microseconds."""

    fence: int
    worker: str
    assigned: int | None = None
    lost: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Final:
    """A client saw that a job had ended; `final`."""

    line: Line
    at: float
    job: str
    state: str
    fence: int  # 0: it was never assigned
    assignments: tuple[Assignment, ...] = ()


@dataclass(frozen=True, slots=True)
class RunLine:
    """A program of a job lives; `start`, `alive` or `end`."""

    line: Line
    what: str
    at: float
    spawned: float  # when its process was made; the start may be written a little later
    request: str
    job: str
    fence: int
    worker: str
    group: str
    tenant: str


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker as it was set up; `worker`. Several lines of one worker agree."""

    line: Line
    worker: str
    group: str
    tenants: frozenset[str] | None  # None: all


Event = Submit | Submitted | Kill | Killed | Final | RunLine | Worker
RUN_LINES = ("start", "alive", "end")


def parse(line: Line, raw: Mapping[str, Any]) -> Event:
    """One event. KeyError, TypeError or ValueError where the line is none."""
    what = str(raw["what"])
    if what == "worker":
        tenants = raw.get("tenants")
        return Worker(line, str(raw["worker"]), str(raw["group"]), None if tenants is None else frozenset(tenants))
    at = float(raw["at"])
    match what:
        case "submit":
            expects = frozenset(map(str, raw.get("expects", ("SUCCESS",))))
            return Submit(line, at, str(raw["request"]), str(raw["group"]), str(raw["tenant"]), expects)
        case "submitted":
            return Submitted(line, at, str(raw["request"]), str(raw["job"]))
        case "kill":
            return Kill(line, at, str(raw["job"]))
        case "killed":
            return Killed(line, at, float(raw["began"]), str(raw["job"]), str(raw["state"]))
        case "final":
            assignments = tuple(Assignment(**assignment) for assignment in raw.get("assignments", ()))
            return Final(line, at, str(raw["job"]), str(raw["state"]), int(raw["fence"]), assignments)
        case _ if what in RUN_LINES:
            spawned = float(raw.get("spawned", at))
            job, fence = str(raw["job"]), int(raw["fence"])
            worker, group, tenant = str(raw["worker"]), str(raw["group"]), str(raw["tenant"])
            return RunLine(line, what, at, spawned, str(raw["request"]), job, fence, worker, group, tenant)
        case _:
            raise ValueError(f"nothing is called {what!r}")


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
class History:
    """All events, by what they are about."""

    requests: dict[str, Request] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    workers: dict[str, Worker] = field(default_factory=dict)

    @classmethod
    def of(cls, events: Iterable[Event]) -> "History":
        """Sorts them in, whatever order they come in."""
        history = cls()
        for event in events:
            history._add(event)
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
            case RunLine():
                self._job(event.job).lines.append(event)
                self._job(event.job).requests.add(event.request)

    def request_of(self, job: Job) -> Request | None:
        """Its request; None where nobody asked for it."""
        found = [self.requests[name] for name in sorted(job.requests) if name in self.requests]
        return next((request for request in found if request.submits), None)

    def _request(self, name: str) -> Request:
        return self.requests.setdefault(name, Request(name))

    def _job(self, name: str) -> Job:
        return self.jobs.setdefault(name, Job(name))
