"""What the janitor looks with."""

import time
from collections.abc import Callable
from typing import Any

from farhand.scheduler.loops.janitor import Janitor


class Looked:
    """Sessions and kills that note which clock they were given."""

    def __init__(self) -> None:
        self.times: list[float] = []

    async def part_from_silent(self, now: float) -> None:
        self.times.append(now)

    async def expire(self, now: Callable[[], float]) -> None:
        self.times.append(now())

    async def settle(self) -> None: ...

    async def resend(self) -> None: ...


async def test_leases_are_watched_by_the_monotonic_clock() -> None:
    looked: Any = Looked()
    before = time.monotonic()
    await Janitor(looked, looked).once()
    assert len(looked.times) == 2
    assert all(before <= at <= time.monotonic() for at in looked.times)  # a wall clock is decades ahead (rule 6)
