"""What a loop says while it waits for another service: one line at most every 5 seconds, and one at the end."""

import logging
import time
from collections.abc import Callable

EVERY = 5.0  # seconds


class Waiting:
    """One thing that is waited for now and then: "the registry at HOST:PORT"."""

    def __init__(self, log: logging.Logger, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._what = what
        self._clock = clock
        self._said: float | None = None  # when a line was written last; None: not waiting

    def still(self, reason: str) -> None:
        """It is not there, for this reason."""
        now = self._clock()
        if self._said is None or now - self._said >= EVERY:
            self._said = now
            self._log.warning("waiting for %s: %s", self._what, reason)

    def over(self) -> None:
        """It is there."""
        if self._said is not None:
            self._said = None
            self._log.info("%s is back", self._what)
