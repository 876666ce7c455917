"""Files of events: one that is written here, and those of the workers, read as they grow."""

import json
from pathlib import Path
from typing import Any, NamedTuple

_SILENT = 1.0  # seconds without a sign of life after which a run is over for us


class Diary:
    """A client's file."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("a", buffering=1)

    def write(self, what: str, **fields: Any) -> None:
        """One line, in one write."""
        self._file.write(json.dumps({"what": what, **fields}) + "\n")

    def close(self) -> None:
        self._file.close()


class Running(NamedTuple):
    """How many run at a time."""

    jobs: int
    executions: int  # of which a task runs


class Runs:
    """What runs right now, by what jobs write into these files."""

    def __init__(self, files: list[Path]) -> None:
        self._read = dict.fromkeys(files, 0)  # bytes
        self._last: dict[tuple[str, int, str], float] = {}  # by job, fence and execution: when it lived

    def now(self, now: float) -> Running:
        """How much runs; `now` by CLOCK_MONOTONIC."""
        for file, done in self._read.items():
            if not file.exists():
                continue
            with file.open("rb") as lines:
                lines.seek(done)
                new = lines.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read[file] = done + len(whole)
            for line in map(json.loads, whole.splitlines()):
                name = line["job"], line["fence"], line.get("execution", "")
                if line["what"] == "end":
                    self._last.pop(name, None)
                else:
                    self._last[name] = line["at"]
        self._last = {name: at for name, at in self._last.items() if now - at < _SILENT}
        return Running(len(self._last), len({execution for _, _, execution in self._last if execution}))
