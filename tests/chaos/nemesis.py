"""What goes wrong, by a seed: several faults at a time, each of its kind as often as the others.

Beside these a lane of its own has schedulers die, at random moments and in the way of
executions and triggers, for as long as the run lasts.
"""

import asyncio
import random
import time
from collections.abc import Callable

from tests.chaos.crashes import Crashes
from tests.chaos.diary import Running
from tests.chaos.hand import Ground, Hand, Landed
from tests.chaos.network_faults import NetworkFaults
from tests.chaos.service_faults import ServiceFaults
from tests.chaos.worker_faults import WorkerFaults

LANES = 3  # faults at a time, at most
KILLS = 2  # at random moments, for each death in the way of an execution or a trigger
BREATH = 1.0  # seconds that schedulers are left alone by that lane, at most


class Nemesis:
    """See the module."""

    def __init__(self, ground: Ground, *, seed: int, running: Callable[[float], Running], pace: float = 1.5) -> None:
        """running: how much runs now. pace: seconds between two faults of a lane, at most."""
        self._mesh = ground.mesh
        self._chance = random.Random(seed)
        self._pace = pace
        self._hand = Hand(self._chance, running)
        self._network = NetworkFaults(ground, self._hand)
        self._crashes = Crashes(ground, self._hand)
        self.points = self._crashes.points
        services = ServiceFaults(ground, self._hand)
        others = (WorkerFaults(ground, self._hand), self._network, services)
        self._kinds = self._crashes.kinds | {kind: fault for each in others for kind, fault in each.kinds.items()}
        self._of_executions = services.of_executions | self._crashes.of_executions
        self._played = [*self._kinds, *self._of_executions]
        self._deck: list[str] = []

    @property
    def landed(self) -> dict[str, Landed]:
        """Of each kind that is played; one that never landed too."""
        return {kind: self._hand.landed.get(kind, Landed()) for kind in self._played}

    async def run(self, seconds: float, lanes: int = LANES) -> None:
        """Every kind in an order of chance, again and again, until the time is over. lanes: 0: schedulers die, and
        nothing else happens."""
        until = time.monotonic() + seconds
        if not lanes:
            self._played = list(self._of_executions)
        async with asyncio.TaskGroup() as group:
            for _ in range(lanes):
                group.create_task(self._lane(until))
            group.create_task(self._scheduler_lane(until))

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
                missed = self._hand.missed.pop()
                if missed in self._kinds:
                    self._deck.insert(self._chance.randrange(len(self._deck) + 1), missed)

    async def _scheduler_lane(self, until: float) -> None:
        moment, point = self._of_executions
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, self._chance.uniform(0, BREATH)))
            if time.monotonic() >= until:
                return
            kind = self._chance.choice([moment] * KILLS + [point])
            await self._of_executions[kind](kind)
