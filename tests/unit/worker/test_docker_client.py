"""The client of a container against a Docker that misbehaves: what it says, and what it asks for."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from farhand.worker.runners import CommandEnd
from farhand.worker.runners.client import Lost, NeverRan
from farhand.worker.runners.docker_client import DockerClient, container_config, registry_auth
from farhand.worker.runners.hosted import Task
from tests.fixtures.fake_docker import CLOSE, HANG, UP, FakeDocker, Fault
from tests.fixtures.warden import until

SHORT, LONG = 0.5, 60.0  # seconds of patience


def a_task(folder: Path, at: Path, patience: float = LONG, **properties: Any) -> Task:
    (folder / "work").mkdir(exist_ok=True)
    settings = {"socket": str(at), "patience": patience, "container": "c", "begun": str(folder / "begun")}
    env = {"A": "1", "FARHAND_JOB_ID": "j"}
    return Task("run", ("/bin/sh", "-c", "true"), env, str(folder / "work"), "busybox", (), properties, settings)


@pytest.fixture
def task(tmp_path: Path, fake_docker: FakeDocker) -> Task:
    return a_task(tmp_path, fake_docker.socket)


async def why_it_never_ran(task: Task) -> str:
    with pytest.raises(NeverRan) as refused:
        await DockerClient().run(task, asyncio.Event())
    return str(refused.value)


@pytest.mark.parametrize(
    ("call", "fault", "why"),
    [
        ("version", HANG, "has not answered for 500ms, while Docker was asked for its version"),
        ("image", CLOSE, "broke, while the image busybox was looked for"),
        ("image", HANG, "has not answered for 500ms, while the image busybox was looked for"),
        ("create", HANG, "has not answered for 500ms, while the container was created"),
        ("create", (500, "no space left on device"), "the container can't be created: no space left on device"),
        ("put", (507, "disk\nfull"), "answered 507: disk full, while the working folder was copied into the container"),
        ("attach", (409, "cgroup config"), "the container can't be started: cgroup config"),
        ("start", (400, "exec: /bin/sh: not found"), "the container can't be started: exec: /bin/sh: not found"),
        ("start", CLOSE, "broke, while the container was started"),
        ("start", HANG, "has not answered for 500ms, while the container was started"),
    ],
)
async def test_what_goes_wrong_before_the_command_runs_is_said(
    fake_docker: FakeDocker, tmp_path: Path, call: str, fault: Fault, why: str
) -> None:
    task = a_task(tmp_path, fake_docker.socket, SHORT if fault == HANG else LONG)
    fake_docker.faults[call] = fault
    assert why in await why_it_never_ran(task)
    assert Path(task.settings["begun"]).exists() is (call not in ("version", "image"))


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (None, "there is no socket {} on this worker: start Docker there, or Podman's service"),
        (ConnectionRefusedError(), "nobody listens at the socket {} of this worker"),
        (PermissionError(), "the worker's user may not use the socket {}: let it, such as by the group docker"),
        (TimeoutError(), "the socket {} of this worker takes no connection: look whether Docker hangs"),
    ],
)
async def test_a_socket_that_cant_be_used_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError | None, why: str
) -> None:
    path = tmp_path / "none.sock"
    if isinstance(error, ConnectionRefusedError):
        with socket.socket(socket.AF_UNIX) as left_over:
            left_over.bind(str(path))
    elif error is not None:

        async def refused(_: str) -> None:
            raise error

        monkeypatch.setattr(asyncio, "open_unix_connection", refused)
    told = await why_it_never_ran(a_task(tmp_path, path))
    assert told.startswith(why.format(path)) and told.endswith(
        "; or name another by the worker's --docker-socket or FARHAND_DOCKER_SOCKET"
    )


async def test_an_image_is_pulled_only_as_the_policy_says(
    fake_docker: FakeDocker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fake_docker.faults["image"] = (404, "no such image")
    told = await why_it_never_ran(a_task(tmp_path, fake_docker.socket, pullPolicy="NEVER"))
    assert told.startswith("the image busybox is not on this machine, and pullPolicy is NEVER: pull it there")
    assert "pull" not in fake_docker.calls

    fake_docker.faults["pull"] = (500, "unauthorized: authentication required")
    told = await why_it_never_ran(a_task(tmp_path, fake_docker.socket))
    assert told.startswith("the image busybox can't be pulled: unauthorized: authentication required. Check its name")
    assert capfd.readouterr().out == "pulling the image busybox\n"

    fake_docker.faults = {"pull": (500, "refused")}
    assert "refused" in await why_it_never_ran(a_task(tmp_path, fake_docker.socket, pullPolicy="ALWAYS"))

    fake_docker.faults = {"image": (404, "no such image")}
    assert "the pull was broken off" in await why_it_never_ran(a_task(tmp_path, fake_docker.socket))


@pytest.mark.parametrize(
    ("code", "oom", "memory", "reason", "why"),
    [
        (137, True, "64MB", "OUT_OF_MEMORY", "it used more memory than its limit of 64MB. Raise memory.memory"),
        (137, False, "64MB", "OUT_OF_MEMORY", "most likely it used more memory than its limit of 64MB"),
        (137, True, None, "OUT_OF_MEMORY", "it used more memory than the machine had"),
        (137, False, None, "", ""),
        (1, True, "64MB", "", ""),
    ],
)
async def test_too_little_memory_is_told_from_other_ends(
    fake_docker: FakeDocker, tmp_path: Path, code: int, oom: bool, memory: str | None, reason: str, why: str
) -> None:
    properties: dict[str, Any] = {} if memory is None else {"memory": {"memory": memory}}
    running = asyncio.create_task(
        DockerClient().run(a_task(tmp_path, fake_docker.socket, **properties), asyncio.Event())
    )
    await fake_docker.called("start")
    fake_docker.ends(code, OOMKilled=oom)
    end = await running
    assert (end.exit_code, end.reason, why in end.why) == (code, reason, True), end


async def test_a_container_that_somebody_removes_is_told(fake_docker: FakeDocker, task: Task) -> None:
    running = asyncio.create_task(DockerClient().run(task, asyncio.Event()))
    await fake_docker.called("start")
    fake_docker.faults["show"] = (404, "no such container")
    fake_docker.ends(137)
    with pytest.raises(Lost, match="removed by somebody else while its command ran"):
        await running


async def test_told_to_stop_before_the_command_runs_it_starts_nothing(fake_docker: FakeDocker, task: Task) -> None:
    fake_docker.faults["put"] = HANG
    stop = asyncio.Event()
    running = asyncio.create_task(DockerClient().run(task, stop))
    await fake_docker.called("put")
    stop.set()
    assert await running == CommandEnd(143)
    assert "start" not in fake_docker.calls


async def test_told_to_stop_it_asks_the_command_once_and_waits(
    fake_docker: FakeDocker, task: Task, capfd: pytest.CaptureFixture[str]
) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(DockerClient().run(task, stop))
    await until(lambda: capfd.readouterr().out == UP.decode())
    stop.set()
    await fake_docker.called("kill")
    fake_docker.ends(0)
    assert await running == CommandEnd(0)
    assert fake_docker.calls.count("kill") == 1


async def test_a_first_process_is_left_out_where_the_server_has_none(fake_docker: FakeDocker, task: Task) -> None:
    fake_docker.without_init = True
    running = asyncio.create_task(DockerClient().run(task, asyncio.Event()))
    await fake_docker.called("start")
    fake_docker.ends(0)
    assert await running == CommandEnd(0)
    assert fake_docker.created[-1]["HostConfig"] == {}


def test_the_container_is_what_the_task_says(tmp_path: Path) -> None:
    properties: dict[str, Any] = {
        "memory": '{"memory": "64MB"}',  # as an expression may leave it
        "cpu": {"cpus": "0.5"},
        "networkMode": "none",
        "user": "1000:100",
        "volumes": ["/a:/b:ro"],
        "entryPoint": ["/bin/tini", "--"],
    }
    assert container_config(a_task(tmp_path, tmp_path, **properties)) == {
        "Image": "busybox",
        "Entrypoint": ["/bin/tini", "--"],
        "Cmd": ["/bin/sh", "-c", "true"],
        "Env": ["A=1", "FARHAND_JOB_ID=j"],
        "WorkingDir": "/farhand",
        "User": "1000:100",
        "Labels": {"farhand.job": "j", "farhand.fence": "", "farhand.tenant": ""},
        "HostConfig": {
            "Memory": 64 << 20,
            "NanoCpus": 500_000_000,
            "NetworkMode": "none",
            "Binds": ["/a:/b:ro"],
        },
    }
    bare = container_config(a_task(tmp_path, tmp_path))
    assert (bare["Entrypoint"], bare["Cmd"], bare["HostConfig"]) == (["/bin/sh"], ["-c", "true"], {})


@pytest.mark.parametrize(
    ("image", "auth"),
    [("registry.example:5000/a/b:1", "c2VjcmV0"), ("other.example/a", None), ("busybox", None)],
)
def test_what_docker_login_left_is_shown_to_its_registry_alone(tmp_path: Path, image: str, auth: str | None) -> None:
    (tmp_path / "config.json").write_text('{"auths": {"registry.example:5000": {"auth": "c2VjcmV0"}, "busybox": 5}}')
    assert registry_auth(image, {"DOCKER_CONFIG": str(tmp_path)}) == auth
    assert registry_auth(image, {"HOME": str(tmp_path / "none")}) is None
