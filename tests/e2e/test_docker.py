"""The task runner Docker with real containers: Debian's Podman and runc behind the Docker API.

Whatever ends, a container does not outlive it: not a kill, nor the lease, nor anybody's kill -9.
"""

import asyncio
import contextlib
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from farhand.api.types.v1 import log_record_pb2 as logs
from farhand.api.types.v1 import outcome_pb2
from farhand.api.worker.v1 import session_pb2 as pb
from farhand.kernel.flow import KnownTypes, Source, Task, read_flow
from farhand.worker import undo_notes
from farhand.worker.runners import docker
from farhand.worker.warden import tree
from farhand.worker.warden_client import RUN_MARK
from tests.architecture.repository import ROOT
from tests.fixtures import fake_scheduler as fake_scheduler_module
from tests.fixtures.containers import Podman, a_container_job
from tests.fixtures.fake_scheduler import FakeScheduler, FakeSession, a_job

SUCCESS = outcome_pb2.OUTCOME_STATE_SUCCESS
FAILED = outcome_pb2.OUTCOME_STATE_FAILED
KILLED = outcome_pb2.OUTCOME_STATE_KILLED
FOR_EVER = ["echo up", "sleep 1000"]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers start in half a second; on a machine that has a dozen other things to do it takes long."""
    monkeypatch.setattr(fake_scheduler_module, "PATIENCE", 60.0)


async def a_session(fake_scheduler: FakeScheduler, podman: Podman, **settings: Any) -> FakeSession:
    await fake_scheduler.run_worker(docker_socket=str(podman.socket), **settings)
    return await fake_scheduler.session()


async def result_of(fake_scheduler: FakeScheduler, session: FakeSession, job_id: str, **properties: Any) -> pb.Result:
    session.assign(a_job(job_id, properties=a_container_job(**properties)))
    result = await session.result(job_id)
    await fake_scheduler.log_reaches(job_id, result.log_end_offset)
    return result


async def a_spawned_worker(fake_scheduler: FakeScheduler, podman: Podman, folder: Path) -> tuple[int, FakeSession]:
    """The pid of a worker with a process of its own, whose job-1 is up in a container."""
    worker = await fake_scheduler.spawn_worker("--docker-socket", str(podman.socket), data=folder / "w")
    session = await fake_scheduler.session()
    session.assign(a_job("job-1", properties=a_container_job(commands=FOR_EVER)))
    assert await fake_scheduler.log_reaches("job-1", 1) == ["up"]
    assert len(podman.containers(running=True)) == 1
    return worker.process.pid, session


async def test_a_script_runs_in_a_container_as_it_does_in_a_process(
    fake_scheduler: FakeScheduler, podman: Podman
) -> None:
    session = await a_session(fake_scheduler, podman)
    commands = [
        "echo to stdout $A $FARHAND_JOB_ID",
        "cat in/a.txt && echo more > in/b.txt && ln -s in/b.txt link.txt && rm old.txt",
        'echo \'::{"outputs":{"n":1}}::\'',
        "id -u >&2; exit 3",
    ]
    files = {"in/a.txt": "content\n", "old.txt": "y"}
    wanted = ["**/b.txt", "*.txt", "none"]
    result = await result_of(
        fake_scheduler,
        session,
        "job-1",
        commands=commands,
        env={"A": "x"},
        inputFiles=files,
        outputFiles=wanted,
        runner={"user": "1000:1000"},
    )
    outputs = MessageToDict(result.outcome)["outputs"]
    assert (result.outcome.state, result.outcome.reason, result.outcome.exit_code) == (FAILED, "NONZERO_EXIT", 3)
    assert (outputs["exitCode"], outputs["vars"]) == (3, {"n": 1})
    stored = {path: fake_scheduler.files.stored[uri] for path, uri in outputs["outputFiles"].items()}
    assert stored == {"in/b.txt": b"more\n", "link.txt": b"more\n"}
    assert fake_scheduler.lines("job-1", stream=logs.LOG_STREAM_STDOUT) == ["to stdout x job-1", "content"]
    assert fake_scheduler.lines("job-1", stream=logs.LOG_STREAM_STDERR) == ["1000"]
    assert "outputFiles: nothing in the working folder is called 'none'" in fake_scheduler.lines("job-1")
    await podman.none_left()


async def test_the_example_of_the_readme(fake_scheduler: FakeScheduler, podman: Podman) -> None:
    text = next(each for each in (ROOT / "README.md").read_text().split("```yaml\n") if each.startswith("id: in_a_con"))
    reading = read_flow(Source.of(text.partition("```")[0]), KnownTypes())
    assert reading.flow is not None and not reading.problems
    (task,) = reading.flow.tasks
    assert isinstance(task, Task)
    session = await a_session(fake_scheduler, podman)
    session.assign(a_job("job-1", type=task.type, properties=task.properties))
    outputs = MessageToDict((await session.result("job-1")).outcome)["outputs"]
    assert fake_scheduler.files.stored[outputs["outputFiles"]["out.txt"]] == b"3\n"


async def test_limits_volumes_and_what_the_server_refuses(
    fake_scheduler: FakeScheduler, podman: Podman, tmp_path: Path
) -> None:
    session = await a_session(fake_scheduler, podman, slots=4, docker_allow_volumes=True)
    (tmp_path / "a.txt").write_text("from the host\n")
    wants = "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo never"
    jobs: dict[str, dict[str, Any]] = {
        "network": {"commands": ["true"], "runner": {"networkMode": "no-such-network"}},
        "image": {"commands": ["true"], "containerImage": "localhost/none", "runner": {"pullPolicy": "NEVER"}},
        "memory": {"commands": [wants], "runner": {"memory": {"memory": "32MB"}, "cpu": {"cpus": 0.9}}},
        "volume": {"commands": ["cat /data/a.txt"], "runner": {"volumes": [f"{tmp_path}:/data:ro"]}},
    }
    session.assign(*(a_job(name, properties=a_container_job(**properties)) for name, properties in jobs.items()))
    outcomes = {name: (await session.result(name)).outcome for name in jobs}
    assert {name: outcome.reason for name, outcome in outcomes.items()} == {
        "network": "START_FAILED",
        "image": "START_FAILED",
        "memory": "OUT_OF_MEMORY",
        "volume": "",
    }
    assert outcomes["network"].message.startswith("the container can't be created: ")
    assert outcomes["image"].message.startswith("the image localhost/none is not on this machine")
    assert outcomes["memory"].exit_code == 137
    assert "more memory than its limit of 32MB. Raise memory.memory" in outcomes["memory"].message
    assert await fake_scheduler.log_reaches("volume", 1) == ["from the host"]
    await podman.none_left()


async def test_a_kill_asks_the_command_first_and_ends_it_when_the_grace_is_over(
    fake_scheduler: FakeScheduler, podman: Podman
) -> None:
    session = await a_session(fake_scheduler, podman)
    polite = ["trap 'echo bye; exit 0' TERM", "echo up", "while :; do sleep 0.05; done"]
    deaf = ["trap '' TERM", "echo up", "while :; do sleep 0.05; done"]
    session.assign(*(a_job(name, properties=a_container_job(commands=it)) for name, it in (("p", polite), ("d", deaf))))
    for name in ("p", "d"):
        assert await fake_scheduler.log_reaches(name, 1) == ["up"]
    session.cancel("p", grace=60.0)
    session.cancel("d", grace=0.3)
    for name, last in (("p", "bye"), ("d", "up")):
        result = await session.result(name)
        assert result.outcome.state == KILLED
        assert (await fake_scheduler.log_reaches(name, result.log_end_offset))[-1] == last
    await podman.none_left()


def marked(beginning: str) -> Iterator[int]:
    """The processes whose run's mark begins so."""
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"{RUN_MARK}={beginning}".encode() in environ.read_bytes():
                yield int(environ.parent.name)


