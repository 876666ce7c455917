"""Task runners: where a script runs, and what each takes. The worker's part is farhand.worker.runners."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema

from farhand.kernel.flow.model import Part, TypeName
from farhand.kernel.flow.types.properties import OR_TEMPLATE, Boolean, Properties, SomeStrings
from farhand.kernel.kinds import kind
from farhand.kernel.names import shown
from farhand.kernel.sizes import LEAST_MEMORY, parse_size


class AnyRunner(Part):
    """What a task says about its runner; what it takes beside its type is the runner's to say."""

    model_config = ConfigDict(extra="allow")

    type: TypeName = Field(description="Where the script runs.")


class Runner(Properties):
    """What one runner takes beside its type."""

    NEEDS_IMAGE: ClassVar[bool] = False
    """The task has to say `containerImage`, or the runner `image`."""


class Process(Runner):
    """A process of the worker's machine."""


def _memory(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"must be a size such as 512MB, not {kind(value)}")
    if parse_size(str(value)) < LEAST_MEMORY:
        raise ValueError(f"{shown(str(value))} is too little: a container needs at least 6MB")
    return value


def _cpus(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number of cores such as 0.5, not {kind(value)}")
    if not 0.01 <= value <= 10_000:
        raise ValueError("must be at least 0.01 cores, and at most 10000")
    return value


def _not_privileged(value: Any) -> Any:
    if value is True:
        raise ValueError("must be false: a privileged container is root on the worker's machine")
    return value


class PullPolicy(StrEnum):
    """When an image is fetched from its registry."""

    ALWAYS = "ALWAYS"
    IF_NOT_PRESENT = "IF_NOT_PRESENT"
    NEVER = "NEVER"


class Memory(Part):
    """Bounds of a container's memory."""

    memory: Annotated[Any, AfterValidator(_memory), WithJsonSchema({"type": ["string", "integer"]}), OR_TEMPLATE] = (
        Field(description="The most that it may use, e.g. 512MB; it is killed when it wants more.")
    )


class Cpu(Part):
    """Bounds of a container's processors."""

    cpus: Annotated[Any, AfterValidator(_cpus), WithJsonSchema({"type": "number"}), OR_TEMPLATE] = Field(
        description="How many cores' time it gets at most, e.g. 0.5."
    )


class Docker(Runner):
    """A container on the worker's machine, by Docker or Podman."""

    NEEDS_IMAGE: ClassVar[bool] = True

    image: str | None = Field(None, description="The image, where the task says no containerImage.", min_length=1)
    pull_policy: Annotated[PullPolicy, Field(strict=False), OR_TEMPLATE] = Field(
        PullPolicy.IF_NOT_PRESENT, description="When the image is pulled: ALWAYS, IF_NOT_PRESENT or NEVER."
    )
    memory: Memory | None = Field(None, description="Bounds of its memory.")
    cpu: Cpu | None = Field(None, description="Bounds of its processors.")
    network_mode: str | None = Field(None, description="Docker's network mode, e.g. none, host, bridge.", min_length=1)
    entry_point: SomeStrings | None = Field(
        None, description="What is started, with the interpreter and script as its arguments; the image's is not."
    )
    user: str | None = Field(None, description="Who it runs as: a name or number, or USER:GROUP.", min_length=1)
    volumes: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        (), description="HOST:CONTAINER[:ro], where the worker allows them."
    )
    privileged: Annotated[Boolean, BeforeValidator(_not_privileged)] = Field(False, description="Is not allowed.")


RUNNERS: Mapping[str, type[Runner]] = {
    "io.kestra.plugin.core.runner.Process": Process,
    "io.kestra.plugin.scripts.runner.docker.Docker": Docker,
}
"""What comes with Farhand, by type."""
