"""io.kestra.plugin.scripts.python.Script: one Python script, as one text.

It lies in the run's folder while it runs, so that a traceback shows its lines and
`import` finds what lies beside it. `beforeCommands` are the shell's, in the same
shell: `. /opt/venv/bin/activate` chooses the Python that runs it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from farhand.kernel.errors import Violation
from farhand.worker.tasks import properties as check
from farhand.worker.tasks.base import TaskContext
from farhand.worker.tasks.python_commands import UNBUFFERED, find_python
from farhand.worker.tasks.scripts import ScriptTask

FILE = ".script.py"  # hidden: patterns such as *.py don't mean it


class PythonScript(ScriptTask):
    """Runs a script by Python."""

    type: ClassVar[str] = "io.kestra.plugin.scripts.python.Script"
    source: ClassVar[str] = "script"
    env: ClassVar[Mapping[str, str]] = UNBUFFERED

    def check_source(self, value: Any) -> list[Violation]:
        """It is a text."""
        return check.string("script", value, required=True)

    def prelude(self) -> Sequence[str]:
        """See find_python."""
        return find_python()

    def lines(self, source: Any) -> Sequence[str]:
        """Python takes the shell's place."""
        return [f"exec python3 {FILE}"]

    def prepare(self, context: TaskContext) -> None:
        """Write the script."""
        (context.folder() / FILE).write_text(context.properties["script"], encoding="utf-8")
