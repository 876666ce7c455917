"""A process is killed at every named place between two effects; afterwards every job has ended once, as it should.

runtime/crash_points.py names the places. Each test plays one chain of them: its
process dies at the first, is started again to die at the next, and so on, so it is
also met by what the death before left behind. Each job writes its starts and ends;
a second run is right only where the first was lost with its worker.
"""

import asyncio
import contextlib
import secrets
import shlex
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest

from farhand.api.registry.v1 import worker_group_service_pb2
from farhand.api.scheduler.v1 import (
    job_pb2,
    job_service_pb2,
    worker_control_service_pb2,
    worker_control_service_pb2_grpc,
)
from farhand.api.types.v1.fallback_pb2 import FALLBACK_FAIL
from farhand.api.worker.v1 import session_pb2
from farhand.api.worker.v1.worker_service_pb2_grpc import WorkerServiceStub
from farhand.runtime.crash_points import POINTS
from tests.fixtures.mesh import Mesh, Process
from tests.fixtures.scheduler_service import HandWorker
from tests.tasks import SHELL, a_shell_task

SECONDS = 60.0
DELIVERIES = 100  # so many that no chain of deaths uses them up
JOBS = 3

Provoke = Callable[[], Awaitable[object]]


class Chain:
    """A mesh, the jobs that went into it, and the one process that dies in it."""

    def __init__(self, mesh: Mesh, folder: Path) -> None:
        self.mesh = mesh
        self.folder = folder
        self.ids: dict[str, str] = {}  # by the job's name
        self.reached: list[str] = []

    # ── deaths ──

    async def die(self, process: Process, provocations: Mapping[str, Provoke]) -> None:
        """Start it again and again, each time to die at the next point, which is provoked once it is ready; at the
        end it lives."""
        process.kill()
        async with asyncio.TaskGroup() as provoked:
            for point, provoke in provocations.items():
                process.environment["FARHAND_CRASH_POINT"] = point
                with contextlib.suppress(AssertionError):  # it may die before it is ready
                    await process.restart()
                provoked.create_task(_for_its_own_sake(provoke))
                try:
                    code = await process.ended()
                except TimeoutError:
                    pytest.fail(f"{process.name} did not come to {point!r}:\n{process.tail()}")
                assert code == -signal.SIGKILL, f"{point}: {code}\n{process.tail()}"
                self.reached.append(point)
            process.environment.pop("FARHAND_CRASH_POINT")
            await process.restart()

    # ── jobs ──

    async def submit(self, name: str, *, seconds: float = 0.3, stores: bool = False, **spec: Any) -> str:
        """A job that writes down what it does; again and again until it is acknowledged. `stores`: an output file."""
        file = shlex.quote(str(self.folder / name))
        task = a_shell_task(f"echo start | tee -a {file} | tee out; sleep {seconds}; echo end >> {file}")
        if stores:
            task.properties.update({"outputFiles": ["out"]})
        wanted = job_pb2.JobSpec(task=task, max_deliveries=DELIVERIES, **spec)
        request = job_service_pb2.SubmitJobRequest(spec=wanted, request_id=name)
        self.ids[name] = (await self.patiently(self.mesh.jobs.SubmitJob, request)).job.id
        return self.ids[name]

    def some_jobs(self, point: str) -> Provoke:
        """A provocation: a few jobs at once."""
        stores = point.startswith("file")
        return lambda: asyncio.gather(*(self.submit(f"{point}-{number}", stores=stores) for number in range(JOBS)))

    async def kill(self, job_id: str) -> None:
        await self.patiently(self.mesh.jobs.KillJob, job_service_pb2.KillJobRequest(id=job_id))

    async def held(self, job_id: str) -> None:
        """Returns once a worker has it, or has had it."""
        state = job_pb2.JOB_STATE_CREATED
        while state == job_pb2.JOB_STATE_CREATED:
            state = (await self.patiently(self.mesh.jobs.GetJob, job_service_pb2.GetJobRequest(id=job_id))).job.state

    async def ended(self, name: str) -> job_pb2.Job:
        wait = job_service_pb2.WaitJobRequest(id=self.ids[name])
        while True:
            job: job_pb2.Job = (await self.patiently(self.mesh.jobs.WaitJob, wait)).job
            if job.HasField("end_time"):
                return job

    async def patiently(self, method: Any, request: object) -> Any:
        """Call until the server is there to answer."""
        async with asyncio.timeout(SECONDS):
            while True:
                try:
                    return await method(request, timeout=10)
                except grpc.aio.AioRpcError as error:
                    assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED), error
                    await asyncio.sleep(0.05)

    def lines(self, name: str) -> list[str]:
        """What the job wrote."""
        return (self.folder / name).read_text().split() if (self.folder / name).exists() else []

    async def all_succeeded(self, *, worker_lives: bool) -> None:
        """Each ended well, and once. Where its worker lived on nothing was started twice: a scheduler's death costs no
        delivery. A run whose end was on no disk yet is lost with its worker, and says so."""
        for name in self.ids:
            job, lines = await self.ended(name), self.lines(name)
            assert job.state == job_pb2.JOB_STATE_SUCCESS, (name, job)
            assert lines[-2:] == ["start", "end"], (name, lines)
            assert lines.count("end") <= lines.count("start") <= 1 + job.lost_deliveries, (name, lines)
            if worker_lives:
                assert (lines.count("start"), job.lost_deliveries) == (1, 0), (name, lines, job)


