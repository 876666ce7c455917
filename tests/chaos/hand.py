"""What faults have in common: what there is to hit, which of it is in hand just now, and what landed.

A fault lands when it hits something that is there: a process that runs, a proxy with
open connections, a crash point that is reached. Each that landed is kept with the jobs
and executions that ran then and the faults of other kinds that were under way.
"""

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.chaos.diary import Running
from tests.chaos.namespaces import Namespace
from tests.chaos.proxy import Proxy
from tests.fixtures.mesh import Mesh, Process

Fault = Callable[[str], Awaitable[None]]  # is told its kind


@dataclass(slots=True)
class Landed:
    """What is known of one kind of fault."""

    times: int = 0
    running: int = 0  # jobs that ran when it landed, in all
    amid: int = 0  # times that it landed while executions ran
    beside: Counter[str] = field(default_factory=Counter)  # other kinds that were under way


class Hand:
    """Takes targets in hand, so that no two faults have the same, and counts."""

    def __init__(self, chance: random.Random, running: Callable[[float], Running]) -> None:
        """running: how much runs now."""
        self.chance = chance
        self.landed: dict[str, Landed] = {}
        self.missed: list[str] = []  # kinds that found nothing to hit, and are to try again
        self._running = running
        self._busy: set[str] = set()
        self._under_way: Counter[str] = Counter()
        self._began = time.monotonic()

    @asynccontextmanager
    async def hits(
        self, kind: str, *targets: str, lands: Callable[[], bool] = lambda: True, at_once: bool = True
    ) -> AsyncIterator[bool]:
        """Takes the targets in hand for a while, if nobody has; whether the fault may go on. It has landed with that,
        unless it says so itself later (`at_once`)."""
        if self._busy.intersection(targets) or not lands():
            self.missed.append(kind)
            await asyncio.sleep(0.05)
            yield False
            return
        if at_once:
            self.lands(kind, ", ".join(targets))
        self._busy.update(targets)
        self._under_way[kind] += 1
        try:
            yield True
        finally:
            self._under_way[kind] -= 1
            self._busy.difference_update(targets)

    def lands(self, kind: str, where: str) -> None:
        """It has hit; where is for people."""
        landed = self.landed.setdefault(kind, Landed())
        landed.times += 1
        running = self._running(time.monotonic())
        landed.running += running.jobs
        landed.amid += running.executions > 0
        others = +self._under_way
        others.pop(kind, None)
        landed.beside.update(others)
        beside = "".join(f"; beside: {other}" for other in others)
        said = f"{time.monotonic() - self._began:7.2f}  {kind}: {where}; {running.jobs} jobs run{beside}"
        print(said, file=sys.stderr, flush=True)

    def one(self, names: Sequence[str]) -> str:
        """One that no fault has in hand, where there is one."""
        return self.chance.choice([name for name in names if name not in self._busy] or list(names))


@dataclass(frozen=True, slots=True)
class Ground:
    """What there is to hit."""

    mesh: Mesh
    database: Process
    worker_proxies: Mapping[str, Sequence[Proxy]]  # by worker, one for each scheduler
    client_proxies: Sequence[Proxy]
    namespaces: Mapping[str, Namespace]  # of the workers that have one
    lease: float

    def worker(self, hand: Hand) -> str:
        """Some worker, by its name."""
        return hand.one(sorted(self.mesh.workers))

    def scheduler(self, hand: Hand) -> Process:
        """Some scheduler."""
        wanted = hand.one([scheduler.name for scheduler in self.mesh.schedulers])
        return next(scheduler for scheduler in self.mesh.schedulers if scheduler.name == wanted)
