"""The runner `io.kestra.plugin.core.runner.Process`: a process on the worker's own machine.

It is the default, since a worker is where you chose to run. The command sees
the worker's environment, less what is not for jobs (environment.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from farhand.kernel.errors import Violation
from farhand.worker.environment import for_jobs
from farhand.worker.runners import PROCESS, Command, Program
from farhand.worker.tasks import properties as check


class ProcessRunner:
    """The program is the command."""

    type: ClassVar[str] = PROCESS
    local: ClassVar[bool] = True

    def __init__(self, environment: Mapping[str, str]) -> None:
        """`environment` is the worker's own (os.environ)."""
        self._environment = for_jobs(environment)

    def validate(self, properties: Mapping[str, Any], image: str) -> Sequence[Violation]:
        """It has no properties. An image means nothing to it, so that a task can be moved by its runner alone."""
        return check.unknown_properties(self.type, properties, {"type"})

    def program(self, command: Command, properties: Mapping[str, Any]) -> Program:
        """See TaskRunner.program."""
        return Program(command.argv, {**self._environment, "PWD": str(command.folder), **command.env})
