"""From the bytes that a program writes to lines of a log.

A line ends at a line feed, or with the output. Longer than 64 KiB it is cut, and
its text says so; what a log can't keep (bytes that are not UTF-8, NUL) becomes
U+FFFD. Only one line's beginning is ever held, however long the line grows.
"""

from typing import Protocol

LINE_LIMIT = 64 * 1024  # bytes


class Masked(Protocol):
    """See Mask.text (masking.py)."""

    def __call__(self, text: str, *, cut: bool = False) -> str: ...


_MARK = f" … [cut: the line has more than {LINE_LIMIT // 1024} KiB]"


class LineSplitter:
    """Cuts one stream of output into lines."""

    def __init__(self) -> None:
        self._rest = bytearray()  # the beginning of an unfinished line, at most one byte over the limit

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that the chunk ends, without their line feeds; each at most LINE_LIMIT + 1 bytes long."""
        first, *others = chunk.split(b"\n")
        self._rest += first[: LINE_LIMIT + 1 - len(self._rest)]
        if not others:
            return []
        lines = [bytes(self._rest), *others]
        self._rest = bytearray(lines.pop()[: LINE_LIMIT + 1])
        return lines

    def finish(self) -> list[bytes]:
        """The output ended: what stands after the last line feed is a line too."""
        rest, self._rest = bytes(self._rest), bytearray()
        return [rest] if rest else []


def text_of(line: bytes, masked: Masked | None = None) -> str:
    """The text that the log keeps of a line, without what must not come into it."""
    mark = ""
    if len(line) > LINE_LIMIT:
        line = line[: _character_end(line, LINE_LIMIT)]
        mark = _MARK
    text = line.decode("utf-8", "replace")
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    if masked is not None:
        text = masked(text, cut=bool(mark))
    return text + mark


def _character_end(line: bytes, limit: int) -> int:
    """The last position up to the limit that does not lie within a UTF-8 character."""
    for position in range(limit, limit - 4, -1):
        if line[position] & 0xC0 != 0x80:
            return position
    return limit  # not UTF-8 at all
