"""A scheduler replica in virtual time: the real loops, wired as the scheduler's bootstrap does.

The registry's part is played by `Registry`: one transaction changes a group as
store.declared does, and each replica's copy follows after a while of its own.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from unittest import mock

import farhand.scheduler.loops.doorbell as doorbell_module
import farhand.scheduler.loops.group_commit as group_commit_module
import farhand.scheduler.loops.janitor as janitor_module
from farhand.scheduler.core.admission import Admission
from farhand.scheduler.core.declared import Declared, Group, Tenant, changed_groups
from farhand.scheduler.core.submission import JobRow, Submission
from farhand.scheduler.core.tenant_quotas import bound_running
from farhand.scheduler.loops.changes import Changes, Watch
from farhand.scheduler.loops.dispatch import Dispatch
from farhand.scheduler.loops.doorbell import Doorbell
from farhand.scheduler.loops.enqueue import Enqueue
from farhand.scheduler.loops.frames import GoAway
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.loops.janitor import Janitor
from farhand.scheduler.loops.kills import Kills
from farhand.scheduler.loops.rebalance import AGED, SPREAD, Rebalance
from farhand.scheduler.loops.results import Results
from farhand.scheduler.loops.secret_inputs import NO_SECRETS
from farhand.scheduler.loops.sessions import DEAF, SILENT, Sessions
from farhand.scheduler.loops.signals import Signals
from farhand.scheduler.loops.stream import Stream, Streams
from farhand.scheduler.rpc.hello import Welcomer
from farhand.scheduler.rpc.worker_service import SHUTDOWN, WorkerService
from farhand.scheduler.store.groups import settle_group
from farhand.scheduler.store.sql import SQL
from farhand.scheduler.store.tenant_quotas import write_quotas
from tests.simulation.clockwork import Process, World
from tests.simulation.database import Connection, Pool, Server
from tests.simulation.memory_statements import CHANGE_GROUP
from tests.simulation.network import Listener, Network

ADMIT_RATE = 5.0  # streams a second
DRAIN_SECONDS = 2.0  # that a replica which stops waits for its calls

PARTINGS = {
    AGED: "moved_by_age",
    SPREAD: "moved_by_count",
    SHUTDOWN: "moved_by_stop",
    SILENT: "silent_given_up",
    DEAF: "deaf_given_up",
}


def encode_log(text: str) -> bytes:
    """Logs are not kept here."""
    return text.encode()


class Registry:
    """What is declared, and who copies it."""

    def __init__(self, server: Server, tenants: Iterable[str], groups: Iterable[Group]) -> None:
        self._server = server
        self.declared = Declared.of(1, [Tenant(id) for id in tenants], [], groups)
        self.copies: list[Copy] = []
        for group in groups:
            self._server.store.begin()
            self._server.store.run(CHANGE_GROUP, _row(group))
            self._server.store.commit()

    async def change(self, process: Process, group: Group) -> None:
        """A group is declared otherwise. Raises OSError while the database is away."""
        connection = await self._server.connect(process)
        try:
            async with connection.transaction():
                # In this order within the one step: the statement that settles looks at the row as it is then.
                await connection.fetch(CHANGE_GROUP, *_row(group))
                await settle_group(connection, group.uid, "registry", encode_log)
        finally:
            connection.terminate()
        groups = {**self.declared.groups_by_uid, group.uid: group}
        tenants = self.declared.tenants.values()
        self.declared = Declared.of(self.declared.revision + 1, tenants, [], groups.values())
        for copy in self.copies:
            copy.process.after(self._server.world.random.uniform(0.005, 2.0), copy.follow)


def _row(group: Group) -> tuple[Any, ...]:
    return group.uid, group.paused, sorted(group.allowed_tenants), group.lease_ms, write_quotas(group.quotas)


class Copy:
    """A replica's copy of the registry."""

    def __init__(self, registry: Registry, process: Process) -> None:
        self._registry = registry
        self.process = process
        self.declared = registry.declared
        self.signals: Signals | None = None
        registry.copies.append(self)

    def follow(self) -> None:
        """What is declared now is known here now."""
        before, self.declared = self.declared, self._registry.declared
        if self.signals is not None:
            self.signals.groups_changed(changed_groups(before, self.declared))

    async def refresh(self) -> None:
        """As Copy's."""
        self.follow()

    async def catch_up(self) -> None:
        """As Copy's."""
        await asyncio.sleep(0.005)
        self.follow()


class WatchedSessions(Sessions):
    """The real sessions; counts the streams that it ends while they stand."""

    partings: Counter[str]

    async def send_on(self, streams: Sequence[Stream], why: GoAway) -> None:
        """As Sessions does."""
        self.partings[PARTINGS[why]] += len(streams)
        await super().send_on(streams, why)

    async def _give_up(self, stream: Stream, why: GoAway) -> None:
        self.partings[PARTINGS[why]] += self._streams.get(stream.session_id) is stream
        await super()._give_up(stream, why)


