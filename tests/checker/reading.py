"""Reads a folder of histories: every `*.jsonl` file under it, one event a line.

A last line without its end is of a writer that was killed, and is left out.
"""

import json
from pathlib import Path

from tests.checker.events import Event, Line, parse


class Unreadable(Exception):
    """A line is no event; says which."""


def read(folder: Path) -> list[Event]:
    """All events of the folder. Unreadable where a line is none."""
    return [event for file in sorted(folder.rglob("*.jsonl")) for event in _events(file, folder)]


def _events(file: Path, folder: Path) -> list[Event]:
    found = []
    with file.open() as lines:
        for number, text in enumerate(lines, 1):
            if not text.endswith("\n"):
                break
            line = Line(f"{file.relative_to(folder)}:{number}", text.rstrip("\n"))
            try:
                found.append(parse(line, json.loads(text)))
            except (KeyError, TypeError, ValueError) as error:
                raise Unreadable(f"{line}: {error!r}") from None
    return found
