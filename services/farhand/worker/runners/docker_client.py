"""The client of one container: pulls, creates, starts, passes its output on, waits for its end.

The working folder is copied into the container before it starts, and what is wanted
of it is copied back at the end. A bind mount would be cheaper, but means nothing
where the worker itself runs in a container, leaves files whose owner is not the
worker, and needs rights that the image's user may not have (decisions/0030).

It never deletes the container: the keeper does, when this process is gone (docker.py).
While it waits for anything it asks Docker now and then whether it is still there, so
one that hangs is told from a command that takes long.
"""

import asyncio
import contextlib
import json
import os
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import aiodocker
from aiodocker.containers import DockerContainer

from farhand.kernel.durations import format_duration
from farhand.kernel.sizes import parse_size
from farhand.worker.runners import CommandEnd
from farhand.worker.runners.client import Lost, NeverRan
from farhand.worker.runners.folder_copies import pack, unpack
from farhand.worker.runners.hosted import Task
from farhand.worker.tasks import properties as check

FOLDER = "farhand"  # in the container's root
KILLED = 137  # the exit code of what SIGKILL ended
TERMINATED = 143
_UNREACHABLE = 900  # aiodocker's status for a connection that can't be made, or broke
_CHUNK = 1 << 20


class DockerClient:
    """See client.Client."""

    async def run(self, task: Task, stop: asyncio.Event) -> CommandEnd:
        """See Client.run."""
        socket, patience = str(task.settings["socket"]), float(task.settings["patience"])
        await _knock(socket, patience)
        async with aiodocker.Docker(url=f"unix://{socket}") as docker:
            life = _Life(docker, task, stop, patience)
            living = asyncio.create_task(life.live())
            watching = asyncio.create_task(_watch(docker, socket, patience))
            stopping = asyncio.create_task(life.end_when_told(living))
            try:
                await asyncio.wait({living, watching}, return_when=asyncio.FIRST_COMPLETED)
                if not living.done():
                    raise _broken(life.doing, life.started, str(watching.exception()))
                return living.result()
            except asyncio.CancelledError:
                return CommandEnd(TERMINATED)
            except aiodocker.DockerError as error:
                raise _broken(life.doing, life.started, _said(error, socket)) from None
            except TimeoutError:
                raise _broken(life.doing, life.started, _silent(socket, patience)) from None
            finally:
                tasks = (living, watching, stopping)
                for each in tasks:
                    each.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


def container_config(task: Task) -> dict[str, Any]:
    """What the Docker API is asked to create, but for what not every server can do."""
    own = task.properties
    entry_point = list(check.structured(own.get("entryPoint")) or [])
    argv = list(task.argv)
    host: dict[str, Any] = {}
    if memory := check.structured(own.get("memory")):
        host["Memory"] = parse_size(str(memory["memory"]))
    if cpu := check.structured(own.get("cpu")):
        host["NanoCpus"] = round(float(cpu["cpus"]) * 1e9)
    if network := own.get("networkMode"):
        host["NetworkMode"] = network
    if volumes := check.structured(own.get("volumes")):
        host["Binds"] = list(volumes)
    config: dict[str, Any] = {
        "Image": _image(task),
        # Without an entry point of ours the image's own would be given the interpreter as its arguments.
        "Entrypoint": entry_point or argv[:1],
        "Cmd": argv if entry_point else argv[1:],
        "Env": [f"{name}={value}" for name, value in task.env.items()],
        "WorkingDir": f"/{FOLDER}",
        "Labels": {
            "farhand.job": task.env.get("FARHAND_JOB_ID", ""),
            "farhand.fence": task.env.get("FARHAND_FENCE", ""),
            "farhand.tenant": task.env.get("FARHAND_TENANT", ""),
        },
        "HostConfig": host,
    }
    if user := own.get("user"):
        config["User"] = user
    return config


