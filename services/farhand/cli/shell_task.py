"""The task of `farhand run`: a command line as an `io.kestra.plugin.scripts.shell.Commands`."""

import re
import shlex
from collections.abc import Sequence
from typing import Any

from farhand.cli.failure import WrongUse
from farhand.kernel.names import shown

TYPE = "io.kestra.plugin.scripts.shell.Commands"

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # POSIX, 8.1


def properties(words: Sequence[str], env: Sequence[str]) -> dict[str, Any]:
    """The task's properties for the words behind `--` and the K=V of each --env."""
    values: dict[str, Any] = {"commands": [shell_line(words)]}
    if env:
        values["env"] = environment(env)
    return values


def shell_line(words: Sequence[str]) -> str:
    """One line for the worker's shell: a single word is a line already, several are quoted each.

    So `-- 'echo $HOME | wc -c'` is a pipeline on the worker, and `-- echo '$HOME'` prints five characters.
    """
    line = words[0] if len(words) == 1 else shlex.join(words)
    _check("the command", line)
    if not line.strip():
        raise WrongUse("The command is empty: say what to run after --.")
    return line


def environment(pairs: Sequence[str]) -> dict[str, str]:
    """The variables of --env K=V; of two with one name the last holds."""
    variables = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not _VARIABLE.fullmatch(name):
            raise WrongUse(f"--env: {shown(pair)} is not NAME=VALUE with a name of letters, digits and _.")
        _check(f"--env {name}", value)
        variables[name] = value
    return variables


def _check(what: str, text: str) -> None:
    """What was typed may be any bytes; what travels is UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise WrongUse(f"{what}: {shown(text)} is not UTF-8.") from None
