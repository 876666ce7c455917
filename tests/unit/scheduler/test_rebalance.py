"""Streams move on: when, how many, and what becomes of those that don't go."""

from collections.abc import Sequence
from typing import Any

from farhand.scheduler.core.lease import LeaseTerms
from farhand.scheduler.loops.doorbell import Ring
from farhand.scheduler.loops.frames import GoAway
from farhand.scheduler.loops.rebalance import LEAVE_SECONDS, ROUND_SECONDS, Rebalance
from farhand.scheduler.loops.stream import Outbox, Outstanding, Stream, Streams


class House:
    """A rebalance with a clock of its own, over streams that are there in name."""

    def __init__(self, count: int, age: float = 3600.0) -> None:
        self.now = 100.0
        self.streams = Streams()
        self.told: list[int] = []
        sessions: Any = self
        self.rebalance = Rebalance(
            self.streams, sessions, self.told.append, age=age, now=lambda: self.now, jitter=lambda: 0.5
        )
        for number in range(count):
            self.streams.add(Stream(number, 1, f"w{number}", "g", "", None, frozenset(), LeaseTerms(0), Outbox()))

    async def send_on(self, streams: Sequence[Stream], why: GoAway) -> None:
        for stream in streams:
            stream.leaving = True

    async def after(self, seconds: float) -> list[Stream]:
        """The streams that are leaving after a look that much later."""
        self.now += seconds
        await self.rebalance.once()
        return [stream for stream in self.streams.all() if stream.leaving]


def test_a_ring_carries_the_number_of_streams() -> None:
    sender, ring = Ring.decode(Ring(streams=7).encode("b"))
    assert (sender, ring.sender, ring.streams) == ("b", "b", 7)
    assert Ring.decode(Ring(kills=True).encode("b"))[1].streams is None
    assert Ring(streams=0) and not Ring()


async def test_a_stream_that_is_old_is_sent_on_once() -> None:
    house = House(3, age=100.0)
    assert not await house.after(0)
    assert not await house.after(99)
    assert len(await house.after(2)) == 3
    assert not any(stream.outbox.closed for stream in house.streams.all())


async def test_a_stream_that_was_sent_on_and_stays_is_cut_off() -> None:
    house = House(1, age=10.0)
    await house.after(0)
    [stream] = await house.after(11)
    await house.after(1)
    await house.after(LEAVE_SECONDS - 1)
    assert not stream.outbox.closed
    await house.after(1)
    assert stream.outbox.closed


async def test_others_are_told_how_many_there_are() -> None:
    house = House(3)
    for _ in range(3):
        await house.after(ROUND_SECONDS)
    assert house.told == [3, 3, 3]


async def test_a_replica_that_joined_is_given_those_that_hold_least() -> None:
    house = House(40)
    for stream in house.streams.all()[:30]:
        stream.outstanding[1] = Outstanding(1, None)
    house.rebalance.heard(Ring(streams=0, sender="b"))
    moved = await house.after(ROUND_SECONDS)
    assert len(moved) == 2 and not any(stream.outstanding for stream in moved)
    house.rebalance.heard(Ring(streams=2, sender="b"))
    assert len(await house.after(ROUND_SECONDS)) == 3


async def test_a_replica_that_is_heard_no_more_is_given_nothing() -> None:
    house = House(40)
    house.rebalance.heard(Ring(streams=0, sender="b"))
    assert not await house.after(60)
