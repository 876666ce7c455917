"""What clients and jobs wrote down, event by event: the only evidence that the checker takes.

Clients write `submit` before each attempt and `submitted` once an answer came, `kill`
and `killed` likewise, and `final` whenever they see that a job has ended; of executions
`create`, `created`, `restart`, `restarted`, `kill execution`, `execution killed` and
`ended`, and `final` of the jobs of their task runs; of triggers `schedule` once one is
there and `schedule ended` once it is disabled, `drop` before each file that one is to
find, and `fired` for each execution that one started. Jobs write `start`, `alive` every
now and then, and `end`, each into the file of the worker that runs them; those of task
runs say of which. Whoever sets the stage writes one `worker` line for each worker, one
`flow` line for each flow and one `quota` line for each tenant that a group's quotas
bind.
Times (`at`, `began`, `spawned`) are seconds of one machine's CLOCK_MONOTONIC; ticks are
in ISO 8601. Each event keeps its line, so that a finding can show what proves it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.checker.flow_tree import Tree, read_tree


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
    # Of a task run; its request is that of the execution.
    execution: str = ""
    task: str = ""
    attempt: int = 0
    got: Mapping[str, str] = field(default_factory=dict)  # by task: the fence that its outputs tell

    @property
    def wish(self) -> str:
        """The name of its job's request."""
        return task_run_name(self.execution, self.task, self.attempt) if self.execution else self.request


def task_run_name(execution: str, task: str, attempt: int) -> str:
    """What the request of a task run's job is called."""
    return f"{execution}/{task}/{attempt}"


@dataclass(frozen=True, slots=True)
class SavedFlow:
    """A flow as it was saved; `flow`."""

    line: Line
    tenant: str
    flow: str
    tree: Tree


@dataclass(frozen=True, slots=True)
class Create:
    """A client begins to create an execution; `create`."""

    line: Line
    at: float
    request: str
    tenant: str
    flow: str
    branch: str  # that each If is to take


@dataclass(frozen=True, slots=True)
class Created:
    """A creation was acknowledged; `created`."""

    line: Line
    at: float
    request: str
    execution: str


@dataclass(frozen=True, slots=True)
class Restart:
    """A client begins to restart an execution that FAILED; `restart`."""

    line: Line
    at: float
    request: str
    execution: str


@dataclass(frozen=True, slots=True)
class Restarted:
    """A restart was acknowledged: of this execution, as that; `restarted`."""

    line: Line
    at: float
    request: str
    of: str
    execution: str


@dataclass(frozen=True, slots=True)
class KillExecution:
    """A client begins to ask for the kill of an execution; `kill execution`."""

    line: Line
    at: float
    execution: str


@dataclass(frozen=True, slots=True)
class ExecutionKilled:
    """The kill of an execution was acknowledged, in this state; `execution killed`."""

    line: Line
    at: float
    began: float
    execution: str
    state: str


@dataclass(frozen=True, slots=True)
class TaskRun:
    """What a client was told of one task run of an execution that has ended."""

    task: str
    attempt: int
    state: str
    job: str = ""  # empty: flow control
    reason: str = ""
    lost: int = 0  # deliveries
    taken: str = ""  # the execution that ran it; empty: this one


