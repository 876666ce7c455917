"""`farhand server standalone`, as a process with real services: stop, faults, folders and ports."""

import asyncio
import os
import re
import select
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from farhand.api.registry.v1.tenant_service_pb2 import ListTenantsRequest
from farhand.api.registry.v1.tenant_service_pb2_grpc import TenantServiceStub
from farhand.api.registry.v1.worker_group_service_pb2 import ListWorkerGroupsRequest
from farhand.api.registry.v1.worker_group_service_pb2_grpc import WorkerGroupServiceStub
from farhand.api.scheduler.v1 import job_pb2, job_service_pb2
from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceStub
from farhand.runtime.grpc_channel import make_channel
from farhand.runtime.settings import DialSettings
from tests.fixtures.mesh import Process
from tests.tasks import a_shell_task

Standalone = Callable[..., Process]
_ANY_PORTS = ("--registry-port", "0", "--scheduler-port", "0")


@pytest.fixture
async def standalone(tmp_path: Path) -> AsyncIterator[Standalone]:
    """Makes standalones, not yet started, on one data folder; what still runs at the end is killed."""
    made: list[Process] = []

    def make(*flags: str) -> Process:
        command = [sys.executable, "-m", "farhand.cli", "server", "standalone", "--data", str(tmp_path / "data")]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FARHAND_")}
        process = Process("standalone", [*command, *flags], environment, tmp_path / f"{len(made)}.log")
        made.append(process)
        return process

    yield make
    for process in made:
        if process.running:
            process.kill()
            await process.ended()


async def run_a_job(scheduler: str, command: str, group: str = "") -> job_pb2.Job:
    """Submit it and wait for its end."""
    async with make_channel(scheduler, DialSettings()) as channel:
        jobs = JobServiceStub(channel)
        spec = job_pb2.JobSpec(worker_group=group, task=a_shell_task(command))
        submitted = await jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec), timeout=60, wait_for_ready=True)
        return (await jobs.WaitJob(job_service_pb2.WaitJobRequest(id=submitted.job.id), timeout=60)).job


async def all_end(pids: dict[str, int], doing: Callable[[], Awaitable[object]], within: float = 30) -> None:
    """Do it, and wait until each of these processes has ended."""
    with ExitStack() as stack:
        descriptors = {name: os.pidfd_open(pid) for name, pid in pids.items()}
        for descriptor in descriptors.values():
            stack.callback(os.close, descriptor)
        await doing()
        for name, descriptor in descriptors.items():
            ready, _, _ = await asyncio.to_thread(select.select, [descriptor], [], [], within)
            assert ready, f"{name} still runs"


async def test_one_ctrl_c_stops_all_in_reverse_order(standalone: Standalone) -> None:
    process = await standalone(*_ANY_PORTS, "--worker", "_default:2", "--worker", "gpu:3").start()
    job = await run_a_job(process.facts["scheduler"], "echo hello", "gpu")
    assert job.state == job_pb2.JOB_STATE_SUCCESS

    async def stop() -> None:
        process.send(signal.SIGINT)
        assert await process.ended() == 0

    assert sorted(process.facts["pids"]) == ["database", "registry", "scheduler", "worker _default", "worker gpu"]
    await all_end(process.facts["pids"], stop)
    order = re.findall(r"^(worker|scheduler|registry|database)\b.*: stopping  signal", process.tail(), re.MULTILINE)
    assert order == ["worker", "worker", "scheduler", "registry", "database"]


async def test_a_second_ctrl_c_kills_all_and_what_their_jobs_run(standalone: Standalone, tmp_path: Path) -> None:
    process = await standalone(*_ANY_PORTS, "--drain-timeout", "10m").start()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with make_channel(process.facts["scheduler"], DialSettings()) as channel:
        spec = job_pb2.JobSpec(task=a_shell_task(f"echo $$ > '{pipe}'; sleep 600"))
        await JobServiceStub(channel).SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec))
        # Reading the pipe waits until the command writes.
        job_pid = int(await asyncio.wait_for(asyncio.to_thread(pipe.read_text), 30))

    async def stop_and_kill() -> None:
        process.send(signal.SIGINT)
        await wrote(process, "draining")
        process.send(signal.SIGINT)
        assert await process.ended() == 130

    await all_end({**process.facts["pids"], "the job": job_pid}, stop_and_kill)


async def wrote(process: Process, text: str, within: float = 30) -> None:
    """Wait until its log has this text."""
    async with asyncio.timeout(within):
        while text not in process.log.read_text(errors="replace"):  # a file tells nobody
            await asyncio.sleep(0.02)


async def test_services_that_are_killed_come_back_on_their_addresses(standalone: Standalone) -> None:
    process = await standalone(*_ANY_PORTS).start()
    pids = process.facts["pids"]
    for name in ("registry", "scheduler", "worker _default", "database"):
        os.kill(pids[name], signal.SIGKILL)
    for name in ("registry", "scheduler", "worker _default", "database"):
        await wrote(process, f"the {name} is back")
    async with make_channel(process.facts["registry"], DialSettings()) as channel:
        await TenantServiceStub(channel).ListTenants(ListTenantsRequest(), timeout=90, wait_for_ready=True)
    job = await run_a_job(process.facts["scheduler"], "echo hello")
    assert job.state == job_pb2.JOB_STATE_SUCCESS
    process.terminate()
    assert await process.ended() == 0


async def test_a_data_folder_in_use_is_refused_with_the_pid(standalone: Standalone) -> None:
    first = await standalone(*_ANY_PORTS).start()
    second = standalone(*_ANY_PORTS)
    await second.launch()
    assert await second.ended() == 1
    assert f"is in use by another farhand, process {first.pid}." in second.tail()
    assert "Traceback" not in second.tail()
    assert len(second.tail().splitlines()) == 2


async def test_a_killed_standalone_takes_all_with_it_and_the_next_goes_on(standalone: Standalone) -> None:
    first = await standalone(*_ANY_PORTS, "--worker", "gpu").start()
    ports = [first.facts[name].rpartition(":")[2] for name in ("registry", "scheduler")]

    async def kill() -> None:
        first.kill()
        await first.ended()

    second = standalone("--registry-port", ports[0], "--scheduler-port", ports[1])

    async def kill_and_start_the_next_at_once() -> None:
        await kill()
        await second.start()

    await all_end(first.facts["pids"], kill_and_start_the_next_at_once)
    async with make_channel(second.facts["registry"], DialSettings()) as channel:
        groups = await WorkerGroupServiceStub(channel).ListWorkerGroups(ListWorkerGroupsRequest())
    assert [group.key for group in groups.worker_groups] == ["", "gpu"]


async def test_a_port_in_use_is_said_in_a_line(standalone: Standalone) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = standalone("--registry-port", "0", "--scheduler-port", str(port))
        await process.launch()
        assert await process.ended() == 1
    assert process.tail().splitlines() == [
        f"farhand: The scheduler can't listen on 127.0.0.1:{port}: Address already in use.",
        "  Stop what does, or take another: --scheduler-port N (0: any that is free)",
    ]


async def test_quiet_services_write_to_files(standalone: Standalone, tmp_path: Path) -> None:
    process = await standalone(*_ANY_PORTS, "--quiet").start()
    process.terminate()
    assert await process.ended() == 0
    assert "registry: ready" not in process.tail()
    logs = {path.name: path.read_text() for path in (tmp_path / "data" / "logs").iterdir()}
    assert sorted(logs) == ["database.log", "registry.log", "scheduler.log", "standalone.log", "worker-_default.log"]
    assert "registry: ready" in logs["registry.log"]
