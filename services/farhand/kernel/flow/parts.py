"""What the parts of a flow are made of: texts that are checked, and what several parts have in common.

Durations stay as they were written; `kernel.durations.parse_duration` reads them.
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel

from farhand.kernel.durations import parse_duration
from farhand.kernel.names import check_task_type, check_text, shown
from farhand.kernel.resolution import Fallback

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
Interval = Annotated[str, AfterValidator(_interval), _DURATION_SCHEMA]
"""A Duration that may lie between two evaluations of a trigger."""
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


class Named(Part):
    id: Id = Field(description="Its name inside the flow.")
    type: TypeName = Field(description="What it does.")
    description: Text | None = Field(None, description="For people.")
    disabled: bool = Field(False, description="It is left out.")


class Step(Named):
    allow_failure: bool = Field(False, description="A failure becomes a warning, and the flow goes on.")


def dumped(part: Part) -> dict[str, Any]:
    return part.model_dump(mode="json", by_alias=True, exclude_unset=True)
