"""What `--worker` accepts, how workers are named, and how a command line is printed for the user's place."""

import os
import sys
from pathlib import Path

import pytest

from farhand.cli import standalone_hints
from farhand.cli.failure import CommandFailed
from farhand.cli.standalone_mesh import WorkerPlan, check_port, passed_on, worker_names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu", WorkerPlan("gpu")),
        ("gpu:4", WorkerPlan("gpu", 4)),
        ("_default", WorkerPlan("")),
        ("_default:10000", WorkerPlan("", 10_000)),
    ],
)
def test_a_worker_is_written_as_its_group_and_slots(text: str, expected: WorkerPlan) -> None:
    assert WorkerPlan.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", ":4", "gpu:", "gpu:0", "gpu:10001", "gpu:two", "gpu:-1", "g p u", "-gpu", "a" * 101]
)
def test_a_wrong_worker_is_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(ValueError, match=r"GROUP"):
        WorkerPlan.parse(text)


def test_workers_of_one_group_get_names_that_no_group_can_have() -> None:
    plans = [WorkerPlan("gpu"), WorkerPlan(), WorkerPlan("gpu", 2), WorkerPlan("gpu-2")]
    named = worker_names(plans)
    assert list(named) == ["gpu", "_default", "gpu.2", "gpu-2"]
    assert list(named.values()) == plans


def test_services_get_what_is_the_machine_s_and_nothing_that_is_meant_for_one_of_them() -> None:
    heeded = {"PATH": "/bin", "FARHAND_DOCKER_SOCKET": "/run/podman.sock", "FARHAND_LOG_LEVEL": "debug"}
    assert passed_on({**heeded, "FARHAND_LISTEN": "0.0.0.0:1", "FARHAND_TOKEN": "secret"}) == heeded


def test_any_port_is_never_in_use() -> None:
    check_port("registry", 0)


def test_a_port_that_is_not_ours_to_take_is_a_clear_error() -> None:
    with pytest.raises(CommandFailed, match=r"can't listen on 127\.0\.0\.1:\d+"):
        import socket

        with socket.create_server(("127.0.0.1", 0)) as taken:
            check_port("registry", taken.getsockname()[1])


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An executable `farhand` in a virtual environment below the current folder, not on the path."""
    file = tmp_path / "project" / ".venv" / "bin" / "farhand"
    file.parent.mkdir(parents=True)
    file.touch(mode=0o755)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr(sys, "argv", [str(file)])
    monkeypatch.setenv("PATH", os.defpath)
    return file


def test_a_program_that_is_not_on_the_path_is_called_by_its_place(program: Path) -> None:
    assert standalone_hints.own_name() == ".venv/bin/farhand"


def test_a_program_on_the_path_is_called_by_its_name(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(program.parent))
    assert standalone_hints.own_name() == "farhand"


def test_another_program_of_the_same_name_on_the_path_is_not_ours(
    program: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "farhand").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert standalone_hints.own_name() == ".venv/bin/farhand"


def test_a_program_elsewhere_is_called_by_its_whole_path(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert standalone_hints.own_name() in (str(program), os.path.relpath(program))
    elsewhere = program.parents[3] / "elsewhere with a space"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert standalone_hints.own_name() == str(program)


def test_a_command_that_needs_no_addresses_has_none(program: Path) -> None:
    assert standalone_hints.command(None, "run -- uname -a") == ".venv/bin/farhand run -- uname -a"
