"""What is due is looked at: at once again while anything was, else at the next timer, at a wake, or at a poll.

What is due stands in a table, so nobody has to remember anything. A wake comes with
whatever happened in this process; a jittered poll and the time of the next timer are
the guarantee.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from asyncpg import Connection

from farhand.kernel.errors import Unavailable
from farhand.runtime.database import database_error
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.loops.waiting import Waiting

POLL_SECONDS = 1.0


class DueWork:
    """Looks for ever. `once` answers whether anything was due; `next_timer` in how many seconds something will be.

    `gather`: seconds between a look that found something and the next.
    """

    def __init__(
        self,
        what: str,
        connection: HotConnection,
        once: Callable[[], Awaitable[bool]],
        next_timer: Callable[[Connection], Awaitable[float | None]],
        log: logging.Logger,
        *,
        gather: float = 0.0,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._what = what
        self._connection = connection
        self._once = once
        self._next_timer = next_timer
        self._log = log
        self._gather = gather
        self._jitter = jitter
        self._wake = asyncio.Event()
        self._database = Waiting(log, f"the database, to look for {what}")

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    async def run(self) -> None:
        """Look until cancelled. Whatever a look raises, there is another."""
        while True:
            self._wake.clear()
            try:
                if await self._once():
                    await asyncio.sleep(self._gather)
                    continue
                timer = await self._next_timer(await self._connection.get())
                self._database.over()
                pause = POLL_SECONDS * (0.75 + self._jitter() / 2)
                pause = pause if timer is None else min(pause, timer)
            except Exception as error:
                lost = error if isinstance(error, Unavailable) else database_error(error)
                if lost is None:
                    self._log.exception("a look for %s failed; it is made again", self._what)
                else:
                    self._database.still(lost.message)
                self._connection.drop()
                pause = 0.2 + self._jitter() / 5
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass
