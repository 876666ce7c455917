"""What goes wrong, one thing after another, by a seed."""

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable

from tests.chaos.proxy import Proxy
from tests.fixtures.mesh import Mesh, Process


class Nemesis:
    """See the module. `landed` counts each kind, with the jobs that were under way then."""

    def __init__(
        self,
        mesh: Mesh,
        database: Process,
        proxies: dict[str, list[Proxy]],
        lease: float,
        chance: random.Random,
        under_way: Callable[[], int],
    ) -> None:
        self._mesh = mesh
        self._database = database
        self._proxies = proxies
        self._lease = lease
        self._chance = chance
        self._under_way = under_way
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "kill -9 of a worker": self._kill_worker,
            "kill -9 of a scheduler": self._kill_scheduler,
            "kill -9 of the registry": self._kill_registry,
            "PostgreSQL restarts": self._restart_database,
            "a worker stands still for longer than its lease": self._stop_worker,
            "a scheduler stands still": self._stop_scheduler,
            "a worker is cut off for longer than its lease": self._cut_long,
            "a worker is cut off for a moment": self._cut_short,
            "a worker hears nothing any more": self._deafen,
            "a worker's connections are reset": self._reset,
            "a worker drains and comes back": self._drain,
            "the schedulers are rolled": self._roll,
        }
        self.landed = dict.fromkeys(self._kinds, (0, 0))

    async def run(self, seconds: float) -> None:
        """Every kind in an order of chance, again and again, until the time is over."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            order = list(self._kinds)
            self._chance.shuffle(order)
            for kind in order:
                if time.monotonic() >= until:
                    return
                await asyncio.sleep(self._chance.uniform(0.2, 1.5))
                jobs = self._under_way()
                print(f"{kind}; {jobs} jobs under way", file=sys.stderr, flush=True)
                await self._kinds[kind]()
                landed, before = self.landed[kind]
                self.landed[kind] = (landed + 1, before + jobs)

    async def mend(self) -> None:
        """All is as it should be again."""
        for proxies in self._proxies.values():
            for proxy in proxies:
                proxy.heal()
        for process in self._mesh.processes:
            if not process.running:
                await process.restart()

    def _worker(self) -> tuple[Process, list[Proxy]]:
        name = self._chance.choice(sorted(self._mesh.workers))
        return self._mesh.workers[name], self._proxies[name]

    async def _kill_worker(self) -> None:
        worker, _ = self._worker()
        worker.kill()
        await asyncio.sleep(self._chance.uniform(0, self._lease * 1.5))
        await worker.restart()

    async def _kill_scheduler(self) -> None:
        scheduler = self._chance.choice(self._mesh.schedulers)
        scheduler.kill()
        await asyncio.sleep(self._chance.uniform(0, 2))
        await scheduler.restart()

    async def _kill_registry(self) -> None:
        self._mesh.registries[0].kill()
        await asyncio.sleep(self._chance.uniform(0, 3))
        await self._mesh.registries[0].restart()

    async def _restart_database(self) -> None:
        self._database.kill() if self._chance.random() < 0.5 else self._database.terminate()
        await self._database.restart()

    async def _stop_worker(self) -> None:
        worker, _ = self._worker()
        worker.pause()
        await asyncio.sleep(self._lease * 1.5)
        worker.resume()

    async def _stop_scheduler(self) -> None:
        scheduler = self._chance.choice(self._mesh.schedulers)
        scheduler.pause()
        await asyncio.sleep(self._chance.uniform(1, self._lease * 1.5))
        scheduler.resume()

    async def _cut(self, seconds: float, *, towards: bool, back: bool) -> None:
        _, proxies = self._worker()
        for proxy in proxies:
            proxy.cut(towards=towards, back=back)
        await asyncio.sleep(seconds)
        for proxy in proxies:
            proxy.heal()

    async def _cut_long(self) -> None:
        await self._cut(self._lease * 1.5, towards=True, back=True)

    async def _cut_short(self) -> None:
        await self._cut(self._chance.uniform(0.1, self._lease / 2), towards=True, back=True)

    async def _deafen(self) -> None:
        await self._cut(self._lease * 1.2, towards=False, back=True)

    async def _reset(self) -> None:
        _, proxies = self._worker()
        for proxy in proxies:
            proxy.reset()

    async def _drain(self) -> None:
        worker, _ = self._worker()
        worker.terminate()
        await worker.restart()

    async def _roll(self) -> None:
        for scheduler in self._mesh.schedulers:
            scheduler.terminate()
            await scheduler.restart()
