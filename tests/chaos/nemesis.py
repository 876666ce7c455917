"""What goes wrong, by a seed: several faults at a time, each of its kind as often as the others."""

import asyncio
import random
import time
from collections.abc import Callable

from tests.chaos.crashes import Crashes
from tests.chaos.hand import Ground, Hand, Landed
from tests.chaos.network_faults import NetworkFaults
from tests.chaos.service_faults import ServiceFaults
from tests.chaos.worker_faults import WorkerFaults

LANES = 3  # faults at a time, at most


class Nemesis:
    """See the module."""

    def __init__(self, ground: Ground, *, seed: int, running: Callable[[float], int], pace: float = 1.5) -> None:
        """running: how many jobs run now. pace: seconds between two faults of a lane, at most."""
        self._mesh = ground.mesh
        self._chance = random.Random(seed)
        self._pace = pace
        self._hand = Hand(self._chance, running)
        self._network = NetworkFaults(ground, self._hand)
        self._crashes = Crashes(ground, self._hand)
        self.points = self._crashes.points
        others = (WorkerFaults(ground, self._hand), self._network, ServiceFaults(ground, self._hand))
        self._kinds = self._crashes.kinds | {kind: fault for each in others for kind, fault in each.kinds.items()}
        self._deck: list[str] = []

    @property
    def landed(self) -> dict[str, Landed]:
        """Of each kind; one that never landed too."""
        return {kind: self._hand.landed.get(kind, Landed()) for kind in self._kinds}

    async def run(self, seconds: float, lanes: int = LANES) -> None:
        """Every kind in an order of chance, again and again, until the time is over."""
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(lanes):
                group.create_task(self._lane(until))

    async def mend(self) -> None:
        """All is there again. Its faults end by themselves; nothing else may have ended meanwhile."""
        await self._network.heal()
        gone = [process.name for process in self._mesh.processes if not process.running]
        assert not gone, f"ended by themselves: {', '.join(gone)}; see their logs"

    async def _lane(self, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, self._chance.uniform(0, self._pace)))
            if time.monotonic() >= until:
                return
            if not self._deck:
                # There are many places to die at, so these come three times as often as the others.
                kinds = [*self._kinds, *list(self._crashes.kinds) * 2]
                self._deck = self._chance.sample(kinds, len(kinds))
            kind = self._deck.pop()
            await self._kinds[kind](kind)
            while self._hand.missed:  # another time
                self._deck.insert(self._chance.randrange(len(self._deck) + 1), self._hand.missed.pop())
