"""Follows the change log, once for the whole process, and lets any number of watchers read along.

A watcher holds nothing but the revision that it has reached, and asks for what
follows. The newest changes are kept here, so that watchers who keep up cost the
database nothing; one that fell behind reads the log itself, or a snapshot. So a slow
watcher costs no memory, however long it sleeps.

Notices wake the feed, a jittered poll makes sure. While the database can't be
reached the feed is *lost* and says so to whoever waits; it comes back by itself.
"""

import asyncio
import contextlib
import itertools
import logging
import random
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from farhand.kernel.errors import FarhandError, ShuttingDown, Unavailable
from farhand.registry.core.change import Change
from farhand.registry.store import changes
from farhand.registry.store.transactions import Transactions, trouble

log = logging.getLogger(__name__)

_BATCH = 500  # changes that are handed over at once
_READ_WITHIN = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_SAY_EVERY = 5.0

Listen = Callable[[Callable[[], None]], AbstractAsyncContextManager[Callable[[], bool]]]


class Feed:
    """The change log of this process's database, as it grows."""

    def __init__(self, transactions: Transactions, listen: Listen, *, poll: float = 1.0, memory: int = 1000) -> None:
        """listen: `Notices.listening`. poll: seconds between two looks without a notice. memory: changes kept here."""
        self._transactions = transactions
        self._listen = listen
        self._poll = poll
        self._recent: deque[Change] = deque(maxlen=memory)
        self._latest: int | None = None
        self._trouble: FarhandError | None = None
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()  # replaced at each move, so that every waiter sees every move
        self._looking = asyncio.Lock()  # two looks at once would keep the same changes twice
        self._said = -_SAY_EVERY

    @property
    def latest(self) -> int:
        """The newest revision that was seen; 0 before the first look."""
        return self._latest or 0

    def after(self, revision: int) -> Sequence[Change] | None:
        """The next changes after a revision, at most 500; None when they are no longer kept here."""
        if revision >= self.latest:
            return ()
        if not self._recent or self._recent[0].revision > revision + 1:
            return None
        start = revision + 1 - self._recent[0].revision
        return tuple(itertools.islice(self._recent, start, start + _BATCH))

    async def beyond(self, revision: int, *, within: float) -> bool:
        """Wait until there is a change after the revision; False when there was none within so many seconds.

        Raises Unavailable while the database can't be reached, ShuttingDown after `close`.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while True:
                    if (known := self._trouble) is not None:
                        raise type(known)(known.message, retry_delay=known.retry_delay)
                    if self.latest > revision:
                        return True
                    await self._moved.wait()
        return False

    def close(self) -> None:
        """Send every waiter away, now and from now on: this process stops."""
        self._trouble = ShuttingDown("The registry is stopping. Connect again.", retry_delay=1.0)
        self._move()
        self._wake.set()

    async def once(self) -> None:
        """Look once, and let the watchers know what is new."""
        async with asyncio.timeout(_READ_WITHIN), self._looking:
            while await self._look():
                pass

    async def run(self) -> None:
        """Follow for ever; returns after `close`."""
        pause = _FIRST_PAUSE
        while not self._closed():
            try:
                async with self._listen(self._wake.set) as still_listening:
                    while not self._closed() and still_listening():
                        self._wake.clear()
                        await self.once()
                        self._found()
                        pause = _FIRST_PAUSE
                        await self._sleep(self._poll * random.uniform(0.75, 1.25))
            except Exception as error:
                found = trouble(error)
                if found is None:
                    raise
                self._lost(found, error)
                await self._sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def _look(self) -> bool:
        """Read one batch; True when there may be more."""
        async with self._transactions.reading() as connection:
            current = await changes.current(connection)
            if current == self._latest:
                return False
            new = None
            if self._latest is not None and self._latest < current:
                new = await changes.after(connection, self._latest, _BATCH)
        if new is None:
            if self._latest is not None:
                # The log was pruned past us, or the database went back in time (a restored backup).
                log.warning("the change log has a gap", extra={"from": self._latest, "to": current})
            self._recent.clear()
            self._latest = current
        else:
            self._recent.extend(new)
            self._latest = new[-1].revision
        self._move()
        return self._latest < current

    def _move(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def _closed(self) -> bool:
        return isinstance(self._trouble, ShuttingDown)

    def _found(self) -> None:
        if isinstance(self._trouble, Unavailable):
            self._trouble = None
            log.info("the database is back")

    def _lost(self, why: FarhandError, cause: Exception) -> None:
        if self._closed():
            return
        now = asyncio.get_running_loop().time()
        if self._trouble is None or now - self._said >= _SAY_EVERY:
            self._said = now
            log.warning("the change log can't be read", extra={"cause": repr(cause)})
        self._trouble = why
        self._move()
        self._wake.clear()  # the lost connection's last word, or we would try again at once

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
