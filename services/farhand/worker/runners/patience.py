"""How long a client of a distant server asks again, and how often.

A server that is away comes back, mostly. So what fails in passing is tried again,
with longer and longer pauses, until it works or has failed for `patience` seconds in
a row; then the run ends, and says so.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

PATIENCE = 300.0  # seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0  # seconds; the pause is drawn between half of it and all of it

T = TypeVar("T")


class Passing(Exception):
    """A failure that may pass; the message is for people. `after`: seconds that the server asks to wait, or None."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Away(Exception):
    """It has failed for too long; the message is that of the last failure."""


class Pauses:
    """The pauses between tries of one thing."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self.worked()

    def worked(self) -> None:
        """The next failure is the first again."""
        self._first: float | None = None
        self._next = FIRST_PAUSE

    async def failed(self, why: Passing) -> None:
        """Wait before the next try. Raises Away where there is none."""
        now = time.monotonic()
        if self._first is None:
            self._first = now
        pause = self._next * random.uniform(0.5, 1.0) if why.after is None else min(why.after, LONGEST_PAUSE)
        self._next = min(self._next * 2, LONGEST_PAUSE)
        if now + pause - self._first > self._patience:
            raise Away(str(why)) from why
        await asyncio.sleep(pause)


async def persist(call: Callable[[], Awaitable[T]], patience: float) -> T:
    """Call until it doesn't raise Passing. Raises Away."""
    pauses = Pauses(patience)
    while True:
        try:
            return await call()
        except Passing as why:
            await pauses.failed(why)
