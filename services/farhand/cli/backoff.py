"""How long to wait before the next attempt: exponential with full jitter, for ever.

Full jitter keeps the clients of a restarted server from coming back in step.
"""

import asyncio
import random


class Backoff:
    """The n-th wait is a random part of min(longest, first · 2ⁿ) seconds."""

    def __init__(self, first: float = 0.5, longest: float = 5.0, chance: random.Random | None = None) -> None:
        self._first = first
        self._longest = longest
        self._chance = chance or random.Random()
        self._failures = 0

    def reset(self) -> None:
        """An attempt worked."""
        self._failures = 0

    def next(self) -> float:
        """Seconds to wait now that one more attempt failed."""
        bound = min(self._longest, self._first * 2 ** min(self._failures, 30))
        self._failures += 1
        return self._chance.uniform(0, bound)

    async def wait(self) -> None:
        """Wait them."""
        await asyncio.sleep(self.next())
