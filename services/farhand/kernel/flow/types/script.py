"""Scripts: commands, or one script, in a shell or Python on the worker, in a folder of their own."""

from typing import Annotated

from pydantic import Field

from farhand.kernel.flow.types.properties import (
    OR_TEMPLATE,
    Boolean,
    Environment,
    Properties,
    RelativePath,
    SomeStrings,
)
from farhand.kernel.flow.types.runners import AnyRunner


class NamespaceFiles(Properties):
    """Which files of the flow's namespace lie in the folder when the script starts."""

    enabled: Boolean = Field(True, description="False: none.")
    include: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        (), description="Only files that match one of these patterns, e.g. scripts/*.py; empty: all."
    )
    exclude: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        (), description="No files that match one of these patterns."
    )


class Script(Properties):
    """What all of them take."""

    before_commands: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        (), description="Run first, in the same interpreter."
    )
    env: Environment = Field({}, description="Environment variables.")
    interpreter: SomeStrings | None = Field(
        None, description='The program that is given the script as one argument, e.g. ["/bin/sh", "-c"].'
    )
    fail_fast: Boolean = Field(True, description="Stop at the first command that fails.")
    namespace_files: NamespaceFiles | None = Field(None, description="Files of the namespace in the folder.")
    input_files: Annotated[dict[RelativePath, str], OR_TEMPLATE] = Field(
        {}, description="Files in the folder: paths, and contents or the URI of an output file."
    )
    output_files: Annotated[tuple[RelativePath, ...], Field(strict=False)] = Field(
        (), description="Patterns of files that are kept as outputs."
    )
    container_image: str | None = Field(
        None, description="The image that a task runner with containers takes, e.g. python:3.12-slim."
    )
    task_runner: AnyRunner | None = Field(None, description="Where the script runs.")


class Commands(Script):
    """Runs commands one after another."""

    commands: SomeStrings = Field(description="The commands, as typed into the interpreter.")


class InlineScript(Script):
    """Runs one script."""

    script: str = Field(description="The script's text.", min_length=1)
