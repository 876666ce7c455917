"""A flow as a value: what the YAML says, checked in shape, with nothing merged into it.

Names in YAML and JSON are camelCase (`workerGroup`), here snake_case. A leaf `Task`
runs on a worker; `Parallel`, `If`, `ForEach` and the like are flow control, which
the scheduler runs itself. A leaf keeps whatever is not common to all tasks as its `properties`, as
written: what a type takes is `types/`, and what it inherits `defaults.py`.

Durations stay as they were written; `kernel.durations.parse_duration` reads them.
Values are made by `read_flow` from YAML, or by `Flow.from_json` from what `to_json`
gave: that is the definition that the registry keeps and the scheduler runs.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

from farhand.kernel.durations import parse_duration
from farhand.kernel.expressions import is_template
from farhand.kernel.kinds import kind
from farhand.kernel.names import check_namespace, check_task_type, check_text, shown
from farhand.kernel.resolution import Fallback

PARALLEL = "io.kestra.plugin.core.flow.Parallel"
SEQUENTIAL = "io.kestra.plugin.core.flow.Sequential"
IF = "io.kestra.plugin.core.flow.If"
SWITCH = "io.kestra.plugin.core.flow.Switch"
FOR_EACH = "io.kestra.plugin.core.flow.ForEach"

MOST_ROUNDS = 10_000  # of one ForEach

LONGEST_DURATION = 10 * 365 * 86400.0  # seconds; ten years, which every clock and column can hold
SHORTEST_INTERVAL = 1.0  # seconds between two evaluations of a trigger


def _duration(text: str) -> str:
    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = -1.0
    if seconds < 0 or text.strip()[-1:].isdigit():  # a bare number says no unit
        raise ValueError(f"{shown(text)} is not a duration; write ISO-8601 such as PT1M30S, or 90s, 2m30s, 1h")
    if seconds > LONGEST_DURATION:
        raise ValueError(f"{shown(text)} is longer than ten years")
    return text


def _some_duration(text: str) -> str:
    if parse_duration(_duration(text)) == 0:
        raise ValueError("must be longer than nothing")
    return text


def _interval(text: str) -> str:
    if parse_duration(_duration(text)) < SHORTEST_INTERVAL:
        raise ValueError(f"{shown(text)} is too short: at least {SHORTEST_INTERVAL:g} s are between two evaluations")
    return text


def _namespace(text: str) -> str:
    if violations := check_namespace("namespace", text):
        raise ValueError(violations[0].description)
    return text


def _task_type(text: str) -> str:
    if violations := check_task_type("type", text):
        raise ValueError(violations[0].description)
    return text


def _text(text: str) -> str:
    if violations := check_text("text", text, 10_000):
        raise ValueError(violations[0].description)
    return text


def as_text(value: Any) -> Any:
    """Numbers and booleans are taken as their texts: `retries: 3` is a fine label, `true` a fine condition."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


