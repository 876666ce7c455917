"""One fault each: what is done, what is awaited, and how long that took."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import grpc

from farhand.api.registry.v1 import roll_service_pb2, worker_pb2
from farhand.api.scheduler.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc
from farhand.api.types.v1.task_pb2 import Task
from tests.chaos.proxy import Proxy
from tests.fixtures.mesh import Mesh, Process
from tests.tasks import NOOP, a_shell_task

LEASE = 4.0
FLOOR = 10.0  # the shortest lease that a group may have, unless a setting says otherwise
WORKERS = 18
PATIENCE = 90.0


@dataclass(frozen=True, slots=True)
class Bound:
    """A promise, and what was seen of it."""

    fault: str
    promise: str
    limit: str
    seen: str
    kept: bool


def seconds(fault: str, promise: str, took: float, limit: float) -> Bound:
    return Bound(fault, promise, f"≤ {limit:.1f} s", f"{took:.2f} s", took <= limit)


def none_of(fault: str, promise: str, count: int) -> Bound:
    return Bound(fault, promise, "0", str(count), count == 0)


class Ticking:
    """A job that runs until it is told to end, and writes down each start."""

    def __init__(self, mesh: Mesh, name: str) -> None:
        self.mesh = mesh
        self.file, self.go = mesh.folder / f"{name}.starts", mesh.folder / f"{name}.go"
        self.id = ""

    async def submit(self) -> "Ticking":
        command = f"echo $FARHAND_FENCE >> {self.file}; while [ ! -e {self.go} ]; do sleep 0.2; done"
        task = a_shell_task(command)
        request = job_service_pb2.SubmitJobRequest(spec=job_pb2.JobSpec(task=task, worker_group=""))
        self.id = (await self.mesh.jobs.SubmitJob(request)).job.id
        return self

    @property
    def starts(self) -> int:
        return len(self.file.read_text().split()) if self.file.exists() else 0

    async def started(self, times: int = 1) -> None:
        await until(lambda: self.starts >= times)

    async def ends(self) -> job_pb2.Job:
        self.go.touch()
        return await ended(self.mesh, self.id)


async def until(true: Callable[[], bool]) -> None:
    """Looks every 10 ms until it is true."""
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.01)


async def ended(mesh: Mesh, job_id: str) -> job_pb2.Job:
    """The job once it has ended; asks every scheduler in turn while some are away."""
    async with asyncio.timeout(PATIENCE):
        while True:
            for scheduler in mesh.schedulers:
                stub = job_service_pb2_grpc.JobServiceStub(mesh.channel(scheduler))
                with contextlib.suppress(grpc.aio.AioRpcError):
                    job = (await stub.WaitJob(job_service_pb2.WaitJobRequest(id=job_id), timeout=5)).job
                    if job.HasField("end_time"):
                        return job
            await asyncio.sleep(0.05)


async def quick(mesh: Mesh, scheduler: int = 0) -> float:
    """Submits a job that does nothing and waits for its end; how long that took."""
    stub = job_service_pb2_grpc.JobServiceStub(mesh.channel(mesh.schedulers[scheduler]))
    request = job_service_pb2.SubmitJobRequest(spec=job_pb2.JobSpec(task=Task(type=NOOP)))
    began = time.monotonic()
    job = (await stub.SubmitJob(request, timeout=PATIENCE, wait_for_ready=True)).job
    await ended(mesh, job.id)
    return time.monotonic() - began


async def a_killed_worker_s_job_is_given_to_another(mesh: Mesh, _: Process) -> list[Bound]:
    await mesh.start(workers=[""], lease=LEASE)
    await mesh.add_worker("", name="other", slots=1)
    blocker = await Ticking(mesh, "blocker").submit()
    job = await Ticking(mesh, "job").submit()
    await blocker.started()
    await job.started()
    victims = {blocker.id: blocker, job.id: job}
    states = [(await mesh.jobs.GetJob(job_service_pb2.GetJobRequest(id=id))).job for id in victims]
    victim = next(victims[state.id] for state in states if state.worker == "default")
    (blocker if victim is job else job).go.touch()
    mesh.worker().kill()
    began = time.monotonic()
    await victim.started(2)
    return [seconds("a worker is killed", "its job runs elsewhere: lease + 2 s", time.monotonic() - began, LEASE + 2)]


async def a_killed_scheduler_s_workers_move(mesh: Mesh, _: Process) -> list[Bound]:
    await mesh.start(workers=[], lease=LEASE)
    await mesh.set_group("", lease=30.0)
    await mesh.add_scheduler()
    addresses = ",".join(scheduler.address for scheduler in mesh.schedulers)
    await mesh.add_worker("", name="mover", slots=8, scheduler=addresses)
    jobs = [await Ticking(mesh, f"job-{number}").submit() for number in range(4)]
    for job in jobs:
        await job.started()
    holder = await _holder(mesh)
    mesh.schedulers[holder].kill()
    began = time.monotonic()
    await quick(mesh, 1 - holder)
    took = time.monotonic() - began
    restarted = sum([(await job.ends()).lost_deliveries + job.starts - 1 for job in jobs])
    return [
        seconds("a scheduler is killed", "its workers work for another replica", took, 3.0),
        none_of("a scheduler is killed", "jobs that started again", restarted),
    ]


async def postgresql_comes_back(mesh: Mesh, database: Process) -> list[Bound]:
    await mesh.start(workers=[""], lease=30.0)
    running = await Ticking(mesh, "running").submit()
    await running.started()
    database.terminate()
    await database.restart()
    connection = await asyncpg.connect(mesh.database_url)
    await connection.close()
    began = time.monotonic()
    while True:
        try:
            await quick(mesh)
            break
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await asyncio.sleep(0.05)
    took = time.monotonic() - began
    job = await running.ends()
    return [
        seconds("PostgreSQL restarts", "a new job runs once it accepts", took, 3.0),
        none_of("PostgreSQL restarts", "jobs that started again", job.lost_deliveries + running.starts - 1),
    ]


async def schedulers_are_rolled_under_load(mesh: Mesh, _: Process) -> list[Bound]:
    await mesh.start(workers=[], lease=LEASE)
    await mesh.set_group("", lease=30.0)
    for _number in range(2):
        await mesh.add_scheduler()
    addresses = ",".join(scheduler.address for scheduler in mesh.schedulers)
    for number in range(3):
        await mesh.add_worker("", name=f"worker-{number}", slots=8, scheduler=addresses)
    long = [await Ticking(mesh, f"long-{number}").submit() for number in range(6)]
    for job in long:
        await job.started()
    rolling = True
    took: list[float] = []
    ids: list[str] = []

    async def load() -> None:
        """Twenty submits a second, to whichever scheduler answers, as a client library would."""
        number = 0
        while rolling:
            number += 1
            task = Task(type=NOOP)
            request = job_service_pb2.SubmitJobRequest(spec=job_pb2.JobSpec(task=task), request_id=f"load-{number}")
            began = time.monotonic()
            for attempt in range(10_000):
                scheduler = mesh.schedulers[(number + attempt) % len(mesh.schedulers)]
                try:
                    stub = job_service_pb2_grpc.JobServiceStub(mesh.channel(scheduler))
                    ids.append((await stub.SubmitJob(request, timeout=5)).job.id)
                    break
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise
                    await asyncio.sleep(0.01)
            took.append(time.monotonic() - began)
            await asyncio.sleep(0.05)

    loading = asyncio.create_task(load())
    for scheduler in mesh.schedulers:
        scheduler.terminate()
        await scheduler.restart()
        await asyncio.sleep(1.0)
    rolling = False
    await loading
    lost = sum([(await job.ends()).lost_deliveries + job.starts - 1 for job in long])
    for job_id in ids:
        lost += (await ended(mesh, job_id)).lost_deliveries
    slowest = sorted(took)[len(took) * 99 // 100]
    return [
        none_of("all schedulers are rolled under load", "jobs that started again", lost),
        seconds("all schedulers are rolled under load", f"submit p99 of {len(took)}", slowest, 1.0),
    ]


async def the_registry_is_away(mesh: Mesh, _: Process, outage: float) -> list[Bound]:
    await mesh.start(workers=[""], lease=LEASE)
    running = await Ticking(mesh, "running").submit()
    await running.started()
    mesh.registries[0].kill()
    until_back, failures, done = time.monotonic() + outage, 0, 0
    while time.monotonic() < until_back:
        try:
            await quick(mesh)
            done += 1
        except (grpc.aio.AioRpcError, TimeoutError):
            failures += 1
        await asyncio.sleep(0.2)
    job = await running.ends()
    return [
        none_of(f"the registry is away for {outage:.0f} s", f"of {done} new jobs, those that failed", failures),
        none_of(f"the registry is away for {outage:.0f} s", "jobs that started again", job.lost_deliveries),
    ]


async def a_stopped_worker_is_noticed(mesh: Mesh, _: Process) -> list[Bound]:
    await mesh.start(workers=[""], lease=FLOOR)
    await _connected(mesh)
    mesh.worker().pause()
    took = await _not_connected(mesh)
    mesh.worker().resume()
    return [seconds("a worker is connected and stopped", "it is given no more: one lease", took, FLOOR)]


async def a_deaf_worker_is_noticed(mesh: Mesh, _: Process) -> list[Bound]:
    await mesh.start(workers=[])
    await mesh.set_group("", lease=FLOOR)
    async with Proxy(mesh.schedulers[0].address) as proxy:
        worker = await mesh.add_worker("", scheduler=proxy.address)
        await _connected(mesh)
        proxy.cut(towards=False, back=True)
        took = await _not_connected(mesh)
        worker.kill()
    return [seconds("a worker is connected and hears nothing", "it is given no more: one lease", took, FLOOR)]


async def a_replica_joins(mesh: Mesh, _: Process) -> list[Bound]:
    await mesh.start(workers=[], lease=LEASE)
    await mesh.set_group("", lease=30.0)
    for _number in range(2):
        await mesh.add_scheduler()
    addresses = ",".join(scheduler.address for scheduler in mesh.schedulers)
    joining = mesh.schedulers[2]
    joining.kill()
    await joining.ended()
    for number in range(WORKERS):
        await mesh.add_worker("", name=f"worker-{number}", slots=1, scheduler=addresses)
    jobs = [await Ticking(mesh, f"job-{number}").submit() for number in range(WORKERS)]
    for job in jobs:
        await job.started()
    await joining.restart()
    began = time.monotonic()
    share = WORKERS // 3
    while (await _streams(mesh))[2] < share // 2:
        await asyncio.sleep(0.1)
    took = time.monotonic() - began
    await asyncio.sleep(20.0)  # what comes after that
    spread = await _streams(mesh)
    restarted = sum([(await job.ends()).lost_deliveries + job.starts - 1 for job in jobs])
    fault = f"a replica joins two that hold {WORKERS} workers"
    return [
        seconds(fault, "it has half of its share", took, 20.0),
        Bound(
            fault,
            "streams of each, 20 s later",
            f"≤ {share + 2}",
            ", ".join(map(str, spread)),
            max(spread) <= share + 2,
        ),
        none_of(fault, "jobs that started again", restarted),
    ]


async def _streams(mesh: Mesh) -> list[int]:
    """How many workers each replica holds, by the table of sessions."""
    connection = await asyncpg.connect(mesh.database_url)
    rows = await connection.fetch(
        "SELECT replica, count(*) FROM scheduler.session WHERE state = 'CONNECTED' GROUP BY 1"
    )
    await connection.close()
    held = dict(map(tuple, rows))
    return [held.get(scheduler.facts["replica"], 0) for scheduler in mesh.schedulers]


CONNECTED = roll_service_pb2.ListWorkersRequest(states=[worker_pb2.WORKER_STATE_CONNECTED])


async def _connected(mesh: Mesh) -> None:
    while not (await mesh.roll.ListWorkers(CONNECTED)).workers:
        await asyncio.sleep(0.05)


async def _not_connected(mesh: Mesh) -> float:
    """Seconds until the roll says so; it is up to 2 s behind."""
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE):
        while (await mesh.roll.ListWorkers(CONNECTED)).workers:
            await asyncio.sleep(0.05)
    return time.monotonic() - began


async def _holder(mesh: Mesh) -> int:
    """Which scheduler holds the worker's stream, by what it logged."""
    logs = [Path(scheduler.log).read_text() for scheduler in mesh.schedulers]
    return max(range(len(logs)), key=lambda index: logs[index].count("worker connected"))