class _Life:
    """One container, from its image to its end. `doing` is what is under way, for people."""

    def __init__(self, docker: aiodocker.Docker, task: Task, stop: asyncio.Event, patience: float) -> None:
        self.doing = "Docker was asked for its version"
        self.started = False
        self._docker = docker
        self._task = task
        self._stop = stop
        self._patience = patience  # seconds, for what is done at once
        self._container: DockerContainer | None = None

    async def live(self) -> CommandEnd:
        """Raises NeverRan, Lost, DockerError, TimeoutError."""
        await self._docker.version()
        await self._fetch_image()
        self.doing = "the container was created"
        async with asyncio.timeout(self._patience):
            container = self._container = await self._created()
        self.doing = "the working folder was copied into the container"
        with tempfile.TemporaryFile(dir=Path(self._task.folder).parent) as file:
            await asyncio.to_thread(pack, Path(self._task.folder), file, FOLDER, _owner(self._task))
            file.seek(0)
            await container.put_archive("/", _chunks(file))
        self.doing = "the container was started"
        try:
            async with container.attach(stdout=True, stderr=True, logs=True) as output:
                async with asyncio.timeout(self._patience):
                    await container.start()
                self.started = True
                self.doing = "the command ran"
                while (message := await output.read_out()) is not None:
                    pipe = sys.stderr if message.stream == 2 else sys.stdout
                    pipe.buffer.write(message.data)
                    pipe.flush()
        except aiodocker.DockerError as error:
            if self.started or error.status == _UNREACHABLE:
                raise
            raise NeverRan(f"the container can't be started: {_line(error)}") from None
        return await self._ended(container)

    async def end_when_told(self, living: "asyncio.Task[CommandEnd]") -> None:
        """SIGTERM to the command, once; before it runs there is nothing to be gentle with."""
        await self._stop.wait()
        if not self.started or self._container is None:
            living.cancel()
            return
        with contextlib.suppress(aiodocker.DockerError):  # it ended meanwhile, or `live` meets the same
            await self._container.kill(signal="SIGTERM")

    async def _fetch_image(self) -> None:
        image = _image(self._task)
        policy = str(self._task.properties.get("pullPolicy") or "IF_NOT_PRESENT").upper()
        self.doing = f"the image {image} was looked for"
        if policy != "ALWAYS" and await self._has(image):
            return
        if policy == "NEVER":
            raise NeverRan(
                f"the image {image} is not on this machine, and pullPolicy is NEVER: pull it there, or let it be pulled"
            )
        self.doing = f"the image {image} was pulled"
        print(f"pulling the image {image}", flush=True)
        try:
            async for _ in self._docker.images.pull(image, auth=registry_auth(image, os.environ), stream=True):
                pass
        except aiodocker.DockerError as error:
            if error.status == _UNREACHABLE:
                raise
            raise NeverRan(
                f"the image {image} can't be pulled: {_line(error)}. Check its name, that its registry can be reached "
                "from the worker, and that the worker's user may pull it (docker login)"
            ) from None
        if not await self._has(image):
            raise NeverRan(f"the image {image} was pulled, and is not there: the pull was broken off")

    async def _has(self, image: str) -> bool:
        try:
            async with asyncio.timeout(self._patience):
                await self._docker.images.inspect(image)
        except aiodocker.DockerError as error:
            if error.status != 404:
                raise
            return False
        return True

    async def _created(self) -> DockerContainer:
        config = container_config(self._task)
        name = str(self._task.settings["container"])
        # A first process that hands on SIGTERM: the kernel keeps it from a shell that is the first itself. Podman
        # has one only with catatonit installed; without it a kill waits for the end of the grace.
        Path(self._task.settings["begun"]).touch()
        with_init = {**config, "HostConfig": {**config["HostConfig"], "Init": True}}
        try:
            try:
                return await self._docker.containers.create(with_init, name=name)
            except aiodocker.DockerError as error:
                if "init" not in error.message:
                    raise
                return await self._docker.containers.create(config, name=name)
        except aiodocker.DockerError as error:
            if error.status == _UNREACHABLE:
                raise
            raise NeverRan(f"the container can't be created: {_line(error)}") from None

    async def _ended(self, container: DockerContainer) -> CommandEnd:
        try:
            code = int((await container.wait())["StatusCode"])
            async with asyncio.timeout(self._patience):
                state = (await container.show())["State"]
        except aiodocker.DockerError as error:
            if error.status != 404:
                raise
            raise Lost("the container was removed by somebody else while its command ran") from None
        if self._stop.is_set():
            return CommandEnd(code)
        if self._task.output_files:
            self.doing = "the output files were copied out of the container"
            try:
                await self._copy_back(container)
            except (OSError, ValueError, tarfile.TarError) as error:
                return CommandEnd(code, "OUTPUT_FILES_FAILED", f"the output files can't be copied: {error}")
        limit = check.structured(self._task.properties.get("memory"))
        if code == KILLED and (state.get("OOMKilled") or limit):
            sure = "it used" if state.get("OOMKilled") else "most likely it used"
            allowed = f"its limit of {limit['memory']}" if limit else "the machine had"
            why = f"the command was killed (exit code {code}): {sure} more memory than {allowed}"
            return CommandEnd(code, "OUT_OF_MEMORY", f"{why}. Raise memory.memory of its taskRunner, or use less")
        return CommandEnd(code)

    async def _copy_back(self, container: DockerContainer) -> None:
        folder = Path(self._task.folder)
        with tempfile.TemporaryFile(dir=folder.parent) as file:
            async with self._archive(container) as chunks:
                async for chunk in chunks:
                    await asyncio.to_thread(file.write, chunk)
            file.seek(0)
            await asyncio.to_thread(unpack, file, folder, FOLDER, self._task.output_files)

    @contextlib.asynccontextmanager
    async def _archive(self, container: DockerContainer) -> AsyncIterator[AsyncIterator[bytes]]:
        """The folder in the container, as tar. (DockerContainer.get_archive keeps all of it in memory.)"""
        path = f"containers/{container.id}/archive"
        async with self._docker._query(path, params={"path": f"/{FOLDER}"}) as answer:
            yield answer.content.iter_chunked(_CHUNK)


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(file.read, _CHUNK):
        yield chunk


