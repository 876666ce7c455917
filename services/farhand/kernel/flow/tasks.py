"""What a flow does: leaves, which run on workers, and flow control, which the scheduler runs itself.

A leaf keeps whatever is not common to all tasks as its `properties`, as written:
what a type takes is `types/`, and what it inherits `defaults.py`. Flow control says
what is inside of it by `children`, and makes itself anew around other tasks by
`with_tasks`.
"""

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)

from farhand.kernel.expressions import is_template
from farhand.kernel.flow.parts import (
    SCALAR_SCHEMA,
    OnWorkerLost,
    Retry,
    SomeDuration,
    Step,
    WorkerGroupRef,
    as_text,
    dumped,
)
from farhand.kernel.kinds import kind

PARALLEL = "io.kestra.plugin.core.flow.Parallel"
SEQUENTIAL = "io.kestra.plugin.core.flow.Sequential"
IF = "io.kestra.plugin.core.flow.If"
SWITCH = "io.kestra.plugin.core.flow.Switch"
FOR_EACH = "io.kestra.plugin.core.flow.ForEach"

MOST_ROUNDS = 10_000  # of one ForEach


class Task(Step):
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
        return dumped(self)


class Parallel(Step):
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


class Sequential(Step):
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


class If(Step):
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


class Switch(Step):
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


class ForEach(Step):
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