class Replica:
    """One scheduler process, from its start to its end; `handler` of its listener."""

    def __init__(
        self,
        server: Server,
        network: Network,
        registry: Registry,
        name: str,
        process: Process,
        *,
        session_age: float,
        partings: Counter[str],
    ) -> None:
        """`partings` counts the streams that are sent on or given up, by reason."""
        self._network = network
        self.name = name
        self.process = process
        self.stopping = asyncio.Event()
        copy = Copy(registry, process)
        url = name

        def lease_of(group_uid: str) -> int:
            return copy.declared.groups_by_uid[group_uid].lease_ms

        pool: Any = Pool(server, process)
        self.streams, changes = Streams(), Changes()
        signals = self.signals = Signals(changes, self.streams)
        signals.doorbell = Doorbell(url, process.name, signals.heard)
        jitter = server.world.random.random
        signals.dispatch = Dispatch(
            HotConnection(url),
            self.streams,
            NO_SECRETS,
            writer=name,
            encode_log=encode_log,
            on_assigned=signals.jobs_changed,
            on_ended=signals.jobs_ended,
            jitter=jitter,
        )
        signals.sessions = WatchedSessions(
            pool, HotConnection(url), self.streams, signals, lease_of, writer=name, encode_log=encode_log
        )
        signals.sessions.partings = partings
        signals.kills = Kills(pool, self.streams, changes, signals, writer=name)
        signals.refresh_copy = copy.refresh
        signals.on_groups = lambda _: None
        signals.bounds_running = lambda uid: bound_running(copy.declared.groups_by_uid[uid].quotas)
        self._enqueue = Enqueue(
            HotConnection(url), copy, signals, writer=name, encode_log=encode_log, encode_status=_encode_status
        )
        self._results = Results(
            HotConnection(url),
            HotConnection(url),
            writer=name,
            on_ended=signals.jobs_changed,
            on_started=signals.jobs_changed,
            on_due=lambda: None,
            on_trigger_due=lambda: None,
            on_room=signals.room_made,
            on_recorded=lambda *_: None,
        )
        self._janitor = Janitor(signals.sessions, signals.kills, now=process.clock)
        self._rebalance = Rebalance(
            self.streams,
            signals.sessions,
            lambda count: signals.doorbell.ring(streams=count),
            age=session_age,
            now=process.clock,
            jitter=jitter,
        )
        signals.on_word = self._rebalance.heard
        append_logs: Any = None
        self.workers = WorkerService(
            Welcomer(copy, lease_of, replica=process.name, version="0"),
            signals.sessions,
            self.streams,
            self._results,
            signals.kills,
            append_logs,
            signals.dispatch.wake,
            Admission(ADMIT_RATE, 10_000),
            now=process.clock,
        )
        copy.signals = signals
        self._pool = pool

    async def run(self, listener: Listener) -> None:
        """Serve at the listener until `stopping` is set, then drain, as the bootstrap does."""
        signals = self.signals
        async with asyncio.TaskGroup() as siblings:
            loops = [
                siblings.create_task(loop)
                for loop in (
                    signals.doorbell.run(),
                    signals.run(),
                    self._enqueue.commits.run(),
                    self._results.completions.run(),
                    self._results.starts.run(),
                    signals.sessions.beats.run(),
                    signals.dispatch.run(),
                    self._janitor.run(),
                    self._rebalance.run(),
                )
            ]
            listener.process, listener.handler = self.process, _Door(self)
            await self.stopping.wait()
            signals.dispatch.stop()
            await signals.dispatch.settled()
            await self.workers.send_away(DRAIN_SECONDS)
            for loop in loops:
                loop.cancel()
        self.process.kill()

    # ── what clients ask ──

    async def submit(self, row: JobRow, request_id: str) -> int:
        """SubmitJob. Answers the key. Raises what refuses it."""
        [answer] = await self._enqueue.submit(Submission((row,), row.tenant, request_id, row.task))
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, int)
        return int(answer)

    async def kill(self, key: int, grace_ms: int) -> None:
        """KillJob."""
        await self.signals.kills.kill(key, grace_ms)

    async def drain(self, worker_id: str) -> int | None:
        """DrainWorker. Answers the session that drains now; None: there is none to drain."""
        row = await self._pool.fetchrow(SQL["session_of_worker"], worker_id)
        if row is None or row["state"] in ("LOST", "STOPPED"):
            return None
        await self.signals.sessions.drain_worker(row["id"])
        return int(row["id"])

    async def fence(self, worker_id: str) -> None:
        """FenceWorker."""
        row = await self._pool.fetchrow(SQL["session_of_worker"], worker_id)
        if row is not None and row["state"] not in ("LOST", "STOPPED"):
            await self.signals.sessions.fence_worker(row["id"])


class _Door:
    """What a listener calls: Connect for streams; the replica itself for clients."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica

    def __call__(self, requests: Any, context: Any) -> Any:
        return self.replica.workers.Connect(requests, context)


def _encode_status(error: Exception) -> bytes:
    return str(error).encode()


@contextlib.contextmanager
def in_virtual_time(world: World, server: Server) -> Iterator[None]:
    """The scheduler's modules dial the simulated database, take chance from the world, and keep their sets in an
    order that does not depend on addresses."""

    async def connect(_url: str, *, hot: bool = False) -> Connection:
        assert world.current is not None
        return await server.connect(world.current)

    with (
        mock.patch.object(group_commit_module, "connect", connect),
        mock.patch.object(doorbell_module, "connect", connect),
        mock.patch.object(janitor_module, "random", world.random),
        mock.patch.object(Stream, "__hash__", lambda stream: hash((stream.session_id, stream.epoch))),
        mock.patch.object(Watch, "__hash__", lambda watch: hash(watch.keys)),
    ):
        yield
