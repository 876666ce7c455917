"""io.kestra.plugin.scripts.python.Commands: shell commands that find a Python.

They are commands for the shell, such as `python train.py`. `python` and `python3`
are the machine's own, where it has them on its PATH, else the worker's.
"""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from farhand.worker.tasks.scripts import ScriptTask

# A log line is to be seen when it is printed, not when a buffer is full.
UNBUFFERED: Mapping[str, str] = {"PYTHONUNBUFFERED": "1"}


def find_python() -> Sequence[str]:
    """A line of shell after which there is a `python3`, and a `python` where this worker's folder has one."""
    return [f'PATH="$PATH":{shlex.quote(str(Path(sys.executable).parent))}; export PATH']


class PythonCommands(ScriptTask):
    """Runs commands by a shell, with a Python at hand."""

    type: ClassVar[str] = "io.kestra.plugin.scripts.python.Commands"
    env: ClassVar[Mapping[str, str]] = UNBUFFERED

    def prelude(self) -> Sequence[str]:
        """See find_python."""
        return find_python()
