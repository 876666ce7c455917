"""A simulated mesh: schedulers, hosts with workers, a database, and clients that want jobs.

`Mesh` can start, stop and replace any of its parts; what it does to whom and when is
the nemesis's affair (nemesis.py). Clients try again with the same request id until
they are answered, as the CLI does, and sometimes ask twice at once.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from farhand.api.types.v1.task_pb2 import Task
from farhand.kernel.errors import FarhandError, TenantNotAllowed, Unavailable
from farhand.kernel.quotas import EVERYONE, Quota
from farhand.kernel.resolution import Fallback
from farhand.scheduler.core.declared import Group
from farhand.scheduler.core.submission import JobRow
from tests.simulation.clockwork import Clock, World
from tests.simulation.database import Server
from tests.simulation.history import History, Wish
from tests.simulation.machine import Host
from tests.simulation.network import Listener, Network, ask
from tests.simulation.scheduler import Registry, Replica
from tests.simulation.worker import INSTANT, PROGRAM, SimulatedWorker

TENANTS = ("main", "acme")
SHORT_LEASE, LONG_LEASE = 6_000, 12_000  # ms
RESTART_AFTER = (0.1, 1.0, 14.0)  # seconds until a service manager starts a worker again
LENGTHS = (0.05, 0.3, 1.0, 3.0, 9.0, 25.0)  # seconds that programs run
MIXES = ((6, 6, 4, 4, 1, 0), (6, 6, 4, 4, 2, 1), (4, 1, 1, 1, 3, 3))  # how many of each length there are
DRIFT = 0.02  # of a host's clock, at most


@dataclass(frozen=True, slots=True)
class Seat:
    """A place for a worker: the host it is on, and what it is."""

    name: str
    group: str
    tenants: frozenset[str] | None
    slots: int
    types: tuple[str, ...]
    drain_timeout: float


class Mesh:
    """See the module."""

    def __init__(self, world: World, *, quiet_after: float) -> None:
        """Clients want no new jobs after `quiet_after`."""
        self.world = world
        self.quiet_after = quiet_after
        chance = world.random
        self.server = Server(world)
        self.history = History(world, self.server.store)
        self.network = Network(world)
        groups = [
            Group(uid=uid, key=uid, lease_ms=SHORT_LEASE, quotas=self.some_quotas() if chance.random() < 0.3 else ())
            for uid in ("g1", "g2")
        ]
        self.registry = Registry(self.server, TENANTS, groups)
        self.addresses = [f"s{number + 1}" for number in range(chance.choice((1, 2, 2, 3)))]
        self.replicas: dict[str, Replica] = {}
        self.starts = 0
        self.session_age = chance.choice((4.0, 15.0, 3600.0))  # seconds after which a stream moves on
        self.partings: Counter[str] = Counter()  # streams that schedulers ended while they stood, by reason
        for address in self.addresses:
            self.network.listeners[address] = Listener()
            self.start_replica(address)
        self.seats: dict[str, Seat] = {}
        self.hosts: dict[str, Host] = {}
        self.workers: dict[str, SimulatedWorker] = {}
        for number in range(chance.randint(2, 5)):
            self._seat(f"w{number + 1}", "g1" if number % 2 == 0 else "g2")
        self.down: set[str] = set()  # workers that must not be started now
        self.operator = world.process("operator")
        self.clients = 0
        self.mix = chance.choice(MIXES)
        for _ in range(chance.randint(2, 3)):
            self._client()

    def some_quotas(self) -> tuple[Quota, ...]:
        """For each tenant, for one, or for none."""
        chance = self.world.random
        named = chance.choice(((), (EVERYONE,), ("acme",), ("acme", EVERYONE)))
        return tuple(Quota(name, chance.choice((None, 1, 2)), chance.choice((None, 1, 3))) for name in sorted(named))

    # ── schedulers ──

    def start_replica(self, address: str) -> None:
        """A new scheduler process at an address."""
        self.starts += 1
        rate = 1 + self.world.random.uniform(-DRIFT, DRIFT)
        process = self.world.process(f"{address}.{self.starts}", Clock(self.world, rate))
        with self.world.inside(process):
            replica = Replica(
                self.server,
                self.network,
                self.registry,
                address,
                process,
                session_age=self.session_age,
                partings=self.partings,
            )
        process.program = replica
        self.replicas[address] = replica
        process.start(replica.run(self.network.listeners[address]))

    # ── workers ──

    def _seat(self, name: str, group: str) -> None:
        chance = self.world.random
        picky = len(self.seats) >= 2  # one worker of each group takes every job, or P2 could not hold
        types = (PROGRAM,) if picky and chance.random() < 0.3 else (PROGRAM, INSTANT)
        tenants = frozenset(["main"]) if picky and chance.random() < 0.3 else None
        seat = Seat(name, group, tenants, chance.randint(1, 3), types, chance.choice((1.0, 4.0, 30.0)))
        self.seats[name] = seat
        rate = 1 + chance.uniform(-DRIFT, DRIFT)
        self.hosts[name] = Host(self.world, self.history, f"host-{name}", rate)
        self.start_worker(name)

    def start_worker(self, name: str) -> None:
        """A new process of a worker, on the data folder that it had; not while something of the old one is left."""
        seat, host = self.seats[name], self.hosts[name]
        assert not host.locked
        addresses = self.world.random.sample(self.addresses, len(self.addresses))
        worker = SimulatedWorker(
            self.world,
            self.network,
            self.history,
            host,
            name=name,
            group=seat.group,
            tenants=seat.tenants,
            slots=seat.slots,
            types=seat.types,
            addresses=addresses,
            drain_timeout=seat.drain_timeout,
        )
        self.workers[name] = worker
        worker.process.on_death.append(lambda: self._restart(name, self.world.random.choice(RESTART_AFTER)))
        worker.process.start(worker.run())

    def _restart(self, name: str, delay: float) -> None:
        """As a service manager does: after a while, once the data folder is free."""

        def start() -> None:
            if self.hosts[name].locked or name in self.down:
                self.operator.after(0.05, start)
            else:
                self.start_worker(name)

        self.operator.after(delay, start)

    # ── clients ──

    def _client(self) -> None:
        self.clients += 1
        process = self.world.process(f"client{self.clients}")
        process.start(self._want(process))

    async def _want(self, process: Any) -> None:
        """Want jobs, one after the other, some of them at once."""
        chance = self.world.random
        await asyncio.sleep(chance.uniform(0, 2))
        while self.world.now < self.quiet_after:
            for _ in range(chance.choice((1, 1, 2, 4))):
                wish, row = self._wish()
                process.kept.append(asyncio.create_task(self._submit(process, wish, row)))
                if chance.random() < 0.15:
                    process.kept.append(asyncio.create_task(self._submit(process, wish, row)))
                if chance.random() < 0.5:  # FIFO is promised to who waits for an answer
                    await asyncio.sleep(chance.uniform(0.05, 0.4))
            await asyncio.sleep(chance.expovariate(0.6))

    def _wish(self) -> tuple[Wish, JobRow]:
        chance = self.world.random
        serial = len(self.history.wishes) + 1
        group = chance.choice(("g1", "g1", "g2"))
        tenant = chance.choices(TENANTS, (4, 1))[0]
        type_ = INSTANT if chance.random() < 0.3 else PROGRAM
        task = Task(type=type_)
        seconds = chance.choices(LENGTHS, self.mix)[0]
        code = 0 if chance.random() < 0.9 else 1
        obeys = "obeys" if chance.random() < 0.7 else "ignores"
        task.properties.update({"serial": serial, "seconds": seconds, "code": code, "term": obeys})
        fallback = chance.choices((Fallback.WAIT, Fallback.FAIL, Fallback.CANCEL), (8, 1, 1))[0]
        wish = Wish(serial, tenant, group, self.world.now)
        self.history.wishes[serial] = wish
        deliveries = chance.choice((1, 3, 3, 100))
        raw = task.SerializeToString(deterministic=True)
        return wish, JobRow(tenant, None, group, fallback, type_, raw, deliveries, None)

    async def _submit(self, process: Any, wish: Wish, row: JobRow) -> None:
        request_id = hashlib.sha256(str(wish.serial).encode()).hexdigest()[:16]
        while not wish.refused:
            try:
                key = await self._ask(process, lambda replica: replica.submit(row, request_id))
            except TenantNotAllowed:
                wish.refused = wish.acked is None
                return
            self.history.acknowledged(wish.serial, key)
            self.world.say(process.name, f"job {wish.serial} ({row.group_key}, {row.task_type}) is acknowledged")
            return

    async def _ask(self, process: Any, what: Callable[[Replica], Coroutine[Any, Any, Any]]) -> Any:
        """Ask some replica, and another, until one answers. Raises what is no matter of trying again."""
        chance = self.world.random
        while True:
            address = chance.choice(self.addresses)
            try:
                return await ask(self.network, process, address, lambda door: what(door.replica), 8.0)
            except (Unavailable, OSError, TimeoutError):
                await asyncio.sleep(chance.uniform(0.05, 0.5))
            except FarhandError as error:
                if not error.retryable:
                    raise
                await asyncio.sleep(chance.uniform(0.05, 0.5))

    async def kill(self, serial: int) -> None:
        """Kill a job, by a client that waits for the answer."""
        wish = self.history.wishes[serial]
        key = wish.key
        assert key is not None
        grace = self.world.random.choice((0, 500, 3000))
        while True:
            began = self.world.now
            address = self.world.random.choice(self.addresses)
            try:
                await ask(self.network, self.operator, address, lambda door: door.replica.kill(key, grace), 10.0)
            except (Unavailable, OSError, TimeoutError):
                await asyncio.sleep(0.2)
                continue
            self.history.kill_acknowledged(serial, began)
            self.world.say("operator", f"the kill of job {serial} is acknowledged")
            return

    async def drain(self, name: str) -> None:
        """Drain a worker, by an operator who waits for the answer."""
        session = await self._ask(self.operator, lambda replica: replica.drain(name))
        if session is not None:
            self.history.drained.setdefault(session, self.world.now)
            self.world.say("operator", f"the drain of {name} (session {session}) is acknowledged")

    async def fence(self, name: str) -> None:
        """An operator's word that a worker is dead, who sees to it that it stays so until that is answered."""
        self.down.add(name)
        await self._ask(self.operator, lambda replica: replica.fence(name))
        self.down.discard(name)

    def groups(self) -> Sequence[Group]:
        """As they are declared now."""
        return list(self.registry.declared.groups_by_uid.values())
