"""Where the services of a standalone write: all to stderr, each line behind its service's name, or to files."""

import contextlib
import sys
from pathlib import Path
from typing import Protocol, TextIO

from farhand.cli.terminal import log_line

OURS = "standalone"
_WIDTH = 14  # of the column of names; a longer name pushes its line to the right


class Output(Protocol):
    """Takes lines without their line feed."""

    def line(self, name: str, text: str) -> None:
        """A line that the service `name` wrote."""

    def notice(self, text: str) -> None:
        """A line of the standalone itself."""

    def close(self) -> None:
        """No line follows."""


class TerminalOutput:
    """All to stderr; to a terminal without what could garble it.

    When nobody reads it any more, the services go on unheard.
    """

    def __init__(self) -> None:
        self._tty = sys.stderr.isatty()

    def line(self, name: str, text: str) -> None:
        shown = log_line(text) if self._tty else text
        with contextlib.suppress(BrokenPipeError):
            sys.stderr.write(f"{name:<{_WIDTH}} | {shown}\n")
            sys.stderr.flush()

    def notice(self, text: str) -> None:
        self.line(OURS, text)

    def close(self) -> None:
        """Nothing to close."""


class FileOutput:
    """A file for each service, `<folder>/<name>.log`; the one of the run before is kept as `.log.1`.

    Notices go to stderr as well, unless `silent`.
    """

    def __init__(self, folder: Path, *, silent: bool = False) -> None:
        self._folder = folder
        self._silent = silent
        self._files: dict[str, TextIO] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def line(self, name: str, text: str) -> None:
        if name not in self._files:
            path = self._folder / f"{name.replace(' ', '-')}.log"
            if path.exists():
                path.replace(path.with_suffix(".log.1"))
            self._files[name] = path.open("w", encoding="utf-8", buffering=1)
        self._files[name].write(text + "\n")

    def notice(self, text: str) -> None:
        self.line(OURS, text)
        if not self._silent:
            sys.stderr.write(f"farhand: {text}\n")
            sys.stderr.flush()

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()
