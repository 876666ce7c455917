"""The runner `io.kestra.plugin.core.runner.Process`: a process on the worker's own machine.

It is the default, since a worker is where you chose to run. The command sees
the worker's environment, because that is how the machine's owner tells jobs
where their tools are. What configures the worker itself is kept from it: among
that are the worker's credentials.
"""

from collections.abc import Mapping
from typing import ClassVar

from farhand.worker.process_control import ProcessControl, ProcessSpec, RunningProcess
from farhand.worker.runners import Command

_OURS = (
    "FARHAND_",  # settings, the token among them; the task's own FARHAND_… variables come with the command
    "OTEL_",  # may hold the collector's key; TRACEPARENT comes with the command
    "NOTIFY_SOCKET",  # from here on: a service manager speaks to the worker, not to its jobs
    "WATCHDOG_",
    "LISTEN_",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
)


class ProcessRunner:
    """Runs a command under the warden."""

    type: ClassVar[str] = "io.kestra.plugin.core.runner.Process"

    def __init__(self, control: ProcessControl, environment: Mapping[str, str]) -> None:
        """`environment` is the worker's own (os.environ)."""
        self._control = control
        self._environment = {name: value for name, value in environment.items() if not name.startswith(_OURS)}

    async def start(self, command: Command) -> RunningProcess:
        """See TaskRunner.start."""
        env = {**self._environment, "PWD": str(command.folder), **command.env}
        return await self._control.start(
            ProcessSpec(run_id=command.run_id, argv=command.argv, env=env, cwd=command.folder)
        )
