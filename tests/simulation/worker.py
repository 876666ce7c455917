"""A worker in virtual time: the real agent, link and stream, wired as the worker's bootstrap does.

What is not the worker's own code: the host under it (machine.py), the network
(network.py), and two task types, one that runs a program and one that is instant.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest import mock

import farhand.worker.agent as agent_module
import farhand.worker.link as link_module
import farhand.worker.run as run_module
from farhand.api.worker.v1 import session_pb2
from farhand.kernel.errors import Violation
from farhand.runtime.security import Identity, Role
from farhand.runtime.service import StartupError
from farhand.worker.agent import Agent
from farhand.worker.core.lease import Lease
from farhand.worker.core.pressure import Pressure
from farhand.worker.core.redial import Target
from farhand.worker.core.slots import JobKey, Received, Slots
from farhand.worker.link import Link, _Dial
from farhand.worker.process_control import ProcessControl
from farhand.worker.run_files import WorkerFiles
from farhand.worker.runners.process import ProcessRunner
from farhand.worker.shutdown import shut_down
from farhand.worker.spans import NoSpans
from farhand.worker.stream import Ended, WorkerStream
from farhand.worker.tasks.base import SUCCESS, Outcome, TaskContext, failed
from farhand.worker.tasks.registry import TaskTypes
from tests.simulation.clockwork import Process, World
from tests.simulation.history import History
from tests.simulation.machine import Control, Host, Journal, Logs
from tests.simulation.network import Channel, Network

PROGRAM = "sim.Program"
INSTANT = "sim.Instant"


class Program:
    """Runs a simulated program."""

    type: ClassVar[str] = PROGRAM

    def validate(self, properties: Mapping[str, Any]) -> Sequence[Violation]:
        """Nothing is wrong."""
        return ()

    async def run(self, context: TaskContext) -> Outcome:
        """FAILED unless the exit code is 0."""
        argv = [str(context.properties[name]) for name in ("serial", "seconds", "code", "term")]
        code = await context.run_process(argv, env=dict(context.env))
        return SUCCESS if code == 0 else failed("NONZERO_EXIT", f"exit code {code}", exit_code=code)


class Instant:
    """Is done by the time it is looked at."""

    type: ClassVar[str] = INSTANT

    def __init__(self, begins: Any) -> None:
        self._begins = begins

    def conclude(self, properties: Mapping[str, Any]) -> Outcome:
        """Always a success."""
        self._begins(int(properties["serial"]))
        return SUCCESS


class WatchedSlots(Slots):
    """The real slots, with a look at P7 at each arrival."""

    def __init__(self, slots: int, finished: Iterable[JobKey], history: History, name: str) -> None:
        super().__init__(slots, finished)
        self._history = history
        self._name = name
        self.instant_fences: dict[str, int] = {}

    def receive(self, keys: Iterable[JobKey]) -> Received:
        """As Slots does."""
        keys = list(keys)
        result = super().receive(keys)
        if self.busy > self.slots:
            self._history.broken("P7", f"{self._name} has {self.slots} slots and was sent {self.busy} jobs")
        return result


class WatchedLink(Link):
    """The real link; a session that ends because the scheduler broke the protocol is a violation."""

    history: History

    async def _dial(self, dial: _Dial, older: WorkerStream | None) -> Ended:
        ended = await super()._dial(dial, older)
        reason = ended.go_away.reason if ended.go_away is not None else None
        if "broke the protocol" in ended.why or reason == session_pb2.GO_AWAY_REASON_PROTOCOL_ERROR:
            self.history.broken("protocol", ended.why)
        elif ended.error is None and ended.go_away is None and "Error: " in ended.why:
            self.history.broken("protocol", f"a session broke: {ended.why}")
        return ended


class SimulatedWorker:
    """One process of a worker."""

    def __init__(
        self,
        world: World,
        network: Network,
        history: History,
        host: Host,
        *,
        name: str,
        group: str,
        tenants: frozenset[str] | None,
        slots: int,
        types: Sequence[str],
        addresses: Sequence[str],
        drain_timeout: float,
    ) -> None:
        self.process = world.process(name, host.clock)
        self.process.program = self
        self.name = name
        self.host = host
        self.stopping = asyncio.Event()
        self.control: Control | None = None
        self._world = world
        self._history = history
        self._drain_timeout = drain_timeout
        self._caller = Identity(f"token of {name}", Role.WORKER, tenants, group)
        self._network = network
        incarnation = world.random.randbytes(16)
        dead = [id for id, boot in host.disk.incarnations if boot == host.boot_id]
        host.disk.incarnations.append((incarnation, host.boot_id))
        journal: Any = Journal(world, host.disk)
        self.slots = WatchedSlots(slots, journal.unsettled, history, name)
        every = (Program(), Instant(self._instant_begins))
        folder: Any = host.disk
        logs: Any = Logs()
        dial: Any = None
        transfers: Any = None  # its jobs have no files
        cache: Any = None
        undo_notes: Any = None  # its programs begin nothing elsewhere
        self.agent = Agent(
            self.slots,
            Lease(),
            TaskTypes([each for each in every if each.type in types]),
            folder,
            journal,
            logs,
            launch=self._launch,
            process_runner=ProcessRunner({}),
            undo_notes=undo_notes,
            spans=NoSpans(),
            pressure=Pressure(64 << 20, 0),
            memory=lambda: None,
            files=WorkerFiles(transfers, cache),
            envs={},
            clock=host.clock,
        )
        self.link = WatchedLink(
            addresses,
            dial,
            self.agent,
            session_pb2.Hello(
                protocol_version=1,
                worker_id=name,
                incarnation=incarnation,
                worker_group=group,
                slots=slots,
                task_types=sorted(types),
                host=host.name,
                version="0",
                boot_id=host.boot_id,
                dead_incarnations=dead,
            ),
            clock=host.clock,
            on_first_welcome=lambda _: self._accepted(incarnation),
            jitter=world.random.random,
            resolve=_as_they_are,
        )
        self.link.history = history

    async def run(self) -> None:
        """Be a worker until `stopping` is set, as the worker's bootstrap is."""
        await self.agent.open()
        try:
            await self._live()
        except* StartupError:
            pass  # it gave up, as it does when one warden after the other dies; its service manager starts it again
        await self.agent.close()
        self.process.kill()

    async def _live(self) -> None:
        logs: Any = Logs()
        async with asyncio.TaskGroup() as siblings:
            parts = (self.agent.keep_warden(), self.agent.watch_lease(), self.link.run())
            background = [siblings.create_task(part) for part in parts]
            await self.stopping.wait()
            await shut_down(self.agent, self.link, logs, self._drain_timeout)
            for task in background:
                task.cancel()

    def channel(self, address: str) -> Channel:
        """What the link dials by."""
        return self._network.channel(self.process, self.name, self._caller, address)

    async def _launch(self) -> ProcessControl:
        await asyncio.sleep(0.05)
        self.control = Control(self.host, self.process)
        return self.control

    def _accepted(self, incarnation: bytes) -> None:
        disk = self.host.disk
        disk.incarnations = [entry for entry in disk.incarnations if entry[0] == incarnation]

    def _instant_begins(self, serial: int) -> None:
        """The instant task is not told its fence: it is the highest of its job that is held here."""
        wish = self._history.wishes[serial]
        live = self._history.store.live.get(wish.key) if wish.key is not None else None
        if live is not None and self._history.store.session[live["session_id"]]["worker_id"] == self.name:
            self._history.begins(serial, live["fence"])


async def _as_they_are(names: Sequence[str]) -> list[Target]:
    return [Target(name, name) for name in names]


async def _resolve(names: Sequence[str]) -> Sequence[Target]:
    return [Target(name, name) for name in names]


@contextlib.contextmanager
def in_virtual_time(world: World) -> Iterator[None]:
    """The worker's modules dial the simulated network and take the time from the world."""

    def current() -> Process:
        assert world.current is not None
        return world.current

    def make_channel(address: str, _dial: object, *, at: str) -> Channel:
        worker = current().program
        assert isinstance(worker, SimulatedWorker)
        return worker.channel(address)

    clock = SimpleNamespace(monotonic=lambda: current().clock())
    with (
        mock.patch.object(link_module, "make_channel", make_channel),
        mock.patch.object(link_module, "time", clock),
        mock.patch.object(agent_module, "time", clock),
        mock.patch.object(run_module, "time", clock),
    ):
        yield