async def _for_its_own_sake(provoke: Provoke) -> None:
    await provoke()


@pytest.fixture
async def chain(mesh: Mesh, tmp_path: Path) -> Chain:
    """With a registry and nothing else."""
    await mesh.add_registry()
    (tmp_path / "jobs").mkdir()
    return Chain(mesh, tmp_path / "jobs")


UNDER_LOAD = (
    "enqueue committed",
    "claim committed",
    "assignments sent",
    "start committed",
    "result committed",
    "result answered",
    "logs committed",
    "renewal committed",
    "session opened",
    "welcome sent",
    "report answered",
    "file arriving",
    "file stored",
    "copy committed",
)


async def test_a_scheduler_dies_under_load_and_no_job_restarts(chain: Chain) -> None:
    await chain.mesh.set_group("", lease=10.0)
    scheduler = await chain.mesh.add_scheduler()
    await chain.mesh.add_worker("", slots=3)
    provocations = {point: chain.some_jobs(point) for point in UNDER_LOAD}
    provocations["copy committed"] = lambda: chain.mesh.set_group("new")
    await chain.die(scheduler, provocations)
    await chain.all_succeeded(worker_lives=True)


KILLS = ("waiting job killed", "kill marked", "kill sent", "kill confirmed")


async def test_a_scheduler_dies_in_the_middle_of_kills_and_they_are_kept(chain: Chain) -> None:
    await chain.mesh.set_group("", lease=10.0)
    await chain.mesh.set_group("empty", lease=10.0)
    scheduler = await chain.mesh.add_scheduler()
    await chain.mesh.add_worker("", slots=3)

    async def kill_one_that_waits() -> None:
        await chain.kill(await chain.submit("waiting", worker_group="empty"))

    def kill_one_that_runs(point: str) -> Provoke:
        async def provoke() -> None:
            job_id = await chain.submit(point, seconds=600)
            await chain.held(job_id)
            await chain.kill(job_id)

        return provoke

    await chain.die(scheduler, {KILLS[0]: kill_one_that_waits, **{p: kill_one_that_runs(p) for p in KILLS[1:]}})
    for name in chain.ids:
        assert (await chain.ended(name)).state == job_pb2.JOB_STATE_KILLED, name
        assert chain.lines(name) in ([], ["start"]), name


ENDS_OF_SESSIONS = (
    "drain committed",
    "drain answered",
    "goodbye committed",
    "stream's end noted",
    "fence committed",
    "lease expired",
    "return committed",
    "difference mended",
    "worker sent on",
)


async def test_a_scheduler_dies_while_workers_leave_and_what_they_had_is_done_by_others(chain: Chain) -> None:
    mesh = chain.mesh
    await mesh.set_group("", lease=2.0)
    scheduler = await mesh.add_scheduler()

    async def with_a_job(point: str) -> Process:
        worker = await mesh.add_worker("", name=secrets.token_hex(4), slots=1)
        await chain.held(await chain.submit(point))
        return worker

    def leaves(point: str, number: signal.Signals) -> Provoke:
        async def provoke() -> None:
            worker = await with_a_job(point)
            worker.send(number)
            await worker.ended(SECONDS)

        return provoke

    async def is_fenced() -> None:
        await leaves("fence committed", signal.SIGKILL)()
        request = worker_control_service_pb2.FenceWorkerRequest(id=list(mesh.workers)[-1])
        control = worker_control_service_pb2_grpc.WorkerControlServiceStub(mesh.channel(scheduler))
        with contextlib.suppress(grpc.aio.AioRpcError):  # what died can't answer
            await control.FenceWorker(request)

    async def by_hand(point: str) -> tuple[HandWorker, session_pb2.Assignment]:
        """A worker that does as it is told here, with a job in its hands."""
        hello = session_pb2.Hello(protocol_version=1, worker_id=point.replace(" ", "-"), slots=1, task_types=[SHELL])
        hello.incarnation = secrets.token_bytes(16)
        worker = await HandWorker(WorkerServiceStub(mesh.channel(scheduler)), hello).connect()
        await worker.credit(1)
        await chain.submit(point)
        return worker, (await worker.assignments())[0]

    async def hands_back() -> None:
        worker, held = await by_hand("return committed")
        result = session_pb2.Result(job_id=held.job_id, fence=held.fence, returned=True)
        await worker.send(result=session_pb2.Results(results=[result]))

    async def has_lost_it() -> None:
        worker, _ = await by_hand("difference mended")
        for sequence in (1, 2):
            await worker.send(heartbeat=session_pb2.Heartbeat(sequence=sequence, lease=worker.welcome.lease))
        await worker.expect("inventory_request")
        await worker.send(inventory=session_pb2.Inventory())

    async def is_sent_on() -> None:
        await with_a_job("worker sent on")
        scheduler.terminate()

    await chain.die(
        scheduler,
        {
            "drain committed": leaves("drain committed", signal.SIGTERM),
            "drain answered": leaves("drain answered", signal.SIGTERM),
            "goodbye committed": leaves("goodbye committed", signal.SIGTERM),
            "stream's end noted": leaves("stream's end noted", signal.SIGKILL),
            "fence committed": is_fenced,
            "lease expired": leaves("lease expired", signal.SIGKILL),
            "return committed": hands_back,
            "difference mended": has_lost_it,
            "worker sent on": is_sent_on,
        },
    )
    await mesh.add_worker("", name="successor", slots=4)
    await chain.all_succeeded(worker_lives=False)


