"""How results look: a table for people, or a JSON or YAML document for programs.

Documents follow protobuf's JSON mapping with the names of the .proto files, every field
without presence included, so that a script finds the same keys each time. 64-bit integers
are strings there, durations "1.500s", times RFC 3339. A list is an array.

Tables go to a terminal with colour and to a file or pipe without, one row a line, never
wrapped. All text in them is made safe (`terminal.plain`).
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from farhand.cli.terminal import plain

if TYPE_CHECKING:
    from google.protobuf.message import Message

Document = Mapping[str, Any]

_COLOURS = {
    "SUCCESS": "green",
    "CONNECTED": "green",
    "ACTIVE": "green",
    "RUNNING": "cyan",
    "ASSIGNED": "cyan",
    "WARNING": "yellow",
    "KILLING": "yellow",
    "RETRYING": "yellow",
    "DRAINING": "yellow",
    "DISCONNECTED": "yellow",
    "DELETING": "yellow",
    "FAILED": "red",
    "KILLED": "red",
    "LOST": "red",
}


def state_style(cell: str) -> str:
    """The colour of a cell that is the name of a state; of any other none."""
    return _COLOURS.get(cell, "")


def document(message: "Message") -> dict[str, Any]:
    """A message as a JSON document."""
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


class Printer:
    """Writes results to stdout in the format that was asked for."""

    def __init__(self, output: str) -> None:
        self.output = output

    def one(self, data: Document, rows: Sequence[tuple[str, str]]) -> None:
        """One thing: a document, or its rows of (name, value)."""
        if self.output == "table":
            for line in columns(rows):
                sys.stdout.write(line + "\n")
        else:
            self._document(data)

    def value(self, data: Document, text: str) -> None:
        """One thing that a shell script wants: a document, or a text alone."""
        if self.output == "table":
            sys.stdout.write(f"{plain(text)}\n")
        else:
            self._document(data)

    def lines(self, data: Document, lines: Sequence[str]) -> None:
        """A text of several lines, in colours on a terminal where it is a diff; or a document."""
        if self.output != "table":
            self._document(data)
            return
        colours = {"+": "\x1b[32m", "-": "\x1b[31m", "@": "\x1b[36m"} if sys.stdout.isatty() else {}
        for line in lines:
            colour = colours.get(line[:1], "")
            sys.stdout.write(f"{colour}{plain(line)}{colour and chr(27) + '[0m'}\n")

    def many(self, data: Sequence[Document], headers: Sequence[str], rows: Sequence[Sequence[str]], none: str) -> None:
        """A list: an array, or a table. `none` is said on stderr where a table would be empty."""
        if self.output != "table":
            self._document(data)
        elif not rows:
            sys.stderr.write(f"{none}\n")
        elif sys.stdout.isatty():
            _coloured(headers, rows)
        else:
            sys.stdout.writelines(line + "\n" for line in columns([headers, *rows]))

    def done(self, text: str) -> None:
        """Something is done that has no result: said to people, on stderr."""
        if self.output == "table":
            sys.stderr.write(f"{plain(text)}\n")

    def _document(self, data: Document | Sequence[Document]) -> None:
        if self.output == "json":
            sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=not _prints_unicode()) + "\n")
        else:
            import yaml

            yaml.safe_dump(data, sys.stdout, sort_keys=False, allow_unicode=_prints_unicode(), width=1000)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with aligned columns, two spaces between them, as wide as they need to be."""
    safe = [[plain(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*safe, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in safe]


def _coloured(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for header in headers:
        table.add_column(header, overflow="fold", no_wrap=header != headers[-1])
    for row in rows:
        table.add_row(*(Text(plain(cell), style=state_style(cell)) for cell in row))
    Console(highlight=False).print(table)


def _prints_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") in ("utf8", "utf16", "utf32")