async def test_kill_9_of_the_client_takes_the_container_with_it_and_nothing_else(
    fake_scheduler: FakeScheduler, podman: Podman
) -> None:
    session = await a_session(fake_scheduler, podman)
    job_id = uuid.uuid4().hex
    session.assign(a_job(job_id, properties=a_container_job(commands=FOR_EVER)))
    await fake_scheduler.log_reaches(job_id, 1)
    for client in marked(f"{job_id}-1."):
        os.kill(client, signal.SIGKILL)
    result = await session.result(job_id)
    assert (result.outcome.state, result.outcome.reason) == (FAILED, "RUNNER_FAILED")
    assert "the task runner's own program ended with signal 9" in result.outcome.message
    await podman.none_left()
    assert (await result_of(fake_scheduler, session, "job-2", commands=["true"])).outcome.state == SUCCESS


async def test_kill_9_of_the_worker_takes_the_container_with_it(
    fake_scheduler: FakeScheduler, podman: Podman, tmp_path: Path
) -> None:
    worker, _ = await a_spawned_worker(fake_scheduler, podman, tmp_path)
    os.kill(worker, signal.SIGKILL)
    await podman.none_left()


async def test_the_lease_ends_the_container_of_a_worker_that_is_stopped(
    fake_scheduler: FakeScheduler, podman: Podman, tmp_path: Path
) -> None:
    fake_scheduler.lease, fake_scheduler.heartbeat_interval = 3.0, 0.3
    worker, _ = await a_spawned_worker(fake_scheduler, podman, tmp_path)
    os.kill(worker, signal.SIGSTOP)
    await podman.none_left()
    os.kill(worker, signal.SIGCONT)


