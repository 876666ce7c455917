"""`python -m farhand.worker.tasks.host FOLDER`: runs one task of another package, or evaluates a trigger of one, in
a process of its own.

Started by foreign.py under the warden. Whatever the task prints is its log; its
outcome goes to a file. A kill or a timeout ends this process like any other.
"""

import asyncio
import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from farhand.worker.process_control import ProcessStartError
from farhand.worker.runners import CommandEnd
from farhand.worker.tasks.base import Files, Level, LineFilter, Outcome, RunBy, TaskType, failed
from farhand.worker.tasks.foreign import OUTCOME_FILE, TASK_FILE, TASKS, write_outcome
from farhand.worker.tasks.properties import invalid
from farhand.worker.triggers.base import Evaluated


class HostContext:
    """The TaskContext of a task that has a process of its own."""

    def __init__(self, properties: Mapping[str, Any], env: Mapping[str, str], scope: Mapping[str, Any]) -> None:
        self.properties = properties
        self.env = env
        self.scope = scope

    def log(self, text: str, level: Level = Level.WARN) -> None:
        """See TaskContext.log. The line comes to the log as one of standard error, whatever its level."""
        print(text, file=sys.stderr, flush=True)

    def say(self, text: str, level: Level = Level.INFO) -> None:
        """See TaskContext.say. The line comes to the log as one of standard output, whatever its level."""
        print(text, flush=True)

    @property
    def files(self) -> Files:
        """See TaskContext.files."""
        raise NotImplementedError("a task of another package can't fetch or store files by the worker yet")

    def folder(self) -> Path:
        """See TaskContext.folder."""
        return Path.cwd()

    async def run_process(
        self, argv: Sequence[str], *, env: Mapping[str, str], on_stdout: LineFilter | None = None
    ) -> int:
        """See TaskContext.run_process. What it starts is ours to wait for, and the warden's to end."""
        pipe = None if on_stdout is None else asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(*argv, env={**os.environ, **env}, stdout=pipe)
        except OSError as error:
            raise ProcessStartError(f"can't run {argv[0]!r}: {error.strerror}") from error
        if process.stdout is not None and on_stdout is not None:
            async for line in process.stdout:
                text = line.decode("utf-8", "replace").removesuffix("\n")
                if not on_stdout(text):
                    print(text, flush=True)
        return await process.wait()

    async def run_command(
        self, argv: Sequence[str], *, env: Mapping[str, str], by: RunBy, on_stdout: LineFilter | None = None
    ) -> CommandEnd:
        """See TaskContext.run_command."""
        raise NotImplementedError("a task of another package can't use task runners yet")


async def outcome_of(task: Mapping[str, Any]) -> Outcome:
    """Load the class, check the properties, run it."""
    context = HostContext(task["properties"], task["env"], task["scope"])
    try:
        made = EntryPoint("task", task["object"], task["group"]).load()()
        task_type: TaskType = made if task["group"] == TASKS else Evaluated(made)
        if violations := task_type.validate(context.properties):
            outcome = invalid(violations)
            context.log(outcome.message)
            return outcome
        answer = await task_type.run(context)
    except Exception as error:
        traceback.print_exc()
        return failed("INTERNAL", f"{type(error).__name__}: {error}"[:1000])
    if not isinstance(answer, Outcome):
        return failed("INTERNAL", f"the task returned {answer!r}; it must return an Outcome"[:1000])
    return answer


def main(folder: Path) -> None:
    """Run the task that the folder describes."""
    outcome = asyncio.run(outcome_of(json.loads((folder / TASK_FILE).read_text())))
    try:
        write_outcome(folder / OUTCOME_FILE, outcome)
    except (TypeError, ValueError) as error:
        write_outcome(folder / OUTCOME_FILE, failed("INTERNAL", f"the task's outputs are no JSON: {error}"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
