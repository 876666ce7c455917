"""Servers to talk to, and a way to call the command line in this process."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from farhand.cli.__main__ import main
from tests.unit.cli.scripted_servers import ScriptedServers


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No setting of the machine reaches a test; gives the folder of the profile file."""
    import os

    for name in os.environ:
        if name.startswith(("FARHAND_", "OTEL_")) or name == "TRACEPARENT":
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config" / "farhand"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServers]:
    """A registry and a scheduler, and an environment that points there."""
    servers = ScriptedServers()
    servers.start()
    monkeypatch.setenv("FARHAND_REGISTRY", servers.address)
    monkeypatch.setenv("FARHAND_SCHEDULER", servers.address)
    yield servers
    servers.stop()


@dataclass
class Result:
    """What a command line came to."""

    code: int
    out: str
    err: str


Farhand = Callable[..., Result]


@pytest.fixture
def farhand(capsys: pytest.CaptureFixture[str]) -> Farhand:
    """farhand("job", "get", "x")."""

    def call(*arguments: str) -> Result:
        code = main(list(arguments))
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return call


@pytest.fixture
def unused_address() -> str:
    """An address at which nothing listens."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
