"""The pieces of a mesh on one machine and their order: database, registry, scheduler, workers.

Each is a process of its own and they meet over gRPC, as on many machines. `run_mesh`
is the way to start and stop one.
"""

import asyncio
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from farhand.cli.failure import CommandFailed
from farhand.cli.standalone_child import Child
from farhand.cli.standalone_folder import DataFolder
from farhand.cli.standalone_output import Output
from farhand.kernel import names
from farhand.runtime.sealing import keep_key_file

_HOST = "127.0.0.1"
_STOP_WITHIN = 15.0  # seconds for a service; a worker gets its drain on top
# Of our own settings these are for the services as well; any other (FARHAND_LISTEN, …) would be meant for one alone.
_PASSED_ON = frozenset(
    {
        *("FARHAND_LOG_LEVEL", "FARHAND_LOG_FORMAT", "FARHAND_TRACE_RATIO"),
        *("FARHAND_DOCKER_SOCKET", "FARHAND_DOCKER_TIMEOUT", "FARHAND_DOCKER_ALLOW_VOLUMES"),  # the host's
    }
)


@dataclass(frozen=True)
class WorkerPlan:
    """A worker to start: its group's key, and its slots (None: the worker's own default)."""

    group: str = ""
    slots: int | None = None

    @classmethod
    def parse(cls, text: str) -> "WorkerPlan":
        """From GROUP[:SLOTS], where "_default" is the default group; ValueError says what is accepted."""
        group, colon, slots = text.partition(":")
        key = names.group_key(group)
        if key and (violations := names.check_group_key("GROUP", key)):
            raise ValueError(f"{text!r}: {violations[0].path} {violations[0].description}")
        if not group or (colon and not (slots.isdecimal() and 1 <= int(slots) <= 10_000)):
            raise ValueError(f"{text!r} is not GROUP[:SLOTS]; write gpu, gpu:4 or _default:2")
        return cls(key, int(slots) if colon else None)


@dataclass(frozen=True)
class MeshPlan:
    """What to start."""

    workers: Sequence[WorkerPlan] = (WorkerPlan(),)
    registry_port: int = 7401  # 0: any
    scheduler_port: int = 7402
    database_url: str | None = None  # None: a PostgreSQL of our own in the data folder
    drain_timeout: float = 10.0  # seconds that a worker may take to finish its jobs when it is stopped


def passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of this program's environment that its services get."""
    return {name: value for name, value in environ.items() if not name.startswith("FARHAND_") or name in _PASSED_ON}


