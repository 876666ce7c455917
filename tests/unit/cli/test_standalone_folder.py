"""The data folder of a standalone has one owner, and outlives a killed one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from farhand.cli.failure import CommandFailed
from farhand.cli.standalone_folder import DataFolder


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that goes on until somebody ends it."""
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:
        yield process
        process.kill()


def no_notice(text: str) -> None:
    raise AssertionError(f"unexpected notice: {text}")


def test_a_second_owner_is_refused_and_told_the_first(tmp_path: Path) -> None:
    with (
        DataFolder.hold(tmp_path / "data"),
        pytest.raises(CommandFailed, match=f"process {os.getpid()}"),
        DataFolder.hold(tmp_path / "data"),
    ):
        pass


def test_a_folder_that_was_given_up_can_be_owned_again(tmp_path: Path) -> None:
    for _ in range(2):
        with DataFolder.hold(tmp_path / "data"):
            pass


def test_the_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    with DataFolder.hold(tmp_path / "data"):
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_can_not_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CommandFailed, match="can't be used"), DataFolder.hold(tmp_path / "file" / "data"):
        pass


def test_what_a_killed_owner_left_running_is_ended(tmp_path: Path, sleeper: "subprocess.Popen[bytes]") -> None:
    with DataFolder.hold(tmp_path) as folder:
        folder.remember("registry", sleeper.pid)
    notices: list[str] = []
    with DataFolder.hold(tmp_path) as folder:
        folder.end_leftovers(notices.append)
        assert sleeper.wait(10) == -signal.SIGTERM
        assert notices == [f"the registry of an earlier run (process {sleeper.pid}) still ends; waiting for it"]
        folder.end_leftovers(no_notice)


def test_a_stranger_that_got_the_process_id_is_left_alone(tmp_path: Path, sleeper: "subprocess.Popen[bytes]") -> None:
    with DataFolder.hold(tmp_path) as folder:
        folder.remember("registry", sleeper.pid)
        roll = json.loads((tmp_path / "services.json").read_text())
        pid, identity = roll["registry"]
        (tmp_path / "services.json").write_text(json.dumps({"registry": [pid, identity + "0"]}))
        folder.end_leftovers(no_notice)
    assert sleeper.poll() is None


def test_what_was_left_by_owners_that_ended_well_is_nothing(tmp_path: Path, sleeper: "subprocess.Popen[bytes]") -> None:
    with DataFolder.hold(tmp_path) as folder:
        folder.remember("registry", sleeper.pid)
        folder.forget()
    with DataFolder.hold(tmp_path) as folder:
        folder.end_leftovers(no_notice)
    assert sleeper.poll() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"registry": 7}', '{"registry": ["x", "y"]}'])
def test_a_torn_note_of_services_is_no_obstacle(tmp_path: Path, text: str) -> None:
    (tmp_path / "services.json").write_text(text)
    with DataFolder.hold(tmp_path) as folder:
        folder.end_leftovers(no_notice)
