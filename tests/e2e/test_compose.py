"""compose.yml, as far as it can be tried without an engine.

It is checked against the compose schema, and each of our services' very command line
and environment is run here: names of hosts become loopback and a free port, folders of
containers become folders of the test, PostgreSQL and Jaeger become the tests' own.
"""

import asyncio
import importlib.resources
import json
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import check_jsonschema
import jsonschema
import pytest
import yaml

from tests.fixtures.mesh import Process
from tests.fixtures.otlp import OtlpReceiver

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "farhand"}


def test_it_keeps_the_schema_of_compose() -> None:
    folder = importlib.resources.files(check_jsonschema) / "builtin_schemas" / "vendor"
    schema = json.loads((folder / "compose-spec.json").read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [f"{list(error.path)}: {error.message}" for error in validator.iter_errors(COMPOSE)] == []


def test_it_has_every_piece_of_the_mesh() -> None:
    assert set(SERVICES) >= {"postgres", "registry", "scheduler-1", "scheduler-2", "worker", "worker-gpu", "jaeger"}
    assert SERVICES["postgres"]["image"].startswith("postgres:18")
    assert any(port.endswith(":16686") for port in SERVICES["jaeger"]["ports"])


def test_whoever_is_waited_for_can_be() -> None:
    for service in SERVICES.values():
        for name, condition in service.get("depends_on", {}).items():
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[name]
            if condition["condition"] == "service_completed_successfully":
                assert SERVICES[name]["restart"] == "no"


def test_all_that_is_mounted_or_joined_is_declared() -> None:
    for service in SERVICES.values():
        assert {volume.split(":")[0] for volume in service.get("volumes", ())} <= set(COMPOSE["volumes"])
        assert set(service.get("networks", ())) <= set(COMPOSE["networks"])


def test_what_runs_for_ever_starts_again_by_itself() -> None:
    once = {name for name, service in SERVICES.items() if service.get("restart") == "no"}
    assert once == {"certs", "groups", "farhand"}
    assert all(SERVICES[name]["restart"] == "unless-stopped" for name in SERVICES.keys() - once)


def test_no_worker_can_reach_the_database() -> None:
    for name in ("worker", "worker-gpu"):
        assert not set(SERVICES[name]["networks"]) & set(SERVICES["postgres"]["networks"])


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@dataclass
class Engine:
    """Does with a service what a container engine would, as a process of this machine."""

    folder: Path
    database_url: str
    otlp: OtlpReceiver
    ports: Mapping[str, int]  # of registry, scheduler-1 and scheduler-2

    def root(self, name: str) -> Path:
        """The root of a container's files, with its volumes mounted."""
        root = self.folder / "containers" / name
        for volume in SERVICES[name].get("volumes", ()):
            source, target = volume.split(":")[:2]
            (self.folder / "volumes" / source).mkdir(parents=True, exist_ok=True)
            mount = root / target.lstrip("/")
            mount.parent.mkdir(parents=True, exist_ok=True)
            if not mount.is_symlink():
                mount.symlink_to(self.folder / "volumes" / source)
        (root / "var/lib/farhand").mkdir(parents=True, exist_ok=True)
        return root

    def local(self, name: str, text: str) -> str:
        """A word of compose.yml as it is on this machine."""
        text = text.replace("$$", "$")
        if text.startswith("postgresql://"):
            return self.database_url
        if text == "http://jaeger:4317":
            return self.otlp.endpoint
        text = re.sub(r"(?<![\w.])/(certs|var/lib/farhand)\b", lambda match: f"{self.root(name)}/{match[1]}", text)
        text = re.sub(r"\b(registry|scheduler-[12]):740[12]", lambda match: f"127.0.0.1:{self.ports[match[1]]}", text)
        return re.sub(r"\b(0\.0\.0\.0|localhost):740[12]", lambda match: f"{match[1]}:{self.ports[name]}", text)

    def process(self, name: str, *arguments: str) -> Process:
        """The service; arguments replace its command."""
        service = SERVICES[name]
        command = [*service.get("entrypoint", ["farhand"]), *(arguments or service.get("command", ()))]
        return self._process(name, command)

    def health_check(self, name: str) -> Process:
        """Its health check."""
        kind, *command = SERVICES[name]["healthcheck"]["test"]
        assert kind == "CMD"
        return self._process(name, command)

    def _process(self, name: str, command: list[str]) -> Process:
        environment = {key: self.local(name, value) for key, value in SERVICES[name].get("environment", {}).items()}
        environment |= {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "HOME": f"{self.root(name)}/var/lib/farhand"}
        program, *rest = [self.local(name, word) for word in command]
        if program == "farhand":
            program = str(BIN / program)
        return Process(name, [program, *rest], environment, self.folder / f"{name}.log")


@pytest.fixture
async def engine(tmp_path: Path, database_url: str, otlp: OtlpReceiver) -> Engine:
    names = ("registry", "scheduler-1", "scheduler-2")
    return Engine(tmp_path, database_url, otlp, dict(zip(names, free_ports(len(names)), strict=True)))


@pytest.fixture
async def running() -> AsyncIterator[list[Process]]:
    """Processes that are killed at the end."""
    processes: list[Process] = []
    yield processes
    for process in processes:
        if process.running:
            process.kill()
            await process.ended()


async def completes(process: Process) -> str:
    """What it wrote; it must exit 0."""
    await process.launch()
    assert await process.ended() == 0, process.tail()
    return process.tail()


async def test_every_service_runs_by_its_very_command_line(engine: Engine, running: list[Process]) -> None:
    async def start(name: str) -> None:
        process = engine.process(name)
        running.append(process)
        await process.start()
        if "healthcheck" in SERVICES[name]:
            await completes(engine.health_check(name))

    await completes(engine.process("certs"))
    certificate = engine.root("registry") / "certs/ca.crt"
    made = certificate.read_bytes()
    await completes(engine.process("certs"))
    assert certificate.read_bytes() == made, "a second start made other certificates"

    await start("registry")
    await completes(engine.process("groups"))
    await completes(engine.process("groups"))
    await asyncio.gather(start("scheduler-1"), start("scheduler-2"))
    await asyncio.gather(start("worker"), start("worker-gpu"))
    assert {process.name for process in running} | {"certs", "groups", "farhand"} == set(OURS)

    for group in ("_default", "gpu"):
        log = await completes(engine.process("farhand", "run", "--worker-group", group, "--", "echo", f"on {group}"))
        assert f"on {group}" in log
    await engine.otlp.arrive(lambda spans: {"submit", "queue wait", "run", "record"} <= {span.name for span in spans})


async def test_a_worker_has_no_token_but_its_own(engine: Engine) -> None:
    await completes(engine.process("certs"))
    files = {name: sorted(path.name for path in (engine.root(name) / "certs").iterdir()) for name in OURS}
    assert files["worker"] == ["ca.crt", "worker.token"]
    assert files["worker-gpu"] == ["ca.crt", "worker-gpu.token"]
    assert "server.key" not in files["farhand"]
    assert not [name for name, held in files.items() if "ca.key" in held]


async def test_certificates_that_were_made_by_half_are_made_anew(engine: Engine) -> None:
    half = engine.root("registry") / "certs/ca.crt"
    half.write_text("half of a certificate")
    await completes(engine.process("certs"))
    assert "END CERTIFICATE" in half.read_text()