Id = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_-]*$", min_length=1, max_length=100)]
_DURATION_SCHEMA = WithJsonSchema(
    {
        "type": "string",
        "pattern": r"^([Pp](\d+[Dd])?([Tt](\d+[Hh])?(\d+[Mm])?(\d+(\.\d+)?[Ss])?)?|(\d+(\.\d+)?(ms|s|m|h|d))+)$",
    }
)
SCALAR_SCHEMA = WithJsonSchema({"type": ["string", "number", "boolean"]})
Duration = Annotated[str, AfterValidator(_duration), _DURATION_SCHEMA]
"""ISO-8601 (PT1M30S), or as people write it (90s); up to ten years."""
SomeDuration = Annotated[str, AfterValidator(_some_duration), _DURATION_SCHEMA]
"""A Duration that is longer than nothing."""
TypeName = Annotated[str, AfterValidator(_task_type)]
Text = Annotated[str, AfterValidator(_text)]
LabelName = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class Part(BaseModel):
    """A part of a flow: never changes, takes what it knows and no more, converts nothing."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", alias_generator=to_camel)


class WorkerGroupRef(Part):
    """Where something runs. What is None is inherited."""

    key: str | None = Field(None, description="The worker group's key, or an expression; empty: the default group.")
    fallback: Annotated[Fallback | None, Field(strict=False)] = Field(
        None, description="What happens while the group is not available: WAIT, FAIL or CANCEL."
    )
    timeout: Duration | None = Field(
        None, description="How long the task may wait for a worker; then it fails. ISO-8601, e.g. PT10M."
    )


class RetryType(StrEnum):
    """How the pauses between attempts grow."""

    CONSTANT = "constant"  # each as long as the interval
    EXPONENTIAL = "exponential"  # each twice the one before


class Retry(Part):
    """Attempts after a failure."""

    type: Annotated[RetryType, Field(strict=False)] = Field(description="How the pauses grow: constant, exponential.")
    interval: Duration = Field(description="The first pause, e.g. PT30S.")
    max_attempts: int | None = Field(None, ge=1, le=1000, description="How many attempts in all; the first counts.")
    max_duration: SomeDuration | None = Field(None, description="No attempt begins later than this after the first.")

    @model_validator(mode="after")
    def _bounded(self) -> "Retry":
        if self.max_attempts is None and self.max_duration is None:
            raise ValueError("must have an end: give it maxAttempts or maxDuration")
        return self


class OnWorkerLost(StrEnum):
    """What follows when a worker is lost that had the task."""

    AGAIN = "AGAIN"  # it runs again, on the third loss it fails
    FAIL = "FAIL"  # it fails, since to run it twice would do harm


class Inherited(Part):
    """Values that plugin defaults give: some common to all tasks, the rest for the type."""

    model_config = ConfigDict(extra="allow")

    description: Text | None = None
    disabled: bool | None = None
    allow_failure: bool | None = None
    timeout: SomeDuration | None = None
    retry: Retry | None = None
    worker_group: WorkerGroupRef | None = None
    on_worker_lost: Annotated[OnWorkerLost | None, Field(strict=False)] = None

    @model_validator(mode="before")
    @classmethod
    def _is_inheritable(cls, values: Any) -> Any:
        for name in ("id", "type"):
            if isinstance(values, Mapping) and name in values:
                raise ValueError(f"must not hold {name}: it says which task it is, and is not inherited")
        return values

    @cached_property
    def written(self) -> Mapping[str, Any]:
        """The values as they were written."""
        return _dumped(self)


class PluginDefault(Part):
    """Values that tasks, triggers and task runners of a type inherit (defaults.py)."""

    type: TypeName = Field(description="A type, or a dotted prefix of types.")
    forced: bool = Field(False, description="The values win over the task's own, and outer levels over inner ones.")
    values: Inherited = Field(description="Properties; maps merge deeply.")


class _Named(Part):
    id: Id = Field(description="Its name inside the flow.")
    type: TypeName = Field(description="What it does.")
    description: Text | None = Field(None, description="For people.")
    disabled: bool = Field(False, description="It is left out.")


class _Step(_Named):
    allow_failure: bool = Field(False, description="A failure becomes a warning, and the flow goes on.")


class Task(_Step):
    """A leaf: one job on a worker."""

    model_config = ConfigDict(extra="allow")  # the type's own properties

    timeout: SomeDuration | None = Field(None, description="The longest it may run, from its start on the worker.")
    retry: Retry | None = Field(None, description="Attempts after a failure.")
    worker_group: WorkerGroupRef | None = Field(None, description="Where it runs.")
    on_worker_lost: Annotated[OnWorkerLost | None, Field(strict=False)] = Field(
        None, description="What follows when its worker is lost: AGAIN (it runs again), or FAIL."
    )

    @property
    def properties(self) -> Mapping[str, Any]:
        """What the type takes, as written."""
        return self.model_extra or {}

    @property
    def children(self) -> Mapping[str, tuple["AnyTask", ...]]:
        """None."""
        return {}

    def written(self) -> dict[str, Any]:
        """The task as its YAML has it: what plugin defaults are merged with."""
        return _dumped(self)


class Parallel(_Step):
    """Flow control: its tasks side by side."""

    type: Literal["io.kestra.plugin.core.flow.Parallel"]
    tasks: Annotated[tuple["AnyTask", ...], Field(strict=False)] = Field(min_length=1, description="They run together.")
    concurrent: int = Field(0, ge=0, le=1000, description="At most this many at a time; 0: all.")

    @property
    def children(self) -> Mapping[str, tuple["AnyTask", ...]]:
        """What is inside, by the property that holds it."""
        return {"tasks": self.tasks}

    def with_tasks(self, change: "Change") -> "Parallel":
        """Itself with each list of tasks changed."""
        return self.model_copy(update={"tasks": change(self.tasks)})


class Sequential(_Step):
    """Flow control: its tasks one after another."""

    type: Literal["io.kestra.plugin.core.flow.Sequential"]
    tasks: Annotated[tuple["AnyTask", ...], Field(strict=False)] = Field(
        min_length=1, description="They run one after another; the first failure ends it."
    )

    @property
    def children(self) -> Mapping[str, tuple["AnyTask", ...]]:
        """What is inside, by the property that holds it."""
        return {"tasks": self.tasks}

    def with_tasks(self, change: "Change") -> "Sequential":
        """Itself with each list of tasks changed."""
        return self.model_copy(update={"tasks": change(self.tasks)})


class If(_Step):
    """Flow control: one of two lists of tasks, one after another."""

    type: Literal["io.kestra.plugin.core.flow.If"]
    condition: Annotated[str, BeforeValidator(as_text), SCALAR_SCHEMA] = Field(
        description="An expression; false are: empty, false, 0, null, none."
    )
    then: Annotated[tuple["AnyTask", ...], Field(strict=False)] = Field(min_length=1, description="Run if it is true.")
    otherwise: Annotated[tuple["AnyTask", ...], Field(strict=False)] = Field(
        (), alias="else", description="Run if it is false."
    )

    @property
    def children(self) -> Mapping[str, tuple["AnyTask", ...]]:
        """What is inside, by the property that holds it."""
        return {"then": self.then, "else": self.otherwise}

    def with_tasks(self, change: "Change") -> "If":
        """Itself with each list of tasks changed."""
        return self.model_copy(update={"then": change(self.then), "otherwise": change(self.otherwise)})


class Switch(_Step):
    """Flow control: one of several lists of tasks, one after another."""

    type: Literal["io.kestra.plugin.core.flow.Switch"]
    value: Annotated[str, BeforeValidator(as_text), SCALAR_SCHEMA] = Field(
        description="An expression; the case of that name runs."
    )
    cases: dict[str, Annotated[tuple["AnyTask", ...], Field(strict=False, min_length=1)]] = Field(
        {}, max_length=1000, description="Lists of tasks by the value for which they run."
    )
    defaults: Annotated[tuple["AnyTask", ...], Field(strict=False)] = Field(
        (), description="Run for any other value; without them none is run then."
    )

    @property
    def children(self) -> Mapping[str, tuple["AnyTask", ...]]:
        """What is inside, by the property that holds it: "cases.gpu", "defaults"."""
        return {**{f"cases.{name}": tasks for name, tasks in self.cases.items()}, "defaults": self.defaults}

    def with_tasks(self, change: "Change") -> "Switch":
        """Itself with each list of tasks changed."""
        cases = {name: change(tasks) for name, tasks in self.cases.items()}
        return self.model_copy(update={"cases": cases, "defaults": change(self.defaults)})

    @model_validator(mode="after")
    def _chooses(self) -> "Switch":
        if not self.cases and not self.defaults:
            raise ValueError("needs cases, or defaults: it has nothing to choose from")
        return self


def _values(value: Any) -> Any:
    if isinstance(value, str) and not is_template(value):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError("must be a list, or an expression that comes to one, e.g. '{{ inputs.list }}'") from None
    if not isinstance(value, list | tuple | str):
        raise ValueError(f"must be a list, or an expression that comes to one, not {kind(value)}")
    if not isinstance(value, str) and len(value) > MOST_ROUNDS:
        raise ValueError(f"holds {len(value)}; a loop has at most {MOST_ROUNDS} rounds")
    return value


class ForEach(_Step):
    """Flow control: a round of its tasks, one after another, for each value of a list."""

    type: Literal["io.kestra.plugin.core.flow.ForEach"]
    values: Annotated[
        Any, AfterValidator(_values), WithJsonSchema({"anyOf": [{"type": "array"}, {"type": "string"}]})
    ] = Field(description="A list, or an expression that comes to the JSON of one: {{ taskrun.value }} in each round.")
    concurrency_limit: int = Field(1, ge=0, le=1000, description="So many rounds at a time; 0: all.")
    tasks: Annotated[tuple["AnyTask", ...], Field(strict=False)] = Field(
        min_length=1, description="A round: they run one after another."
    )

    @property
    def children(self) -> Mapping[str, tuple["AnyTask", ...]]:
        """What is inside, by the property that holds it."""
        return {"tasks": self.tasks}

    def with_tasks(self, change: "Change") -> "ForEach":
        """Itself with each list of tasks changed."""
        return self.model_copy(update={"tasks": change(self.tasks)})


Control = Parallel | Sequential | If | Switch | ForEach
CONTROL: Mapping[str, type[Control]] = {
    PARALLEL: Parallel,
    SEQUENTIAL: Sequential,
    IF: If,
    SWITCH: Switch,
    FOR_EACH: ForEach,
}
"""The flow control that there is, by its type."""
LEAF = "(leaf)"  # the tag of all other tasks


def _kind(value: Any) -> str:
    name = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
    return name if isinstance(name, str) and name in CONTROL else LEAF


AnyTask = Annotated[
    Annotated[Parallel, Tag(PARALLEL)]
    | Annotated[Sequential, Tag(SEQUENTIAL)]
    | Annotated[If, Tag(IF)]
    | Annotated[Switch, Tag(SWITCH)]
    | Annotated[ForEach, Tag(FOR_EACH)]
    | Annotated[Task, Tag(LEAF)],
    Discriminator(_kind),
]
Change = Callable[[tuple[AnyTask, ...]], tuple[AnyTask, ...]]


class StopAfter(StrEnum):
    """How an execution ends that ends its trigger too."""

    SUCCESS = "SUCCESS"
    WARNING = "WARNING"
    FAILED = "FAILED"
    KILLED = "KILLED"


class Trigger(_Named):
    """Starts executions by itself. What only polling triggers have a use for is None where it is not said."""

    model_config = ConfigDict(extra="allow")  # the type's own properties

    inputs: dict[str, Any] = Field(
        {}, description="The inputs of its executions; expressions see trigger, vars, labels and flow."
    )
    stop_after: Annotated[tuple[Annotated[StopAfter, Field(strict=False)], ...], Field(strict=False)] = Field(
        (), description="It is disabled after an execution of it that ended so."
    )
    interval: Annotated[str, AfterValidator(_interval), _DURATION_SCHEMA] | None = Field(
        None, description="Polling: how long after one evaluation the next one comes; PT1M unless said."
    )
    timeout: SomeDuration | None = Field(
        None, description="Polling: the longest an evaluation may run on its worker; PT1M unless said."
    )
    allow_concurrent: bool | None = Field(
        None, description="Polling: it is evaluated also while its last execution runs."
    )
    worker_group: WorkerGroupRef | None = Field(None, description="Polling: where it is evaluated.")

    @property
    def properties(self) -> Mapping[str, Any]:
        """What the type takes, as written."""
        return self.model_extra or {}

    def written(self) -> dict[str, Any]:
        """The trigger as its YAML has it."""
        return _dumped(self)


class InputType(StrEnum):
    """What values an input takes (inputs.py)."""

    STRING = "STRING"
    INT = "INT"
    FLOAT = "FLOAT"
    BOOLEAN = "BOOLEAN"
    DATETIME = "DATETIME"
    DURATION = "DURATION"
    SELECT = "SELECT"
    JSON = "JSON"
    ARRAY = "ARRAY"
    SECRET = "SECRET"


class ItemType(StrEnum):
    """What the items of an ARRAY are."""

    STRING = "STRING"
    INT = "INT"
    FLOAT = "FLOAT"
    BOOLEAN = "BOOLEAN"
    DATETIME = "DATETIME"
    DURATION = "DURATION"
    JSON = "JSON"


class Input(Part):
    """A value that an execution is given."""

    id: Id = Field(description="Its name: {{ inputs.name }}.")
    type: Annotated[InputType, Field(strict=False)] = Field(description="What values it takes.")
    required: bool = Field(True, description="An execution without it is refused, unless there are defaults.")
    defaults: Any = Field(None, description="The value where none is given.")
    description: Text | None = Field(None, description="For people.")
    values: Annotated[tuple[Annotated[Text, BeforeValidator(as_text), SCALAR_SCHEMA], ...], Field(strict=False)] = (
        Field((), max_length=1000, description="SELECT: what may be chosen.")
    )
    item_type: Annotated[ItemType | None, Field(strict=False)] = Field(
        None, description="ARRAY: what its items are; JSON unless said."
    )

    @model_validator(mode="after")
    def _fits_its_type(self) -> "Input":
        if self.type is InputType.SELECT and not self.values:
            raise ValueError("a SELECT needs values: the texts that may be chosen")
        if self.values and self.type is not InputType.SELECT:
            raise ValueError(f"values are for SELECT, not for {self.type}")
        if self.item_type is not None and self.type is not InputType.ARRAY:
            raise ValueError(f"itemType is for ARRAY, not for {self.type}")
        return self


class Behavior(StrEnum):
    """What becomes of an execution that comes when its flow's places are all taken."""

    QUEUE = "QUEUE"  # it waits for its turn
    CANCEL = "CANCEL"  # it ends at once, KILLED
    FAIL = "FAIL"  # it ends at once, FAILED


