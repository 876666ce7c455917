"""Faults: what goes wrong in a simulated mesh, when, and for how long.

Each fault is a method named after what it does; the nemesis takes one at a time by
chance, and several may last at once. When its time is over it puts everything right,
so that whatever was acknowledged can end (P2).
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from tests.simulation.clockwork import Crashed
from tests.simulation.mesh import LONG_LEASE, SHORT_LEASE, TENANTS, Mesh
from tests.simulation.scheduler import Replica
from tests.simulation.worker import SimulatedWorker

LONGER_THAN_A_LEASE = 14.0  # seconds

# How likely a process dies behind an effect: of those that are many, few. The others are points that the product names
# (runtime/crash_points.py).
CRASHES = {
    "a commit": 0.001,
    "a frame sent": 0.0005,
    "renewal committed": 0.001,
    "deadline set": 0.001,
    "an order to the warden": 0.002,
    "welcome sent": 0.01,
    "session opened": 0.01,
    "worker sent on": 0.01,
    "stream's end noted": 0.01,
    "hello sent": 0.01,
    "stream handed over": 0.02,
    "successor welcomed": 0.02,
    "waiting job killed": 0.1,
    "kill marked": 0.2,
    "kill sent": 0.3,
    "kill confirmed": 0.3,
    "kill obeyed": 0.2,
    "drain committed": 0.05,
    "drain answered": 0.05,
    "drain acknowledged": 0.05,
    "goodbye committed": 0.1,
    "goodbye sent": 0.1,
    "jobs given up": 0.3,
    "difference mended": 0.5,
    "fence committed": 0.3,
    "lease expired": 0.1,
    "fallback settled": 1.0,
}
CRASHES_ELSE = 0.005


class Nemesis:
    """See the module."""

    def __init__(self, mesh: Mesh, until: float) -> None:
        self._mesh = mesh
        self._world = mesh.world
        self._chance = mesh.world.random
        self._until = until
        self.landed: Counter[str] = Counter()
        self.over = False
        self.ended_at = 0.0
        self._drained: list[SimulatedWorker] = []
        self._drains: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Do harm until the time is over, then put all right."""
        # Each seed has faults of its own liking, so that some see many of one kind and none of another.
        faults = FAULTS.copy()
        self._chance.shuffle(faults)
        faults = faults[: self._chance.randint(2, len(faults))]
        pace = self._chance.choice((0.4, 1.0, 2.5))
        if self._chance.random() < 0.3:
            self._mesh.server.loses = self._chance.choice((0.002, 0.02, 0.1))
            self._mesh.server.slow = self._chance.choice((0.0, 0.0, 0.05, 0.3))
        if self._chance.random() < 0.5:
            self._mesh.history.on_assigned.append(self._strike_while_assigned)
        if self._chance.random() < 0.5:
            self._world.at_effect = self._crash_at_effect
        await asyncio.sleep(self._chance.uniform(0.5, 3))
        while self._world.now < self._until:
            fault = self._chance.choice(faults)
            if fault(self):
                self.landed[fault.__name__] += 1
            await asyncio.sleep(self._chance.expovariate(1 / pace))
        await self._put_right()

    # ── workers ──

    def _worker(self) -> str:
        """One worker, and rather one that runs something."""
        names = list(self._mesh.seats)
        busy = [name for name in names if (warden := self._mesh.hosts[name].warden) and warden.programs]
        return self._chance.choice(busy if busy and self._chance.random() < 0.7 else names)

    def worker_killed(self) -> bool:
        """kill -9 of a worker's process; its service manager starts it again."""
        name = self._worker()
        worker = self._mesh.workers[name]
        if worker.process.dead:
            return False
        self._say(f"kill -9 of {name}")
        worker.process.kill()
        return True

    def worker_stopped(self) -> bool:
        """SIGTERM of a worker; it comes back later."""
        name = self._worker()
        worker = self._mesh.workers[name]
        if worker.process.dead or worker.stopping.is_set():
            return False
        self._say(f"SIGTERM to {name}")
        worker.process.after(0, worker.stopping.set)
        return True

    def worker_paused(self) -> bool:
        """SIGSTOP of a worker's process; its warden goes on."""
        name = self._worker()
        process = self._mesh.workers[name].process
        if process.dead or process.paused:
            return False
        seconds = self._chance.choice((0.5, 3.0, LONGER_THAN_A_LEASE))
        self._say(f"SIGSTOP to {name} for {seconds} s")
        process.pause()
        self._mesh.operator.after(seconds, process.resume)
        return True

    def warden_killed(self) -> bool:
        """kill -9 of a warden; its keepers end the programs."""
        name = self._worker()
        worker = self._mesh.workers[name]
        if worker.process.dead or worker.control is None or worker.control.dead.is_set():
            return False
        self._say(f"kill -9 of the warden of {name}")
        worker.control.warden.die()
        return True

    def host_paused(self) -> bool:
        """A whole machine stands still, its warden too."""
        name = self._worker()
        host, process = self._mesh.hosts[name], self._mesh.workers[name].process
        if host.stopped or process.dead or process.paused:
            return False
        seconds = self._chance.choice((2.0, LONGER_THAN_A_LEASE))
        self._say(f"the host of {name} stands still for {seconds} s")
        process.pause()
        host.pause()

        def go_on() -> None:
            host.resume()
            process.resume()

        self._mesh.operator.after(seconds, go_on)
        return True

    def host_rebooted(self) -> bool:
        """A machine loses its power: nothing is told to anybody, and results that were not sent may be lost."""
        name = self._worker()
        host, worker = self._mesh.hosts[name], self._mesh.workers[name]
        if worker.process.dead:
            return False
        self._say(f"the host of {name} loses its power")
        for stream in self._mesh.network.alive():
            if stream.client is worker.process:
                stream.silence(upwards=True, keepalive=30)
                stream.silence(upwards=False, keepalive=30)
        worker.process.kill()
        host.power_off()
        if self._chance.random() < 0.5:
            host.disk.results.clear()
        if self._chance.random() < 0.3:
            self._mesh.operator.start(self._mesh.fence(name))
        return True

    def disk_full(self) -> bool:
        """A worker's disk is full for a while."""
        name = self._worker()
        disk = self._mesh.hosts[name].disk
        if disk.free_bytes == 0:
            return False
        self._say(f"the disk of {name} is full")
        disk.free_bytes = 0
        self._mesh.operator.after(self._chance.uniform(1, 6), lambda: setattr(disk, "free_bytes", 1 << 40))
        return True

    # ── schedulers ──

    def scheduler_killed(self) -> bool:
        """kill -9 of a scheduler; it comes back."""
        address = self._chance.choice(self._mesh.addresses)
        process = self._mesh.replicas[address].process
        if process.dead:
            return False
        self._say(f"kill -9 of {process.name}")
        self._kill_replica(address)
        return True

    def _kill_replica(self, address: str) -> None:
        self._mesh.replicas[address].process.kill()
        self._mesh.operator.after(
            self._chance.choice((0.2, 2.0, LONGER_THAN_A_LEASE)), lambda: self._start_where_none_runs(address)
        )

    def scheduler_stopped(self) -> bool:
        """SIGTERM of a scheduler; it comes back."""
        address = self._chance.choice(self._mesh.addresses)
        replica = self._mesh.replicas[address]
        if replica.process.dead or replica.stopping.is_set():
            return False
        self._say(f"SIGTERM to {replica.process.name}")
        replica.process.after(0, replica.stopping.set)
        replica.process.on_death.append(
            lambda: self._mesh.operator.after(0.5, lambda: self._start_where_none_runs(address))
        )
        return True

    def scheduler_paused(self) -> bool:
        """SIGSTOP of a scheduler."""
        process = self._mesh.replicas[self._chance.choice(self._mesh.addresses)].process
        if process.dead or process.paused:
            return False
        seconds = self._chance.choice((0.5, 3.0, LONGER_THAN_A_LEASE))
        self._say(f"SIGSTOP to {process.name} for {seconds} s")
        process.pause()
        self._mesh.operator.after(seconds, process.resume)
        return True

    # ── network ──

    def stream_cut(self) -> bool:
        """A connection is reset."""
        streams = self._mesh.network.alive()
        if not streams:
            return False
        stream = self._chance.choice(streams)
        self._say(f"the stream of {stream.worker} to {stream.address} is cut")
        stream.cut()
        return True

    def stream_half_open(self) -> bool:
        """One direction of a connection is dropped in silence."""
        streams = self._mesh.network.alive()
        if not streams:
            return False
        stream, upwards = self._chance.choice(streams), self._chance.random() < 0.5
        self._say(f"what {stream.worker if upwards else stream.address} sends on its stream is lost")
        stream.silence(upwards=upwards, keepalive=self._chance.uniform(3, 40))
        return True

    def partitioned(self) -> bool:
        """A worker reaches a scheduler, or any, no more for a while; its stream falls silent."""
        name, all_of_them = self._worker(), self._chance.random() < 0.6
        addresses = self._mesh.addresses if all_of_them else [self._chance.choice(self._mesh.addresses)]
        blocked = self._mesh.network.blocked
        pairs = [(name, address) for address in addresses if (name, address) not in blocked]
        if not pairs:
            return False
        seconds = self._chance.choice((1.0, 5.0, LONGER_THAN_A_LEASE))
        self._say(f"{name} and {', '.join(addresses)} are parted for {seconds} s")
        blocked.update(pairs)
        for stream in self._mesh.network.alive():
            if (stream.worker, stream.address) in pairs:
                stream.silence(upwards=True, keepalive=seconds + 30)
                stream.silence(upwards=False, keepalive=seconds + 30)
        self._mesh.operator.after(seconds, lambda: blocked.difference_update(pairs))
        return True

    def _deafen_one_of(self, group: str) -> None:
        """A worker of a group hears nothing any more, and soon is not heard either: of what it was told last, the
        scheduler can't know that it did not hear it."""
        names = [name for name, seat in self._mesh.seats.items() if seat.group == group]
        if not names or self._world.now > self._until:
            return
        name = self._chance.choice(names)
        self._say(f"{name} hears nothing for {LONGER_THAN_A_LEASE} s, and is soon not heard")
        self.landed["deafened"] += 1
        pairs = [(name, address) for address in self._mesh.addresses]
        blocked = self._mesh.network.blocked
        blocked.update(pairs)
        streams = [stream for stream in self._mesh.network.alive() if stream.worker == name]

        def silence(upwards: bool) -> None:
            for stream in streams:
                stream.silence(upwards=upwards, keepalive=LONGER_THAN_A_LEASE + 30)

        silence(False)
        self._mesh.operator.after(2.2, lambda: silence(True))
        self._mesh.operator.after(LONGER_THAN_A_LEASE, lambda: blocked.difference_update(pairs))

    def network_slow(self) -> bool:
        """Everything takes longer for a while."""
        network = self._mesh.network
        if network.slow > 1:
            return False
        network.slow = self._chance.choice((3.0, 10.0))
        seconds = self._chance.uniform(1, 6)
        self._say(f"the network is {network.slow} times slower for {seconds:.1f} s")
        self._mesh.operator.after(seconds, lambda: setattr(network, "slow", 1.0))
        return True

    # ── database ──

    def database_away(self) -> bool:
        """PostgreSQL stops, and starts again."""
        server = self._mesh.server
        if server.away:
            return False
        seconds = self._chance.choice((0.1, 1.0, 4.0, LONGER_THAN_A_LEASE))
        self._say(f"the database is away for {seconds} s")
        server.stop()
        self._mesh.operator.after(seconds, server.start)
        return True

    def connection_broken(self) -> bool:
        """One connection to the database breaks; whether it had committed, nobody is told."""
        connections = list(self._mesh.server.connections)
        if not connections:
            return False
        self._chance.choice(connections).break_off()
        return True

    def database_clock_set(self) -> bool:
        """The database's wall clock jumps."""
        seconds = self._chance.choice((-3600, -20, 20, 3600))
        self._say(f"the database's clock is set by {seconds} s")
        self._mesh.server.set_clock(seconds)
        return True

    # ── between two effects ──

    def _crash_at_effect(self, effect: str) -> None:
        """kill -9 of the process that has just done something, before its next step."""
        process = self._world.current
        assert process is not None
        program = process.program
        if process.dead or self._chance.random() > CRASHES.get(effect, CRASHES_ELSE):
            return
        if not isinstance(program, Replica | SimulatedWorker):
            return
        self._say(f"kill -9 of {process.name} behind: {effect}")
        self.landed[f"crashed behind {effect!r}"] += 1
        if isinstance(program, Replica):
            self._kill_replica(program.name)
        else:
            process.kill()
        raise Crashed

    # ── people ──

    def job_killed(self) -> bool:
        """Somebody kills a job, often one that has just come."""
        serials = [w.serial for w in self._mesh.history.wishes.values() if w.acked is not None and w.kill_acked is None]
        if not serials:
            return False
        serial = self._chance.choice(serials[-6:])
        self._say(f"job {serial} is to be killed")
        self._mesh.operator.start(self._mesh.kill(serial))
        return True

    def _strike_while_assigned(self, serial: int, name: str) -> None:
        """Something happens in the very moment in which a worker is given a job: between the claim's commit and the
        frame that tells of it, where hurry does harm."""
        if self._world.now > self._until or self._chance.random() > 0.06:
            return
        wish, mesh = self._mesh.history.wishes[serial], self._mesh
        mesh.server.late = self._chance.choice((0.05, 0.3, 1.5))
        match self._chance.choice(("kill", "drain", "cut")):
            case "kill" if wish.acked is not None and wish.kill_acked is None:
                self._say(f"job {serial} is to be killed while it is on its way to {name}")
                self.landed["killed_on_its_way"] += 1
                mesh.operator.start(mesh.kill(serial))
            case "drain" if not mesh.workers[name].process.dead and not mesh.workers[name].stopping.is_set():
                self._say(f"{name} is to be drained while job {serial} is on its way to it")
                self.landed["drained_on_its_way"] += 1
                self._drain(name)
            case "cut":
                for stream in mesh.network.alive():
                    if stream.worker == name:
                        self._say(f"the stream of {name} is cut while job {serial} is on its way to it")
                        self.landed["cut_on_its_way"] += 1
                        stream.cut()
            case _:
                pass

    def worker_drained(self) -> bool:
        """An operator drains a worker, and stops it later, as one does."""
        name = self._worker()
        worker = self._mesh.workers[name]
        if worker.process.dead or worker.stopping.is_set():
            return False
        self._say(f"{name} is to be drained")
        self._drain(name)
        return True

    def group_changed(self) -> bool:
        """An administrator pauses a group, allows other tenants, sets quotas or another lease."""
        group = self._chance.choice(self._mesh.groups())
        what = self._chance.choice(("paused", "allowed", "quotas", "lease"))
        match what:
            case "paused":
                changed = replace(group, paused=not group.paused)
            case "allowed":
                allowed = frozenset(self._chance.choice(((), ("main",), TENANTS)))
                changed = replace(group, allowed_tenants=allowed)
            case "quotas":
                changed = replace(group, quotas=self._mesh.some_quotas())
            case _:
                changed = replace(group, lease_ms=LONG_LEASE if group.lease_ms == SHORT_LEASE else SHORT_LEASE)
                if changed.lease_ms == SHORT_LEASE:
                    self._mesh.operator.after(self._chance.uniform(0, 2), lambda: self._deafen_one_of(group.uid))
        self._say(f"{group.uid} is declared anew: {what}")
        self._mesh.operator.start(self._declare(changed))
        return True

    # ── afterwards ──

    async def _declare(self, group: object) -> None:
        while True:
            try:
                await self._mesh.registry.change(self._mesh.operator, group)  # type: ignore[arg-type]
            except OSError:
                await asyncio.sleep(0.3)
            else:
                return

    async def _put_right(self) -> None:
        """No fault is left, and every part is there."""
        self._say("faults stop")
        self._world.at_effect = None
        mesh = self._mesh
        mesh.server.loses = mesh.server.slow = 0.0
        mesh.server.start()
        mesh.network.blocked.clear()
        mesh.network.slow = 1.0
        await asyncio.sleep(LONGER_THAN_A_LEASE + 1)  # what is to end by itself ends
        for group in mesh.groups():
            await self._declare(replace(group, paused=False, allowed_tenants=frozenset(), quotas=()))
        for address in mesh.addresses:
            self._start_where_none_runs(address)
        # An operator whose call finds nobody tries again, and may drain a worker that has come since.
        while not all(drain.done() for drain in self._drains):
            await asyncio.sleep(0.1)
        for name in mesh.seats:
            self._stop(name)
        await asyncio.sleep(LONGER_THAN_A_LEASE)
        self.over, self.ended_at = True, self._world.now

    def _drain(self, name: str) -> None:
        self._drained.append(self._mesh.workers[name])
        self._drains.append(self._mesh.operator.start(self._mesh.drain(name)))
        self._mesh.operator.after(self._chance.uniform(1, 8), lambda: self._stop(name))

    def _start_where_none_runs(self, address: str) -> None:
        if self._mesh.replicas[address].process.dead:
            self._mesh.start_replica(address)

    def _stop(self, name: str) -> None:
        """Stop a worker that drains, or is to (it takes nothing any more); its service manager starts it again."""
        worker = self._mesh.workers[name]
        drains = worker.slots.draining or worker in self._drained
        if worker.process.dead or worker.stopping.is_set() or not drains:
            return
        worker.process.after(0, worker.stopping.set)

    def _say(self, what: str) -> None:
        self._world.say("nemesis", what)


FAULTS: list[Callable[[Nemesis], bool]] = [
    Nemesis.worker_killed,
    Nemesis.worker_stopped,
    Nemesis.worker_paused,
    Nemesis.warden_killed,
    Nemesis.host_paused,
    Nemesis.host_rebooted,
    Nemesis.disk_full,
    Nemesis.scheduler_killed,
    Nemesis.scheduler_stopped,
    Nemesis.scheduler_paused,
    Nemesis.stream_cut,
    Nemesis.stream_half_open,
    Nemesis.partitioned,
    Nemesis.network_slow,
    Nemesis.database_away,
    Nemesis.connection_broken,
    Nemesis.database_clock_set,
    Nemesis.job_killed,
    Nemesis.worker_drained,
    Nemesis.group_changed,
]
