"""Streams move on: old ones, and those of a replica that has clearly more than the others (core/balance.py).

Every replica tells the others now and then how many streams it holds; one that
joined is known by that before it has any. A stream that was sent on and does not
leave is cut off after a while: its worker takes no jobs here any more.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable

from farhand.scheduler.core.balance import Balance, Word, age_limit, still_heard
from farhand.scheduler.loops.doorbell import Ring
from farhand.scheduler.loops.frames import GoAway, GoAwayReason
from farhand.scheduler.loops.sessions import Sessions
from farhand.scheduler.loops.stream import Stream, Streams

log = logging.getLogger(__name__)

EVERY_SECONDS = 1.0
ROUND_SECONDS = 2.0  # between two words to the others
LEAVE_SECONDS = 60.0  # that a worker has to leave

AGED = GoAway(GoAwayReason.REBALANCE, "This stream is old; dial another scheduler, or this one again.")
SPREAD = GoAway(GoAwayReason.REBALANCE, "Other schedulers have fewer workers; dial another, or this one again.")


class Rebalance:
    """See the module. `age`: seconds that a stream gets old; `tell` says to the other replicas how many there are."""

    def __init__(
        self,
        streams: Streams,
        sessions: Sessions,
        tell: Callable[[int], None],
        *,
        age: float,
        now: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._streams = streams
        self._sessions = sessions
        self._tell = tell
        self._age = age
        self._now = now
        self._jitter = jitter
        self._balance = Balance()
        self._words: dict[str, Word] = {}
        self._old_at: dict[Stream, float] = {}
        self._leaves_since: dict[Stream, float] = {}
        self._next_round = now()

    def heard(self, ring: Ring) -> None:
        """Another replica says how many streams it holds."""
        if ring.streams is not None:
            self._words[ring.sender] = Word(ring.streams, self._now())

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            await self.once()

    async def once(self) -> None:
        """One look."""
        now = self._now()
        staying = [stream for stream in self._streams.all() if not stream.leaving]
        leaving = [stream for stream in self._streams.all() if stream.leaving]
        known, self._old_at = self._old_at, {}
        for stream in staying:
            self._old_at[stream] = known[stream] if stream in known else now + age_limit(self._age, self._jitter())
        self._leaves_since = {stream: self._leaves_since.get(stream, now) for stream in leaving}
        for stream, since in self._leaves_since.items():
            if now - since >= LEAVE_SECONDS:
                log.info("a worker has not left in time", extra={"worker": stream.worker_id})
                stream.outbox.close(SPREAD)
        await self._sessions.send_on([stream for stream, old_at in self._old_at.items() if old_at <= now], AGED)
        if now >= self._next_round:
            self._next_round = now + ROUND_SECONDS
            await self._spread([stream for stream in staying if not stream.leaving])

    async def _spread(self, staying: list[Stream]) -> None:
        self._tell(len(staying))
        count = self._balance.surplus(len(staying), still_heard(self._words, self._now()))
        if count:
            # A move costs a worker least while it has little; one that drains is going anyway.
            movable = sorted((s for s in staying if not s.draining), key=lambda stream: len(stream.outstanding))
            log.info("workers are sent on to replicas that have fewer", extra={"workers": count, "of": len(staying)})
            await self._sessions.send_on(movable[:count], SPREAD)
