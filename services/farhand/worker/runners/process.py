"""The runner `io.kestra.plugin.core.runner.Process`: a process on the worker's own machine.

It is the default, since a worker is where you chose to run. The command sees
the worker's environment, less what is not for jobs (environment.py).
"""

from collections.abc import Mapping
from typing import ClassVar

from farhand.worker.environment import for_jobs
from farhand.worker.process_control import ProcessControl, ProcessSpec, RunningProcess
from farhand.worker.runners import Command


class ProcessRunner:
    """Runs a command under the warden."""

    type: ClassVar[str] = "io.kestra.plugin.core.runner.Process"

    def __init__(self, control: ProcessControl, environment: Mapping[str, str]) -> None:
        """`environment` is the worker's own (os.environ)."""
        self._control = control
        self._environment = for_jobs(environment)

    async def start(self, command: Command) -> RunningProcess:
        """See TaskRunner.start."""
        env = {**self._environment, "PWD": str(command.folder), **command.env}
        return await self._control.start(
            ProcessSpec(run_id=command.run_id, argv=command.argv, env=env, cwd=command.folder)
        )
