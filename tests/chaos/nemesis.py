"""What goes wrong, by a seed: several faults at a time, each of its kind as often as the others.

A fault lands when it hits something that is there: a process that runs, a proxy with
open connections. Each that landed is kept with the jobs that ran then and the other
faults that were under way.
"""

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import grpc

from farhand.api.scheduler.v1 import worker_control_service_pb2, worker_control_service_pb2_grpc
from tests.chaos.proxy import Proxy
from tests.fixtures.mesh import Mesh, Process

LANES = 3  # faults at a time, at most
DATABASE, REGISTRY = "PostgreSQL", "the registry"


@dataclass(slots=True)
class Landed:
    """What is known of one kind of fault."""

    times: int = 0
    running: int = 0  # jobs that ran when it landed, in all
    beside: Counter[str] = field(default_factory=Counter)  # other kinds that were under way


class Nemesis:
    """See the module."""

    def __init__(
        self,
        mesh: Mesh,
        database: Process,
        worker_proxies: dict[str, list[Proxy]],
        client_proxies: list[Proxy],
        *,
        lease: float,
        seed: int,
        running: Callable[[float], int],
        pace: float = 1.5,
    ) -> None:
        """running: how many jobs run now. pace: seconds between two faults of a lane, at most."""
        self._mesh = mesh
        self._database = database
        self._worker_proxies = worker_proxies
        self._client_proxies = client_proxies
        self._lease = lease
        self._chance = random.Random(seed)
        self._running = running
        self._pace = pace
        self._busy: set[str] = set()  # what a fault has in its hands
        self._under_way: Counter[str] = Counter()
        self._deck: list[str] = []
        self._began = time.monotonic()
        self._kinds: dict[str, Callable[[str], Awaitable[None]]] = {
            "a worker is killed -9": self._worker_killed,
            "a worker stands still for longer than its lease": self._worker_stopped,
            "a worker gets SIGTERM and comes back": self._worker_terminated,
            "a worker is drained by an operator, and restarted": self._worker_drained,
            "a worker is cut off for longer than its lease": self._worker_cut_long,
            "a worker is cut off for a moment": self._worker_cut_short,
            "a worker is not heard any more": self._worker_muted,
            "a worker hears nothing any more": self._worker_deafened,
            "a worker's connections are reset": self._worker_reset,
            "a worker's connections are slow": self._worker_slow,
            "clients are cut off from a scheduler": self._clients_cut,
            "clients' connections to a scheduler are reset": self._clients_reset,
            "a scheduler is killed -9": self._scheduler_killed,
            "a scheduler stands still for longer than a lease": self._scheduler_stopped,
            "the schedulers are rolled": self._schedulers_rolled,
            "the registry is killed -9": self._registry_killed,
            "the registry restarts": self._registry_restarted,
            "PostgreSQL is killed -9": self._database_killed,
            "PostgreSQL restarts": self._database_restarted,
        }
        self.landed = {kind: Landed() for kind in self._kinds}

    async def run(self, seconds: float, lanes: int = LANES) -> None:
        """Every kind in an order of chance, again and again, until the time is over."""
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(lanes):
                group.create_task(self._lane(until))

    async def mend(self) -> None:
        """All is there again. Its faults end by themselves; nothing else may have ended meanwhile."""
        for proxy in [*self._client_proxies, *(proxy for each in self._worker_proxies.values() for proxy in each)]:
            proxy.heal()
        gone = [process.name for process in self._mesh.processes if not process.running]
        assert not gone, f"ended by themselves: {', '.join(gone)}; see their logs"

    # ── how it goes about it ──

    async def _lane(self, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, self._chance.uniform(0, self._pace)))
            if time.monotonic() >= until:
                return
            if not self._deck:
                self._deck = self._chance.sample(list(self._kinds), len(self._kinds))
            kind = self._deck.pop()
            await self._kinds[kind](kind)

    @asynccontextmanager
    async def _hits(self, kind: str, *targets: str, lands: Callable[[], bool] = lambda: True) -> AsyncIterator[bool]:
        """Takes the targets in hand for a while, if nobody has; whether the fault lands on them."""
        if self._busy.intersection(targets) or not lands():
            self._deck.insert(self._chance.randrange(len(self._deck) + 1), kind)  # another time
            await asyncio.sleep(0.05)
            yield False
            return
        landed = self.landed[kind]
        landed.times += 1
        jobs = self._running(time.monotonic())
        landed.running += jobs
        landed.beside.update(+self._under_way)
        beside = "".join(f"; beside: {other}" for other in +self._under_way)
        said = f"{time.monotonic() - self._began:7.2f}  {kind}: {', '.join(targets)}; {jobs} jobs run{beside}"
        print(said, file=sys.stderr, flush=True)
        self._busy.update(targets)
        self._under_way[kind] += 1
        try:
            yield True
        finally:
            self._under_way[kind] -= 1
            self._busy.difference_update(targets)

    def _one(self, names: Sequence[str]) -> str:
        """One that no fault has in hand, where there is one."""
        return self._chance.choice([name for name in names if name not in self._busy] or list(names))

    def _worker(self) -> str:
        return self._one(sorted(self._mesh.workers))

    def _scheduler(self) -> Process:
        wanted = self._one([scheduler.name for scheduler in self._mesh.schedulers])
        return next(scheduler for scheduler in self._mesh.schedulers if scheduler.name == wanted)

    # ── workers ──

    async def _worker_killed(self, kind: str) -> None:
        name = self._worker()
        async with self._hits(kind, name) as hit:
            if hit:
                worker = self._mesh.workers[name]
                worker.kill()
                await asyncio.sleep(self._chance.choice((0.0, self._lease / 2, self._lease * 1.5)))
                await worker.restart()

    async def _worker_stopped(self, kind: str) -> None:
        name = self._worker()
        async with self._hits(kind, name) as hit:
            if hit:
                worker = self._mesh.workers[name]
                worker.pause()
                await asyncio.sleep(self._lease * 1.5)
                worker.resume()

    async def _worker_terminated(self, kind: str) -> None:
        name = self._worker()
        async with self._hits(kind, name) as hit:
            if hit:
                self._mesh.workers[name].terminate()
                await self._mesh.workers[name].restart()

    async def _worker_drained(self, kind: str) -> None:
        name = self._worker()
        async with self._hits(kind, name) as hit:
            if hit:
                await self._drain(name)
                await asyncio.sleep(self._chance.uniform(0, 2))
                self._mesh.workers[name].terminate()
                await self._mesh.workers[name].restart()

    async def _drain(self, name: str) -> None:
        request = worker_control_service_pb2.DrainWorkerRequest(id=name)
        for attempt in range(20):
            scheduler = self._mesh.schedulers[attempt % len(self._mesh.schedulers)]
            stub = worker_control_service_pb2_grpc.WorkerControlServiceStub(self._mesh.channel(scheduler))
            try:
                await stub.DrainWorker(request, timeout=5)
                return
            except grpc.aio.AioRpcError as error:
                # FAILED_PRECONDITION: it stood still or was cut off just before, and is LOST for now.
                if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                    return
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise
                await asyncio.sleep(0.1)

    async def _worker_network(self, kind: str, seconds: float, change: Callable[[Proxy], None]) -> None:
        name = self._worker()
        proxies = self._worker_proxies[name]
        async with self._hits(kind, name, lands=lambda: any(proxy.connections for proxy in proxies)) as hit:
            if hit:
                for proxy in proxies:
                    change(proxy)
                await asyncio.sleep(seconds)
                for proxy in proxies:
                    proxy.heal()

    async def _worker_cut_long(self, kind: str) -> None:
        await self._worker_network(kind, self._lease * 1.5, lambda proxy: proxy.cut())

    async def _worker_cut_short(self, kind: str) -> None:
        await self._worker_network(kind, self._chance.uniform(0.1, self._lease / 2), lambda proxy: proxy.cut())

    async def _worker_muted(self, kind: str) -> None:
        await self._worker_network(kind, self._lease * 1.3, lambda proxy: proxy.cut(back=False))

    async def _worker_deafened(self, kind: str) -> None:
        await self._worker_network(kind, self._lease * 1.3, lambda proxy: proxy.cut(towards=False))

    async def _worker_reset(self, kind: str) -> None:
        await self._worker_network(kind, 0.0, lambda proxy: proxy.reset())

    async def _worker_slow(self, kind: str) -> None:
        delay = self._chance.uniform(0.05, 0.4)
        await self._worker_network(kind, self._lease, lambda proxy: proxy.slow(delay))

    # ── clients ──

    async def _clients_cut(self, kind: str) -> None:
        proxy = self._chance.choice(self._client_proxies)
        async with self._hits(kind, f"clients at {proxy.address}", lands=lambda: proxy.connections > 0) as hit:
            if hit:
                proxy.cut(towards=self._chance.random() < 0.5)
                await asyncio.sleep(self._lease)
                proxy.heal()

    async def _clients_reset(self, kind: str) -> None:
        proxy = self._chance.choice(self._client_proxies)
        async with self._hits(kind, f"clients at {proxy.address}", lands=lambda: proxy.connections > 0) as hit:
            if hit:
                proxy.reset()

    # ── services ──

    async def _scheduler_killed(self, kind: str) -> None:
        scheduler = self._scheduler()
        async with self._hits(kind, scheduler.name) as hit:
            if hit:
                scheduler.kill()
                await asyncio.sleep(self._chance.uniform(0, 2))
                await scheduler.restart()

    async def _scheduler_stopped(self, kind: str) -> None:
        scheduler = self._scheduler()
        async with self._hits(kind, scheduler.name) as hit:
            if hit:
                scheduler.pause()
                await asyncio.sleep(self._lease * 1.5)
                scheduler.resume()

    async def _schedulers_rolled(self, kind: str) -> None:
        async with self._hits(kind, *(scheduler.name for scheduler in self._mesh.schedulers)) as hit:
            if hit:
                for scheduler in self._mesh.schedulers:
                    scheduler.terminate()
                    await scheduler.restart()

    async def _registry_killed(self, kind: str) -> None:
        async with self._hits(kind, REGISTRY) as hit:
            if hit:
                self._mesh.registries[0].kill()
                await asyncio.sleep(self._chance.uniform(0, 3))
                await self._mesh.registries[0].restart()

    async def _registry_restarted(self, kind: str) -> None:
        async with self._hits(kind, REGISTRY) as hit:
            if hit:
                self._mesh.registries[0].terminate()
                await self._mesh.registries[0].restart()

    async def _database_killed(self, kind: str) -> None:
        async with self._hits(kind, DATABASE) as hit:
            if hit:
                os.kill(await self._postmaster(), signal.SIGKILL)
                await self._database_answers()  # its supervisor starts it again

    async def _database_restarted(self, kind: str) -> None:
        async with self._hits(kind, DATABASE) as hit:
            if hit:
                self._database.terminate()
                await self._database.restart()

    async def _postmaster(self) -> int:
        connection = await asyncpg.connect(self._mesh.database_url)
        backend = await connection.fetchval("SELECT pg_backend_pid()")
        parent = int(Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[1])
        await connection.close()
        return parent

    async def _database_answers(self) -> None:
        async with asyncio.timeout(60):
            while True:
                try:
                    await (await asyncpg.connect(self._mesh.database_url, timeout=5)).close()
                    return
                except (OSError, asyncpg.PostgresError, TimeoutError):
                    await asyncio.sleep(0.1)