async def _knock(socket: str, patience: float) -> None:
    """Say what is wrong with a socket that can't be used. Raises NeverRan."""
    try:
        async with asyncio.timeout(patience):
            _, writer = await asyncio.open_unix_connection(socket)
    except FileNotFoundError:
        why = f"there is no socket {socket} on this worker: start Docker there, or Podman's service"
    except PermissionError:
        why = f"the worker's user may not use the socket {socket}: let it, such as by the group docker"
    except ConnectionRefusedError:
        why = f"nobody listens at the socket {socket} of this worker: start Docker there, or Podman's service"
    except TimeoutError:
        why = f"the socket {socket} of this worker takes no connection: look whether Docker hangs"
    except OSError as error:
        why = f"the socket {socket} of this worker can't be used: {error.strerror}"
    else:
        writer.close()
        return
    raise NeverRan(f"{why}; or name another by the worker's --docker-socket or FARHAND_DOCKER_SOCKET")


async def _watch(docker: aiodocker.Docker, socket: str, patience: float) -> None:
    """Ends by an exception, when Docker is away."""
    while True:
        try:
            async with asyncio.timeout(patience):
                await docker.version()
        except TimeoutError:
            raise TimeoutError(_silent(socket, patience)) from None
        except aiodocker.DockerError as error:
            raise ConnectionError(_said(error, socket)) from None
        await asyncio.sleep(patience / 2)


def _broken(doing: str, started: bool, why: str) -> NeverRan | Lost:
    if not started:
        return NeverRan(f"{why}, while {doing}")
    return Lost(f"{why}, while {doing}; what became of the command is lost, and its container is removed")


def _silent(socket: str, patience: float) -> str:
    return f"Docker at {socket} has not answered for {format_duration(patience)}"


def _said(error: aiodocker.DockerError, socket: str) -> str:
    if error.status == _UNREACHABLE:
        return f"the connection to Docker at {socket} broke"
    return f"Docker at {socket} answered {error.status}: {_line(error)}"


def _line(error: aiodocker.DockerError) -> str:
    return " ".join(error.message.split())[:1000]


def _image(task: Task) -> str:
    return task.image or str(task.properties["image"])


def _owner(task: Task) -> tuple[int, int]:
    """Whose the files are: a user that is a number can be told from here, and may then change their modes too."""
    user, _, group = str(task.properties.get("user") or "").partition(":")
    return (int(user) if user.isdecimal() else 0, int(group) if group.isdecimal() else 0)


def registry_auth(image: str, environ: Mapping[str, str]) -> str | None:
    """What `docker login` left for the image's registry in the worker's config.json; None: nothing."""
    registry, slash, _ = image.partition("/")
    folder = environ.get("DOCKER_CONFIG") or str(Path(environ.get("HOME", "/")) / ".docker")
    if not slash:
        return None
    try:
        found = json.loads((Path(folder) / "config.json").read_text())["auths"][registry]["auth"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None
