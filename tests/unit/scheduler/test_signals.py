"""Errands between replicas: one that fails harms no other."""

import asyncio
from typing import Any, cast

import pytest

from farhand.scheduler.loops.changes import Changes
from farhand.scheduler.loops.doorbell import Ring
from farhand.scheduler.loops.signals import Signals
from farhand.scheduler.loops.stream import Streams


class Loops:
    """Stands for the loops that errands go to; the first kill's errand fails."""

    def __init__(self) -> None:
        self.resent = 0
        self.rechecked: asyncio.Queue[list[int]] = asyncio.Queue()

    async def resend(self) -> None:
        self.resent += 1
        if self.resent == 1:
            raise RuntimeError("the database said something new")

    async def recheck(self, sessions: list[int]) -> None:
        self.rechecked.put_nowait(sessions)


async def test_an_errand_that_fails_does_not_end_the_errands(caplog: pytest.LogCaptureFixture) -> None:
    signals, loops = Signals(Changes(), Streams()), Loops()
    signals.dispatch = signals.kills = signals.sessions = cast(Any, loops)
    loops.wake = lambda groups: None  # type: ignore[attr-defined]
    running = asyncio.create_task(signals.run())
    signals.heard(Ring(kills=True))
    signals.heard(Ring(kills=True, sessions={7}))
    async with asyncio.timeout(20):
        assert await loops.rechecked.get() == [7]
    assert "the database said something new" in caplog.text
    running.cancel()
    await asyncio.wait([running])
