"""Schedulers, the registry and PostgreSQL are killed, stopped, rolled and restarted."""

import asyncio
import os
import signal
from pathlib import Path

import asyncpg

from tests.chaos.hand import Fault, Ground, Hand

AT_RANDOM = "a scheduler is killed -9 at a random moment, again and again"
DATABASE, REGISTRY = "PostgreSQL", "the registry"


class ServiceFaults:
    """See the module."""

    def __init__(self, ground: Ground, hand: Hand) -> None:
        self._ground = ground
        self._hand = hand
        self.kinds: dict[str, Fault] = {
            "a scheduler is killed -9": self._scheduler_killed,
            "a scheduler stands still for longer than a lease": self._scheduler_stopped,
            "the schedulers are rolled": self._schedulers_rolled,
            "the registry is killed -9": self._registry_killed,
            "the registry restarts": self._registry_restarted,
            "PostgreSQL is killed -9": self._database_killed,
            "PostgreSQL restarts": self._database_restarted,
        }
        self.of_executions: dict[str, Fault] = {AT_RANDOM: self._scheduler_killed_and_back}

    async def _scheduler_killed(self, kind: str) -> None:
        scheduler = self._ground.scheduler(self._hand)
        async with self._hand.hits(kind, scheduler.name) as hit:
            if hit:
                scheduler.kill()
                await asyncio.sleep(self._hand.chance.uniform(0, 2))
                await scheduler.restart()

    async def _scheduler_killed_and_back(self, kind: str) -> None:
        scheduler = self._ground.scheduler(self._hand)
        async with self._hand.hits(kind, scheduler.name) as hit:
            if hit:
                scheduler.kill()
                await scheduler.restart()

    async def _scheduler_stopped(self, kind: str) -> None:
        scheduler = self._ground.scheduler(self._hand)
        async with self._hand.hits(kind, scheduler.name) as hit:
            if hit:
                scheduler.pause()
                await asyncio.sleep(self._ground.lease * 1.5)
                scheduler.resume()

    async def _schedulers_rolled(self, kind: str) -> None:
        async with self._hand.hits(kind, *(scheduler.name for scheduler in self._ground.mesh.schedulers)) as hit:
            if hit:
                for scheduler in self._ground.mesh.schedulers:
                    scheduler.terminate()
                    await scheduler.restart()

    async def _registry_killed(self, kind: str) -> None:
        async with self._hand.hits(kind, REGISTRY) as hit:
            if hit:
                self._ground.mesh.registries[0].kill()
                await asyncio.sleep(self._hand.chance.uniform(0, 3))
                await self._ground.mesh.registries[0].restart()

    async def _registry_restarted(self, kind: str) -> None:
        async with self._hand.hits(kind, REGISTRY) as hit:
            if hit:
                self._ground.mesh.registries[0].terminate()
                await self._ground.mesh.registries[0].restart()

    async def _database_killed(self, kind: str) -> None:
        async with self._hand.hits(kind, DATABASE) as hit:
            if hit:
                os.kill(await self._postmaster(), signal.SIGKILL)
                await self._database_answers()  # its supervisor starts it again

    async def _database_restarted(self, kind: str) -> None:
        async with self._hand.hits(kind, DATABASE) as hit:
            if hit:
                self._ground.database.terminate()
                await self._ground.database.restart()

    async def _postmaster(self) -> int:
        connection = await asyncpg.connect(self._ground.mesh.database_url)
        backend = await connection.fetchval("SELECT pg_backend_pid()")
        parent = int(Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[1])
        await connection.close()
        return parent

    async def _database_answers(self) -> None:
        async with asyncio.timeout(60):
            while True:
                try:
                    await (await asyncpg.connect(self._ground.mesh.database_url, timeout=5)).close()
                    return
                except (OSError, asyncpg.PostgresError, TimeoutError):
                    await asyncio.sleep(0.1)
