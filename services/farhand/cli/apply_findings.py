"""All that is wrong with a folder, gathered before anything is said or done."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from farhand.cli import flow_file
from farhand.cli.failure import CommandFailed
from farhand.cli.terminal import plain

if TYPE_CHECKING:
    from farhand.api.registry.v1.flow_pb2 import FlowProblem


class Findings:
    """Lines as compilers write them; see `flow_file.problem_lines`."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.errors = 0

    def error(self, message: str, file: Path | str = "", line: int = 0, column: int = 0, path: str = "") -> None:
        """Something that must not be, in a file or (without one) with the folder as a whole."""
        self.errors += 1
        self._add("error", message, file, line, column, path)

    def warning(self, message: str, file: Path | str) -> None:
        """Something that is worth a look."""
        self._add("warning", message, file, 0, 0, "")

    def flow(self, file: Path, problems: "Iterable[FlowProblem]") -> None:
        """What the registry says of a flow."""
        found = list(problems)
        self.errors += sum(map(flow_file.is_error, found))
        self.lines += flow_file.problem_lines(str(file), found)

    def say(self) -> None:
        """On stderr, all of them. CommandFailed where there are errors."""
        flow_file.say(self.lines)
        if self.errors:
            raise CommandFailed(f"Nothing was applied: there {_errors(self.errors)}.")

    def _add(self, kind: str, message: str, file: Path | str, line: int, column: int, path: str) -> None:
        place = ":".join(str(part) for part in (file, line, column) if part)
        where = f" ({path})" if path else ""
        self.lines.append(plain(f"{place and place + ': '}{kind}: {message}{where}"))


def _errors(count: int) -> str:
    return f"is {flow_file.counted(count, 'error')}" if count == 1 else f"are {flow_file.counted(count, 'error')}"
