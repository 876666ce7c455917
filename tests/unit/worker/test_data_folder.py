"""The folder of a worker."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from farhand.runtime.service import StartupError
from farhand.worker import data_folder
from farhand.worker.data_folder import DataFolder, remove_tree


def test_a_folder_in_use_is_refused_with_the_pid(tmp_path: Path) -> None:
    in_use = pytest.raises(StartupError, match=f"pid {os.getpid()}")
    with DataFolder.open(tmp_path / "w", ""), in_use:
        DataFolder.open(tmp_path / "w", "")
    DataFolder.open(tmp_path / "w", "").close()


def test_without_a_wish_the_first_free_folder_of_the_group_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with (
        DataFolder.open(None, "gpu") as first,
        DataFolder.open(None, "gpu") as second,
        DataFolder.open(None, "") as third,
    ):
        names = [folder.path.relative_to(tmp_path / "farhand" / "workers") for folder in (first, second, third)]
    assert [str(name) for name in names] == ["gpu-1", "gpu-2", "_default-1"]


def test_a_folder_that_cant_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match="can't be used"):
        DataFolder.open(tmp_path / "file" / "w", "")


def test_the_lock_of_a_dead_worker_is_waited_for_while_its_warden_kills(tmp_path: Path) -> None:
    """A warden holds the lock of its dead worker for a moment: here a child that inherited it."""
    folder = DataFolder.open(tmp_path / "w", "")
    (tmp_path / "w" / "lock").write_text("4194304\n")  # above the largest pid: nobody
    code = "import sys, time; print(flush=True); time.sleep(0.3)"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=folder.lock, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    folder.close()
    DataFolder.open(tmp_path / "w", "").close()
    assert child.wait() == 0
    child.stdout.close()


def test_a_worker_keeps_its_name_over_restarts(tmp_path: Path) -> None:
    with DataFolder.open(tmp_path / "w", "") as folder:
        name = folder.worker_id(None)
    with DataFolder.open(tmp_path / "w", "") as folder:
        assert folder.worker_id(None) == name
        assert folder.worker_id("mine") == "mine"
        assert folder.worker_id(None) == "mine"


def test_a_worker_knows_the_dead_of_this_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_folder, "boot_id", lambda: "boot-1")
    with DataFolder.open(tmp_path / "w", "") as folder:
        first, dead = folder.enter()
        assert dead == []
        second, dead = folder.enter()
        assert dead == [first.id]
        _, dead = folder.enter()
        assert dead == [first.id, second.id]


def test_a_worker_of_an_earlier_boot_is_not_known_to_be_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder may lie on a disk that two machines share; the other one's jobs may live."""
    monkeypatch.setattr(data_folder, "boot_id", lambda: "boot-1")
    with DataFolder.open(tmp_path / "w", "") as folder:
        folder.enter()
        monkeypatch.setattr(data_folder, "boot_id", lambda: "boot-2")
        assert folder.enter()[1] == []
        monkeypatch.setattr(data_folder, "boot_id", lambda: "")
        folder.enter()
        assert folder.enter()[1] == []


def test_once_told_the_dead_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_folder, "boot_id", lambda: "boot-1")
    with DataFolder.open(tmp_path / "w", "") as folder:
        folder.enter()
        mine, _ = folder.enter()
        folder.forget_all_but(mine)
        assert folder.enter()[1] == [mine.id]


def test_a_torn_line_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_folder, "boot_id", lambda: "boot-1")
    with DataFolder.open(tmp_path / "w", "") as folder:
        first, _ = folder.enter()
        with (tmp_path / "w" / "incarnations").open("a") as file:
            file.write('{"incarnation": "ab')
        assert folder.enter()[1] == [first.id]


def test_working_folders_of_earlier_processes_are_removed_and_new_ones_stay(tmp_path: Path) -> None:
    with DataFolder.open(tmp_path / "w", "") as folder:
        (folder.jobs / "old").mkdir()
    with DataFolder.open(tmp_path / "w", "") as folder:
        (folder.jobs / "new").mkdir()
        folder.remove_leftovers()
        assert [path.name for path in folder.jobs.iterdir()] == ["new"]


def test_a_folder_that_a_job_locked_up_is_removed(tmp_path: Path) -> None:
    inner = tmp_path / "job" / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    (tmp_path / "job" / "link").symlink_to("/etc")
    for folder in (inner, inner.parent):
        folder.chmod(0)
    remove_tree(tmp_path / "job")
    assert not (tmp_path / "job").exists()
    assert Path("/etc").exists()
