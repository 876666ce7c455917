"""Outputs that a program gives by printing them: a line of stdout that is exactly `::{"outputs":{…}}::`.

Such a line sets outputs and is not logged. One that can't be read is told in the
log and never ends the job.
"""

import json
from collections.abc import Callable
from typing import Any, NoReturn

from farhand.kernel.names import shown
from farhand.kernel.nesting import MOST_LEVELS, too_deep
from farhand.worker.tasks.output_limit import OUTPUT_LIMIT

_KNOWN = frozenset({"outputs", "metrics"})


class OutputLines:
    """Collects the outputs of one run."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        """`warn` gets one line for each that can't be read."""
        self.vars: dict[str, Any] = {}
        self._warn = warn
        self.size = 0  # bytes of JSON, of all lines together

    def take(self, line: str) -> bool:
        """Look at a line of stdout; True where it was one of ours."""
        if not line.startswith("::{"):
            return False
        line = line.rstrip("\r ")
        if not line.endswith("}::"):
            if len(line) > 4096:
                self._warn(
                    "a line that begins with ::{ was not read as outputs: it is too long, or does not end in }::"
                )
                return True
            return False
        try:
            said = json.loads(line[2:-2], parse_constant=_refuse)
            self._apply(said)
        except (ValueError, RecursionError) as error:
            self._warn(f"outputs not read: {error}: {shown(line, 120)}")
        return True

    def _apply(self, said: Any) -> None:
        unknown = set(said) - _KNOWN
        if unknown:
            self._warn(f"outputs: {', '.join(sorted(unknown))} not known; known are outputs and metrics")
        outputs = said.get("outputs", {})
        if not isinstance(outputs, dict):
            raise ValueError("outputs must be a map")
        if too_deep(outputs):
            raise ValueError(f"outputs may be nested {MOST_LEVELS} levels deep, not deeper")
        for name, value in outputs.items():
            text = json.dumps({name: value}, ensure_ascii=False)
            if "\\u0000" in text:
                raise ValueError("a NUL character can't be kept")
            self.size += len(text.encode())  # half a surrogate pair is a UnicodeEncodeError, which is a ValueError
            if self.size <= OUTPUT_LIMIT:
                self.vars[name] = value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
