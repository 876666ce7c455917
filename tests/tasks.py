"""Tasks, as any client writes them."""

from farhand.api.types.v1.task_pb2 import Task

SHELL = "io.kestra.plugin.scripts.shell.Commands"
NOOP = "farhand.core.Noop"


def a_shell_task(*commands: str) -> Task:
    """Runs these command lines, one after another."""
    task = Task(type=SHELL)
    task.properties.update({"commands": list(commands)})
    return task
