"""What is wrong with a flow's source, and where."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "ERROR"  # the flow can't be saved
    WARNING = "WARNING"  # it can, and may not do what was meant


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing. Line and column count from 1; 0: the whole. The path is like `tasks[0].workerGroup.key`."""

    line: int
    column: int
    path: str
    message: str
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        where = f"line {self.line}" if self.line else ""
        where += f", column {self.column}: " if self.column else ": " if self.line else ""
        return f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"
