"""Services that can't start say why in a line and exit 1; those that only have to wait say for what, and then work."""

import asyncio
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

from farhand.api.scheduler.v1 import job_pb2, job_service_pb2
from tests.fixtures.command_line import Said, farhand
from tests.fixtures.mesh import Mesh, Process
from tests.tasks import a_shell_task

SECONDS = 40.0


async def refused(*arguments: str, **environment: str) -> str:
    """The one line with which a command gives up."""
    said: Said = await farhand(*arguments, **environment)
    assert said.exit_code == 1, said.all
    assert "Traceback" not in said.err
    [line] = [line for line in said.err.splitlines() if not line.startswith("{")]
    return line


async def wrote(process: Process, pattern: str) -> None:
    """Once its log has this."""
    async with asyncio.timeout(SECONDS):
        while not re.search(pattern, process.tail()):  # a file tells nobody
            await asyncio.sleep(0.02)


def later(mesh: Mesh, name: str, *command: str, **environment: str) -> Process:
    """A process that is started by hand; it is killed with the mesh."""
    return mesh.process(name, command, environment)


async def test_a_port_in_use_is_named_with_what_to_do(mesh: Mesh) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        lines = await asyncio.gather(
            *(
                refused("server", service, "--listen", f"127.0.0.1:{port}", FARHAND_DATABASE_URL=mesh.database_url)
                for service in ("registry", "scheduler")
            )
        )
    for line in lines:
        assert f"127.0.0.1:{port}" in line and "in use" in line and "--listen" in line


async def test_a_database_that_refuses_is_named_without_its_password(mesh: Mesh) -> None:
    url = urlsplit(mesh.database_url)
    assert url.password
    wrong = url._replace(netloc=url.netloc.replace(url.password, "wrong-secret")).geturl()
    nowhere = url._replace(path="/no_such_database").geturl()

    async def named(service: str, database: str, words: str) -> None:
        line = await refused("server", service, "--listen", "127.0.0.1:0", FARHAND_DATABASE_URL=database)
        assert words in line and f"{url.hostname}:{url.port}" in line and "FARHAND_DATABASE_URL" in line
        assert "wrong-secret" not in line and str(url.password) not in line

    await asyncio.gather(
        named("registry", wrong, "password"),
        named("scheduler", wrong, "password"),
        named("registry", nowhere, "no_such_database"),
        named("scheduler", nowhere, "no_such_database"),
    )
    line = await refused("server", "registry", "--listen", "127.0.0.1:0", FARHAND_DATABASE_URL="nonsense")
    assert "FARHAND_DATABASE_URL" in line


async def test_without_a_registry_or_scheduler_a_command_says_so_in_a_line(mesh: Mesh) -> None:
    nobody = {"FARHAND_REGISTRY": "127.0.0.1:1", "FARHAND_SCHEDULER": "127.0.0.1:1"}

    async def told(server: str, *command: str) -> None:
        said = await farhand(*command, **nobody)
        assert said.exit_code == 1 and not said.out and len(said.err.splitlines()) <= 3, said.all
        assert server in said.err and "127.0.0.1:1" in said.err and "Traceback" not in said.err

    await asyncio.gather(
        told("registry", "worker-group", "list"),
        told("scheduler", "job", "list"),
        told("scheduler", "run", "--", "true"),
    )