@dataclass(frozen=True, slots=True)
class Ended:
    """A client saw that an execution had ended; `ended`."""

    line: Line
    at: float
    execution: str
    state: str
    runs: tuple[TaskRun, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A trigger that has a tick every so many seconds, from its first on; `schedule`."""

    line: Line
    at: float  # before its flow was saved
    tenant: str
    flow: str
    first: datetime
    every: int


@dataclass(frozen=True, slots=True)
class ScheduleEnded:
    """A schedule was disabled, and this was its last tick; `schedule ended`."""

    line: Line
    tenant: str
    flow: str
    last: datetime


@dataclass(frozen=True, slots=True)
class Drop:
    """A client begins to put a file where a trigger of this flow looks; `drop`."""

    line: Line
    at: float
    request: str
    tenant: str
    flow: str


@dataclass(frozen=True, slots=True)
class Fired:
    """A client saw an execution that a trigger started, for the tick or file of this name; `fired`."""

    line: Line
    at: float
    request: str
    execution: str


def fired_name(tenant: str, flow: str, what: str) -> str:
    """The request of an execution that a trigger starts, for this file, or for the tick at this time."""
    return f"{tenant}/{flow}@{what}"


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker as it was set up; `worker`. Several lines of one worker agree."""

    line: Line
    worker: str
    group: str
    tenants: frozenset[str] | None  # None: all


@dataclass(frozen=True, slots=True)
class QuotaLine:
    """How many jobs of a tenant a group may have with its workers; `quota`. It is declared before the first submit, and
    stays."""

    line: Line
    group: str
    tenant: str
    max_running: int


Event = (
    Submit
    | Submitted
    | Kill
    | Killed
    | Final
    | RunLine
    | Worker
    | QuotaLine
    | SavedFlow
    | Create
    | Created
    | Restart
    | Restarted
    | KillExecution
    | ExecutionKilled
    | Ended
    | Schedule
    | ScheduleEnded
    | Drop
    | Fired
)
RUN_LINES = ("start", "alive", "end")
FINAL = frozenset({"SUCCESS", "WARNING", "FAILED", "KILLED"})
# A kill is answered KILLING after 2 seconds without a word from the worker; an earlier answer rests on its word.
UNCONFIRMED_FROM = 1.9


def confirmed(answer: Killed | ExecutionKilled) -> bool:
    """Whether the acknowledgement of a kill says that nothing starts any more (P9)."""
    return answer.state in FINAL or answer.at - answer.began < UNCONFIRMED_FROM


def parse(line: Line, raw: Mapping[str, Any]) -> Event:
    """One event. KeyError, TypeError or ValueError where the line is none."""
    what = str(raw["what"])
    if what == "worker":
        tenants = raw.get("tenants")
        return Worker(line, str(raw["worker"]), str(raw["group"]), None if tenants is None else frozenset(tenants))
    if what == "quota":
        return QuotaLine(line, str(raw["group"]), str(raw["tenant"]), int(raw["max_running"]))
    if what == "flow":
        return SavedFlow(line, str(raw["tenant"]), str(raw["flow"]), read_tree(raw))
    if what == "schedule ended":
        return ScheduleEnded(line, str(raw["tenant"]), str(raw["flow"]), datetime.fromisoformat(raw["last"]))
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
        case "create":
            request, tenant, branch = str(raw["request"]), str(raw["tenant"]), str(raw.get("branch", "then"))
            return Create(line, at, request, tenant, str(raw["flow"]), branch)
        case "created":
            return Created(line, at, str(raw["request"]), str(raw["execution"]))
        case "restart":
            return Restart(line, at, str(raw["request"]), str(raw["execution"]))
        case "restarted":
            return Restarted(line, at, str(raw["request"]), str(raw["of"]), str(raw["execution"]))
        case "kill execution":
            return KillExecution(line, at, str(raw["execution"]))
        case "execution killed":
            return ExecutionKilled(line, at, float(raw["began"]), str(raw["execution"]), str(raw["state"]))
        case "ended":
            runs = tuple(TaskRun(**run) for run in raw["runs"])
            return Ended(line, at, str(raw["execution"]), str(raw["state"]), runs)
        case "schedule":
            first, every = datetime.fromisoformat(raw["first"]), int(raw["every"])
            return Schedule(line, at, str(raw["tenant"]), str(raw["flow"]), first, every)
        case "drop":
            return Drop(line, at, str(raw["request"]), str(raw["tenant"]), str(raw["flow"]))
        case "fired":
            return Fired(line, at, str(raw["request"]), str(raw["execution"]))
        case _ if what in RUN_LINES:
            return _run_line(line, what, at, raw)
        case _:
            raise ValueError(f"nothing is called {what!r}")


def _run_line(line: Line, what: str, at: float, raw: Mapping[str, Any]) -> RunLine:
    return RunLine(
        line,
        what,
        at,
        float(raw.get("spawned", at)),
        str(raw["request"]),
        str(raw["job"]),
        int(raw["fence"]),
        str(raw["worker"]),
        str(raw["group"]),
        str(raw["tenant"]),
        str(raw.get("execution", "")),
        str(raw.get("task", "")),
        int(raw.get("attempt", 0)),
        {str(task): str(fence) for task, fence in raw.get("got", {}).items()},
    )
