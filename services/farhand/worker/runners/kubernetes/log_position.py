"""Where a broken log stream goes on: no line is lost, none comes twice. Pure.

The cluster sends each line with its time (`2026-11-24T19:00:00.123456789Z text`), and
can begin again at a *second*, no finer. So a stream that begins again sends lines that
were sent before; they are known by what they say, time and text. Lines of standard
output and of standard error may be a little out of order, so it begins again a little
earlier than the last line, and what was said since then is remembered.

A line without its line feed is not there yet; it is taken at the very end alone, when
the command is known to have ended.
"""

import re
from collections import Counter, deque
from datetime import UTC, datetime

OVERLAP = 2  # seconds before the last line's, from which it begins again
LONGEST_LINE = 1 << 20  # bytes that are held of a line; a log keeps less (log_lines.LINE_LIMIT)

_TIME = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)")  # nodes may tell their own zone's


class LogPosition:
    """What was taken of one container's log."""

    def __init__(self) -> None:
        self._rest = b""
        self._last = 0  # the latest second that a line bore, of the epoch; 0: none yet
        self._seconds: tuple[bytes, int] = (b"", 0)  # what was read last as a time, and as what
        self._taken: deque[tuple[int, int]] = deque()  # second and line, of what may come again
        self._again: Counter[tuple[int, int]] = Counter()  # what may come again and has not yet

    @property
    def since(self) -> str | None:
        """From when to ask for, as the API takes it; None: from the beginning."""
        if not self._last:
            return None
        return datetime.fromtimestamp(self._last - OVERLAP, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def begin(self) -> None:
        """A stream begins, with the lines from `since` on."""
        self._rest = b""
        self._again = Counter(self._taken)

    def feed(self, chunk: bytes) -> list[bytes]:
        """The new lines that the chunk ends, without times and line feeds."""
        first, *others = chunk.split(b"\n")
        self._rest += first[: max(0, LONGEST_LINE - len(self._rest))]
        if not others:
            return []
        lines = [self._rest, *others]
        self._rest = lines.pop()[:LONGEST_LINE]
        return [text for line in lines if (text := self._take(line)) is not None]

    def finish(self) -> list[bytes]:
        """The log has ended, and what stands after the last line feed is a line too."""
        rest, self._rest = self._rest, b""
        text = self._take(rest) if rest else None
        return [] if text is None else [text]

    def _take(self, line: bytes) -> bytes | None:
        second = self._second(line)
        key = (second, hash(line))
        if self._again[key] > 0:
            self._again[key] -= 1
            return None
        if second > self._last:
            self._last = second
            while self._taken and self._taken[0][0] < second - OVERLAP:
                self._taken.popleft()
        self._taken.append(key)
        return line.partition(b" ")[2]

    def _second(self, line: bytes) -> int:
        """The second of a line's time; the last one where it bears none that can be read."""
        match = _TIME.match(line)
        if match is None:
            return self._last
        text = match[1] + match[2]
        if text != self._seconds[0]:
            try:
                self._seconds = (text, int(datetime.fromisoformat(text.decode()).timestamp()))
            except ValueError:
                return self._last
        return self._seconds[1]
