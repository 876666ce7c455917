"""What `farhand run` itself has to say, on stderr, apart from the job's log.

On a terminal the reason for which a job waits is a line with a spinner that goes away; else
it is a line each time that the reason changes, so that a build log stays short.
"""

import sys
from typing import TYPE_CHECKING

from farhand.cli.terminal import plain

if TYPE_CHECKING:
    from rich.status import Status


class Notices:
    """Lines and a status on stderr. `quiet` leaves out all but `warn`."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._tty = sys.stderr.isatty()
        self._status: Status | None = None
        self._last_wait = ""

    def say(self, text: str) -> None:
        """A line that is good to know."""
        if not self._quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """A line that must not be missed."""
        self.clear()
        sys.stderr.write(f"farhand: {plain(text)}\n")
        sys.stderr.flush()

    def waiting(self, reason: str, text: str) -> None:
        """The job waits; `reason` is the same as long as only figures in the text change."""
        if self._quiet:
            return
        if not self._tty:
            if reason != self._last_wait:
                self.warn(text)
            self._last_wait = reason
            return
        from rich.text import Text

        line = Text(plain(text), style="dim", overflow="ellipsis", no_wrap=True)
        if self._status is None:
            from rich.console import Console

            self._status = Console(stderr=True).status(line)
            self._status.start()
        else:
            self._status.update(line)

    def clear(self) -> None:
        """Take the status away, before something else is written."""
        if self._status is not None:
            self._status.stop()
            self._status = None
