"""Task runners: where a task's command is run. One module each.

A runner turns a command into a running one and says nothing about what the
command's output means; that is the task's affair (farhand.worker.tasks).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from farhand.worker.process_control import RunningProcess


@dataclass(frozen=True, slots=True)
class Command:
    """What a task wants to be run.

    `run_id` is the assignment's (see ProcessSpec). `env` holds the variables of the task alone; the runner
    adds what its place has by itself. `folder` is the task's working folder, on the worker.
    """

    run_id: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    folder: Path


class TaskRunner(Protocol):
    """One kind of place to run a command in."""

    type: ClassVar[str]
    """The name that a task writes in `taskRunner.type`."""

    async def start(self, command: Command) -> RunningProcess:
        """Start the command. Raises ProcessStartError where it can't be run, NothingMayRun where none may."""
        ...
