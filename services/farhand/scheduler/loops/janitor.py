"""What every replica looks after by itself, twice a second: streams that are silent, leases, fallbacks, kills that
are not confirmed.

Nothing depends on a message that got lost: this looks at the tables. Several
replicas do it at once and harm nothing, since each write is guarded.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable

from farhand.kernel.errors import Unavailable
from farhand.scheduler.loops.kills import Kills
from farhand.scheduler.loops.sessions import Sessions

log = logging.getLogger(__name__)

EVERY_SECONDS = 0.5


class Janitor:
    """See the module."""

    def __init__(self, sessions: Sessions, kills: Kills, *, now: Callable[[], float] = time.monotonic) -> None:
        self._sessions = sessions
        self._kills = kills
        self._now = now

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(EVERY_SECONDS * (0.75 + random.random() / 2))
            try:
                await self.once()
            except Unavailable as error:
                log.debug("the janitor waits", extra={"reason": str(error)})
            except Exception:
                log.exception("the janitor stumbled; it goes on")

    async def once(self) -> None:
        """One look. Raises Unavailable."""
        await self._sessions.part_from_silent(self._now())
        await self._sessions.expire(self._now)
        await self._sessions.settle()
        await self._kills.resend()
