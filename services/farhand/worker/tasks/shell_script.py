"""io.kestra.plugin.scripts.shell.Script: one shell script, as one text."""

from collections.abc import Sequence
from typing import Any, ClassVar

from farhand.kernel.errors import Violation
from farhand.worker.tasks import properties as check
from farhand.worker.tasks.scripts import ScriptTask


class ShellScript(ScriptTask):
    """Runs a script by a shell."""

    type: ClassVar[str] = "io.kestra.plugin.scripts.shell.Script"
    source: ClassVar[str] = "script"

    def check_source(self, value: Any) -> list[Violation]:
        """It is a text."""
        return check.string("script", value, required=True)

    def lines(self, source: Any) -> Sequence[str]:
        """It is what it is."""
        return [source]