class Concurrency(Part):
    """How many executions of a flow run at a time."""

    limit: int = Field(ge=1, le=1_000_000, description="At most this many executions at a time.")
    behavior: Annotated[Behavior, Field(strict=False)] = Field(
        Behavior.QUEUE, description="What becomes of one more: QUEUE (it waits), CANCEL (it is KILLED), or FAIL."
    )


class Flow(Part):
    """A flow."""

    id: Id = Field(description="Its name inside the namespace.")
    namespace: Annotated[str, AfterValidator(_namespace)] = Field(description="A dotted name, e.g. company.team.")
    description: Text | None = Field(None, description="For people.")
    labels: dict[LabelName, Annotated[Text, BeforeValidator(as_text), SCALAR_SCHEMA]] = Field(
        {}, description="Names and texts."
    )
    inputs: Annotated[tuple[Input, ...], Field(strict=False)] = Field(
        (), max_length=1000, description="What an execution is given."
    )
    variables: dict[str, Any] = Field({}, description="Values for expressions: {{ vars.name }}.")
    tasks: Annotated[tuple[AnyTask, ...], Field(strict=False)] = Field(
        min_length=1, description="What it does, one after another."
    )
    errors: Annotated[tuple[AnyTask, ...], Field(strict=False)] = Field((), description="Run when a task failed.")
    plugin_defaults: Annotated[tuple[PluginDefault, ...], Field(strict=False)] = Field(
        (), max_length=100, description="What tasks of a type inherit."
    )
    worker_group: WorkerGroupRef | None = Field(None, description="Where tasks run that do not say otherwise.")
    triggers: Annotated[tuple[Trigger, ...], Field(strict=False)] = Field(
        (), max_length=100, description="What starts executions."
    )
    concurrency: Concurrency | None = Field(
        None, description="How many executions of the flow run at a time; the newest revision's word counts for all."
    )

    MOST_TASKS: ClassVar[int] = 1000

    def walk(self) -> Iterator[tuple[str, "Task | Control"]]:
        """Every task with its path ("tasks[0].then[1]"), in the order of the source, children behind their parent."""
        yield from _walk("tasks", self.tasks)
        yield from _walk("errors", self.errors)

    def to_json(self) -> str:
        """The definition: canonical JSON, equal for equal flows."""
        return json.dumps(_dumped(self), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, definition: str) -> "Flow":
        """The flow of a definition. Raises ValueError for what no to_json gave."""
        return cls.model_validate_json(definition)


def _walk(path: str, tasks: tuple[AnyTask, ...]) -> Iterator[tuple[str, Task | Control]]:
    for index, task in enumerate(tasks):
        yield f"{path}[{index}]", task
        for name, inside in task.children.items():
            yield from _walk(f"{path}[{index}].{name}", inside)


def _dumped(part: Part) -> dict[str, Any]:
    return part.model_dump(mode="json", by_alias=True, exclude_unset=True)
