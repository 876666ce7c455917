"""The door of a server: closed a moment before the server stops.

grpc.aio answers CANCELLED to calls that it has received and not begun when it is
stopped, and a caller that asked for no such thing can't know that it may try again.
Behind a closed door every call is answered UNAVAILABLE (SHUTTING_DOWN) until callers
have heard of it and gone elsewhere; then nothing is left to be cancelled.
"""

import asyncio

from farhand.kernel.errors import ShuttingDown

# Turns, and not one long wait: a loop that was busy wakes late, and has calls to look at that came meanwhile.
TURN_SECONDS = 0.02
QUIET_TURNS = 8  # without a call, after which nobody is on the way any more
MOST_TURNS = 50  # with callers who come again all the same


class Door:
    """See the module."""

    def __init__(self) -> None:
        self._closed = False
        self._knocked = False

    def enter(self) -> None:
        """A call comes. Raises ShuttingDown."""
        if self._closed:
            self._knocked = True
            raise ShuttingDown("This server is stopping; call another, or this one again.", retry_delay=0.5)

    async def close(self) -> None:
        """Refuse all new calls; returns when none has come for a moment."""
        self._closed = True
        quiet = 0
        for _ in range(MOST_TURNS):
            self._knocked = False
            await asyncio.sleep(TURN_SECONDS)
            quiet = 0 if self._knocked else quiet + 1
            if quiet == QUIET_TURNS:
                return