async def test_services_that_start_before_their_database_wait_say_so_and_then_work(mesh: Mesh, tmp_path: Path) -> None:
    command = ("farhand.runtime.embedded_postgres", "--data", str(tmp_path / "postgres"), "--no-fsync")
    first = later(mesh, "postgres", *command)
    await first.start()
    url = str(first.facts["url"])
    first.terminate()
    assert await first.ended() == 0
    where = f"127.0.0.1:{urlsplit(url).port}"

    # Everything starts in the worst order: the worker, then the scheduler, then the registry, the database at last.
    ports = [free_port(), free_port()]
    registry_at, scheduler_at = (f"127.0.0.1:{port}" for port in ports)
    worker = later(mesh, "worker", "farhand.worker", "--scheduler", scheduler_at, "--data", str(tmp_path / "worker"))
    scheduler = later(
        mesh,
        "scheduler",
        *("farhand.scheduler", "--listen", scheduler_at, "--registry", registry_at),
        FARHAND_DATABASE_URL=url,
    )
    registry = later(mesh, "registry", "farhand.registry", "--listen", registry_at, FARHAND_DATABASE_URL=url)
    await worker.launch()
    await wrote(worker, f"waiting for the scheduler at {scheduler_at}")
    await scheduler.launch()
    await wrote(scheduler, f"waiting for the database at {where}: Connection refused")
    await registry.launch()
    await wrote(registry, f"waiting for the database at {where}: Connection refused")
    assert '"ready"' not in scheduler.tail() + registry.tail()
    again = later(mesh, "postgres-again", *command, "--port", str(urlsplit(url).port))
    await again.start()
    for process in (registry, scheduler, worker):
        await wrote(process, '"message": "ready"')
    said = await farhand("run", "--", "echo", "hello", FARHAND_SCHEDULER=scheduler_at)
    assert (said.exit_code, said.out) == (0, "hello\n"), said.all
    for process in (registry, scheduler, worker):
        assert "Traceback" not in process.tail(), process.tail()
        waits = [line for line in process.tail().splitlines() if "waiting for" in line]
        assert len(waits) <= 12, waits  # a line every 5 s at most, for each thing that it waits for


async def test_a_scheduler_without_a_registry_waits_says_so_and_then_works(mesh: Mesh) -> None:
    port = free_port()
    scheduler = later(
        mesh,
        "scheduler",
        *("farhand.scheduler", "--listen", "127.0.0.1:0", "--registry", f"127.0.0.1:{port}"),
        FARHAND_DATABASE_URL=mesh.database_url,
    )
    await scheduler.launch()
    await wrote(scheduler, f"waiting for the registry at 127.0.0.1:{port}")
    scheduler.terminate()  # and it can be stopped meanwhile
    assert await scheduler.ended() == 0
    await scheduler.launch()
    await later(
        mesh,
        "registry",
        *("farhand.registry", "--listen", f"127.0.0.1:{port}"),
        FARHAND_DATABASE_URL=mesh.database_url,
    ).start()
    await wrote(scheduler, '"message": "ready"')


async def test_a_worker_of_an_unknown_group_ends_with_near_matches(mesh: Mesh, tmp_path: Path) -> None:
    await mesh.add_registry()
    await mesh.add_scheduler()
    await mesh.set_group("gpu")
    address = mesh.schedulers[0].address

    async def start(group: str) -> str:
        return await refused(
            *("server", "worker", "--worker-group", group, "--scheduler", address, "--data", str(tmp_path / group))
        )

    near, far = await asyncio.gather(start("gpuu"), start("elsewhere"))
    assert "There is no worker group 'gpuu'. Did you mean 'gpu'?" in near
    assert "There is no worker group 'elsewhere'" in far and "worker-group create elsewhere" in far
    wrong = await farhand("server", "worker", "--worker-group", "a b", "--scheduler", address)
    assert wrong.exit_code == 2 and len(wrong.err.splitlines()) == 1 and "--worker-group" in wrong.err


async def test_two_workers_do_not_share_a_data_folder(mesh: Mesh) -> None:
    await mesh.start(workers=[""])
    worker = mesh.worker()
    folder = str(mesh.folder / "workers" / "default")
    line = await refused("server", "worker", "--scheduler", mesh.schedulers[0].address, "--data", folder)
    assert folder in line and f"pid {worker.pid}" in line and "--data" in line
    unusable = await refused("server", "worker", "--scheduler", mesh.schedulers[0].address, "--data", "/proc/nowhere")
    assert "/proc/nowhere" in unusable
    # The first was not disturbed.
    spec = job_pb2.JobSpec(task=a_shell_task("true"))
    job = (await mesh.jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec))).job
    ended = (await mesh.jobs.WaitJob(job_service_pb2.WaitJobRequest(id=job.id))).job
    assert ended.state == job_pb2.JOB_STATE_SUCCESS and ended.worker == "default"


def free_port() -> int:
    """A port that nobody uses just now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])