class StandaloneMesh:
    """Children in the order of their start."""

    def __init__(self, plan: MeshPlan, folder: DataFolder, output: Output, environ: Mapping[str, str]) -> None:
        self._plan = plan
        self._folder = folder
        self._output = output
        self._environment = passed_on(environ)
        self._database = self._child("database", self._database_command)
        self._registry = self._child("registry", self._registry_command)
        self._scheduler = self._child("scheduler", self._scheduler_command)
        self._workers = [self._worker(name, worker) for name, worker in worker_names(plan.workers).items()]

    @property
    def registry(self) -> str:
        """Its address, HOST:PORT, once it has started."""
        return str(self._registry.facts["address"])

    @property
    def scheduler(self) -> str:
        """Its address, HOST:PORT, once it has started."""
        return str(self._scheduler.facts["address"])

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of the services that run now, by name."""
        return {child.name: child.pid for child in self._children if child.pid is not None}

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Start all, each when those before it are ready, and keep them running; returns when all are ready.

        CommandFailed: a port is in use, or a service does not start.
        """
        await asyncio.to_thread(self._folder.end_leftovers, self._output.notice)
        check_port("registry", self._plan.registry_port)
        check_port("scheduler", self._plan.scheduler_port)
        if self._plan.database_url is None:
            await self._database.start(tasks)
        await self._registry.start(tasks)
        await self._make_groups()
        await self._scheduler.start(tasks)
        results = await asyncio.gather(*(worker.start(tasks) for worker in self._workers), return_exceptions=True)
        for failure in results:
            if failure is not None:
                raise failure

    async def stop(self) -> None:
        """Stop all in reverse order; returns when all have ended."""
        patience = _STOP_WITHIN + self._plan.drain_timeout
        await asyncio.gather(*(worker.stop(patience) for worker in self._workers))
        for child in (self._scheduler, self._registry, self._database):
            await child.stop(_STOP_WITHIN)
        self._folder.forget()

    def kill(self) -> None:
        """Kill all at once; `stop` then returns soon."""
        for child in self._children:
            child.kill()

    @property
    def _children(self) -> list[Child]:
        return [self._database, self._registry, self._scheduler, *self._workers]

    def _child(self, name: str, command: Callable[[], Sequence[str]]) -> Child:
        return Child(name, command, self._child_environment, self._output, self._folder.remember)

    def _worker(self, name: str, plan: WorkerPlan) -> Child:
        data = self._folder.path / "workers" / name
        return self._child(f"worker {name}", lambda: self._worker_command(plan, data))

    def _child_environment(self) -> dict[str, str]:
        url = self._plan.database_url or self._database.facts.get("url")
        return self._environment | ({"FARHAND_DATABASE_URL": str(url)} if url else {})

    def _database_command(self) -> list[str]:
        known = self._database.facts.get("url")
        port = urlsplit(str(known)).port if known else 0
        data = self._folder.path / "postgres"
        return [*_module("farhand.runtime.embedded_postgres"), "--data", str(data), "--port", str(port)]

    def _registry_command(self) -> list[str]:
        return [*_module("farhand.registry"), "--listen", _listen(self._registry, self._plan.registry_port)]

    def _scheduler_command(self) -> list[str]:
        listen = _listen(self._scheduler, self._plan.scheduler_port)
        files = str(self._folder.path / "files")
        key = keep_key_file(self._folder.path / "secrets.key")
        command = [*_module("farhand.scheduler"), "--listen", listen, "--registry", self.registry]
        return [*command, "--files", files, "--secrets-key-file", str(key)]

    def _worker_command(self, plan: WorkerPlan, data: Path) -> list[str]:
        command = [*_module("farhand.worker"), "--scheduler", self.scheduler, "--data", str(data)]
        command += ["--drain-timeout", f"{self._plan.drain_timeout}s"]
        if plan.group:
            command += ["--worker-group", plan.group]
        if plan.slots is not None:
            command += ["--slots", str(plan.slots)]
        return command

    async def _make_groups(self) -> None:
        """Make the groups that the workers are for and that are not there."""
        import grpc

        from farhand.api.registry.v1.worker_group_pb2 import WorkerGroup
        from farhand.api.registry.v1.worker_group_service_pb2 import CreateWorkerGroupRequest
        from farhand.api.registry.v1.worker_group_service_pb2_grpc import WorkerGroupServiceStub
        from farhand.cli.failure import remote_failure
        from farhand.runtime.grpc_channel import make_channel
        from farhand.runtime.settings import DialSettings

        keys = {worker.group for worker in self._plan.workers if worker.group}
        if not keys:
            return
        async with make_channel(self.registry, DialSettings()) as channel:
            groups = WorkerGroupServiceStub(channel)
            for key in sorted(keys):
                request = CreateWorkerGroupRequest(worker_group=WorkerGroup(key=key))
                try:
                    await groups.CreateWorkerGroup(request, timeout=30)
                    self._output.notice(f"made the worker group {key}")
                except grpc.aio.AioRpcError as error:
                    if error.code() != grpc.StatusCode.ALREADY_EXISTS:
                        raise remote_failure(error, "registry", self.registry) from None


def worker_names(workers: Sequence[WorkerPlan]) -> dict[str, WorkerPlan]:
    """A name for each: its group's, and from the second of a group on with a number that no key can end with."""
    found: dict[str, WorkerPlan] = {}
    for worker in workers:
        label = names.group_label(worker.group)
        number = sum(other.group == worker.group for other in found.values()) + 1
        found[label if number == 1 else f"{label}.{number}"] = worker
    return found


def check_port(service: str, port: int) -> None:
    """CommandFailed where another program listens on this port of loopback."""
    with socket.socket() as probe:
        # As servers do: connections that are closing are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise CommandFailed(
                f"The {service} can't listen on {_HOST}:{port}: {error.strerror}.",
                f"Stop what does, or take another: --{service}-port N (0: any that is free)",
            ) from None


def _module(name: str) -> list[str]:
    """-P: a folder with a file called like a module can't get in its way."""
    return [sys.executable, "-P", "-m", name]


def _listen(child: Child, port: int) -> str:
    """The address that it had before, or the one asked for."""
    return str(child.facts.get("address", f"{_HOST}:{port}"))
