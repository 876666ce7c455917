"""A flow as a value: what the YAML says, checked in shape, with nothing merged into it.

Names in YAML and JSON are camelCase (`workerGroup`), here snake_case. What a flow
does is `tasks.py`, and what its parts are made of `parts.py`.

Values are made by `read_flow` from YAML, or by `Flow.from_json` from what `to_json`
gave: that is the definition that the registry keeps and the scheduler runs.
"""

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from farhand.kernel.flow.parts import (
    SCALAR_SCHEMA,
    Id,
    Interval,
    LabelName,
    Named,
    OnWorkerLost,
    Part,
    Retry,
    SomeDuration,
    Text,
    TypeName,
    WorkerGroupRef,
    as_text,
    dumped,
)
from farhand.kernel.flow.tasks import AnyTask, Control, Task
from farhand.kernel.names import check_namespace


def _namespace(text: str) -> str:
    if violations := check_namespace("namespace", text):
        raise ValueError(violations[0].description)
    return text


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
        return dumped(self)


class PluginDefault(Part):
    """Values that tasks, triggers and task runners of a type inherit (defaults.py)."""

    type: TypeName = Field(description="A type, or a dotted prefix of types.")
    forced: bool = Field(False, description="The values win over the task's own, and outer levels over inner ones.")
    values: Inherited = Field(description="Properties; maps merge deeply.")


class StopAfter(StrEnum):
    """How an execution ends that ends its trigger too."""

    SUCCESS = "SUCCESS"
    WARNING = "WARNING"
    FAILED = "FAILED"
    KILLED = "KILLED"


class Trigger(Named):
    """Starts executions by itself. What only polling triggers have a use for is None where it is not said."""

    model_config = ConfigDict(extra="allow")  # the type's own properties

    inputs: dict[str, Any] = Field(
        {}, description="The inputs of its executions; expressions see trigger, vars, labels and flow."
    )
    stop_after: Annotated[tuple[Annotated[StopAfter, Field(strict=False)], ...], Field(strict=False)] = Field(
        (), description="It is disabled after an execution of it that ended so."
    )
    interval: Interval | None = Field(
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
        return dumped(self)


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

    def walk(self) -> Iterator[tuple[str, Task | Control]]:
        """Every task with its path ("tasks[0].then[1]"), in the order of the source, children behind their parent."""
        yield from _walk("tasks", self.tasks)
        yield from _walk("errors", self.errors)

    def to_json(self) -> str:
        """The definition: canonical JSON, equal for equal flows."""
        return json.dumps(dumped(self), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, definition: str) -> "Flow":
        """The flow of a definition. Raises ValueError for what no to_json gave."""
        return cls.model_validate_json(definition)


def _walk(path: str, tasks: tuple[AnyTask, ...]) -> Iterator[tuple[str, Task | Control]]:
    for index, task in enumerate(tasks):
        yield f"{path}[{index}]", task
        for name, inside in task.children.items():
            yield from _walk(f"{path}[{index}].{name}", inside)
