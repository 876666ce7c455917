"""The door of a server: closed a moment before the server stops.

grpc.aio answers CANCELLED to calls that it has received and not begun when it is
stopped, and a caller that asked for no such thing can't know that it may try again.
Behind a closed door every call is answered UNAVAILABLE (SHUTTING_DOWN) until callers
have heard of it and gone elsewhere; then nothing is left to be cancelled.
"""

import asyncio
import contextlib

from farhand.kernel.errors import ShuttingDown

QUIET_SECONDS = 0.1  # without a call, after which nobody is on the way any more
PATIENCE_SECONDS = 1.0  # with callers who come again all the same


class Door:
    """See the module."""

    def __init__(self) -> None:
        self._closed = False
        self._knock = asyncio.Event()

    def enter(self) -> None:
        """A call comes. Raises ShuttingDown."""
        if self._closed:
            self._knock.set()
            raise ShuttingDown("This server is stopping; call another, or this one again.", retry_delay=0.5)

    async def close(self) -> None:
        """Refuse all new calls; returns when none has come for a moment."""
        self._closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while await self._knocked_within(QUIET_SECONDS):
                    self._knock.clear()

    async def _knocked_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._knock.wait()
        except TimeoutError:
            return False
        return True
