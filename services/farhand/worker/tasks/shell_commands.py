"""io.kestra.plugin.scripts.shell.Commands: shell commands in a working folder of their own."""

from typing import ClassVar

from farhand.worker.tasks.scripts import ScriptTask


class ShellCommands(ScriptTask):
    """Runs commands by a shell."""

    type: ClassVar[str] = "io.kestra.plugin.scripts.shell.Commands"