DELETIONS = ("deletion ended jobs", "deletion counted", "deletion answered")


async def test_a_leader_dies_in_the_middle_of_deletions_and_another_finishes_them(chain: Chain) -> None:
    mesh = chain.mesh
    scheduler = await mesh.add_scheduler()
    for point in DELETIONS:
        await mesh.set_group(point.replace(" ", "-"))
        await chain.submit(point, worker_group=point.replace(" ", "-"))

    def delete(point: str) -> Provoke:
        request = worker_group_service_pb2.DeleteWorkerGroupRequest(key=point.replace(" ", "-"), force=True)
        return lambda: mesh.groups.DeleteWorkerGroup(request)

    await chain.die(scheduler, {point: delete(point) for point in DELETIONS})
    for point in DELETIONS:
        assert (await chain.ended(point)).state == job_pb2.JOB_STATE_KILLED, point
        request = worker_group_service_pb2.GetWorkerGroupRequest(key=point.replace(" ", "-"))
        async with asyncio.timeout(SECONDS):
            with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND"):
                while True:
                    await mesh.groups.GetWorkerGroup(request)


OF_TRIGGERS = tuple(name for name, where in POINTS.items() if "trigger" in where)  # test_triggers.py
OF_EXECUTIONS = tuple(  # test_execution_crash_points.py
    name for name, where in POINTS.items() if "execution" in where and name not in OF_TRIGGERS
)
OF_SECRETS = ("secrets sealed anew",)  # test_secrets.py
OF_A_WORKER = tuple(name for name, where in POINTS.items() if where.startswith("worker"))
LAST = "fallback settled"
ON_ITS_WAY_OUT = ("drain acknowledged", "jobs given up", "goodbye sent")


async def test_a_worker_dies_again_and_again_and_every_job_is_done(chain: Chain) -> None:
    await chain.mesh.set_group("", lease=3.0)
    # So the worker moves from one stream to the next. The scheduler's own point is for the end: it believes that a
    # group has lost its last worker only after 15 seconds of looking, and here it lives for that long.
    crash = {"FARHAND_CRASH_POINT": LAST}
    scheduler = await chain.mesh.add_scheduler("--session-age", "2s", **crash)
    worker = await chain.mesh.add_worker("", "--drain-timeout", "200ms", slots=3)
    provocations = {point: chain.some_jobs(point) for point in OF_A_WORKER}

    async def kill_one() -> None:
        job_id = await chain.submit("killed", seconds=600)
        await chain.held(job_id)
        await chain.kill(job_id)

    def leave(point: str) -> Provoke:
        async def provoke() -> None:
            await chain.held(await chain.submit(point, seconds=1))
            worker.terminate()

        return provoke

    await chain.die(
        worker, provocations | {"kill obeyed": kill_one} | {point: leave(point) for point in ON_ITS_WAY_OUT}
    )
    assert (await chain.ended("killed")).state == job_pb2.JOB_STATE_KILLED
    assert "end" not in chain.lines("killed")
    del chain.ids["killed"]
    await chain.all_succeeded(worker_lives=False)

    await a_job_that_may_not_wait_is_left_alone(chain)
    assert await scheduler.ended() == -signal.SIGKILL
    scheduler.environment.pop("FARHAND_CRASH_POINT")
    await scheduler.restart()
    assert (await chain.ended("may not wait")).state == job_pb2.JOB_STATE_FAILED
    assert chain.lines("may not wait") == []


async def a_job_that_may_not_wait_is_left_alone(chain: Chain) -> None:
    """Its group's only worker was available, and stands still for longer than that counts."""
    await chain.mesh.set_group("lonely", lease=60.0)
    worker = await chain.mesh.add_worker("lonely", slots=1)
    await chain.held(await chain.submit("done by the lonely one", worker_group="lonely", seconds=2))
    worker.pause()
    await chain.submit("may not wait", worker_group="lonely", fallback=FALLBACK_FAIL)
    connection = await asyncpg.connect(chain.mesh.database_url)
    await connection.execute("UPDATE scheduler.session SET heartbeat_at = now() - interval '1 minute'")
    await connection.close()


def test_every_point_is_one_of_a_chain() -> None:
    here = [*UNDER_LOAD, *KILLS, *ENDS_OF_SESSIONS, *DELETIONS, *OF_A_WORKER, LAST]
    assert sorted(POINTS) == sorted([*here, *OF_EXECUTIONS, *OF_TRIGGERS, *OF_SECRETS])
