"""Task runners: where a task's command is run. One module each.

A runner turns a command into a *program* that the warden starts, and says nothing
about what the command's output means; that is the task's affair
(farhand.worker.tasks). For `Process` the program is the command itself. Every other
runner's is a client (hosted.py, host.py): it has the command run elsewhere, passes
its output on as its own, ends when it ends, and ends it upon SIGTERM.

A client can be killed before it has cleaned up. What must not be left behind even
then is an *undo*: one request that the warden sends whenever the program has ended,
however it ended.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from farhand.kernel.errors import Violation
from farhand.worker.process_control import Undo

PROCESS = "io.kestra.plugin.core.runner.Process"


@dataclass(frozen=True, slots=True)
class Command:
    """What a task wants to be run.

    `run_id` is the assignment's (see ProcessSpec). `env` holds the variables of the task alone; the runner
    adds what its place has by itself. `folder` is the task's working folder, on the worker: what lies there when
    the command starts is its input, and what lies there at the end may become output files. `private` is a folder
    for the program alone, beside it, which no task sees; both are removed after the run. `image` is the task's
    `containerImage`, "" where it has none. `output_files` are the patterns of what is wanted of the folder at the
    end (kernel.globs).
    """

    run_id: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    folder: Path
    private: Path
    image: str = ""
    output_files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Program:
    """What the warden is to run in the command's folder, with its complete environment.

    `files` are written to the private folder first. `ending`, if not None, is the file in which the program leaves
    how the command ended (hosted.py); else the program's end is the command's.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)
    ending: Path | None = None
    undo: Undo | None = None


@dataclass(frozen=True, slots=True)
class CommandEnd:
    """How a command ended; a negative exit code is the signal that ended it, None: that is not known.

    `reason` and `why` are empty where the exit code says all. Else they are the outcome's reason (protos/README.md)
    and message: START_FAILED, it never ran; RUNNER_FAILED, what became of it is not known; OUT_OF_MEMORY.
    """

    exit_code: int | None
    reason: str = ""
    why: str = ""


class TaskRunner(Protocol):
    """One kind of place to run commands in."""

    @property
    def type(self) -> str:
        """The name that a task writes in `taskRunner.type`."""
        ...

    @property
    def local(self) -> bool:
        """Commands run on the worker's own machine, so its paths mean something to them."""
        ...

    def validate(self, properties: Mapping[str, Any], image: str) -> Sequence[Violation]:
        """What is wrong with the rendered `taskRunner` (paths are relative to it), or with the task's `containerImage`
        (a path that begins with "/": "/containerImage")."""
        ...

    def program(self, command: Command, properties: Mapping[str, Any]) -> Program:
        """What to start. The properties passed `validate`."""
        ...