async def test_what_nobody_was_left_to_remove_is_removed_by_the_next_start(
    fake_scheduler: FakeScheduler, podman: Podman, tmp_path: Path
) -> None:
    worker, session = await a_spawned_worker(fake_scheduler, podman, tmp_path)
    family = tree.settled(worker)
    for process in family:  # the warden, the keeper, the client: none of them gets to do anything
        os.kill(process.pid, signal.SIGSTOP)
    for pid in (worker, *(process.pid for process in family)):
        os.kill(pid, signal.SIGKILL)
    await session.over()
    assert len(podman.containers(running=True)) == 1
    await fake_scheduler.spawn_worker("--docker-socket", str(podman.socket), data=tmp_path / "w")
    again = await fake_scheduler.session()
    assert again.hello.dead_incarnations, "it said that the earlier one is dead, and it is"
    await podman.none_left()


async def test_where_docker_is_away_the_next_start_does_not_call_the_earlier_worker_dead(
    fake_scheduler: FakeScheduler, podman: Podman, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "LONGEST_UNDO", 0.3)
    monkeypatch.setattr(undo_notes, "PAUSE", 0.05)
    worker = await fake_scheduler.run_worker(docker_socket=str(podman.socket))
    session = await fake_scheduler.session()
    session.assign(a_job("job-1", properties=a_container_job(commands=FOR_EVER)))
    await fake_scheduler.log_reaches("job-1", 1)
    podman.stop_serving()
    try:
        result = await session.result("job-1")
        assert (result.outcome.state, result.outcome.reason) == (FAILED, "RUNNER_FAILED")
        await worker.crash()
        await fake_scheduler.run_worker(docker_socket=str(podman.socket), data=worker.data)
        assert not (await fake_scheduler.session()).hello.dead_incarnations
        assert len(podman.containers(running=True)) == 1
    finally:
        podman.serve()
    await podman.none_left()
    async with asyncio.timeout(15):
        while list(worker.data.glob("undo/*")):
            await asyncio.sleep(0.01)
