"""What the warden reads from /proc, on this test's own children."""

import errno
import itertools
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from farhand.worker.warden import tree

PATIENCE = 60.0


@pytest.fixture
def family() -> Iterator[subprocess.Popen[str]]:
    """A shell with two sleeping children; all three carry MARK."""
    family = subprocess.Popen(
        ["/bin/sh", "-c", "sleep 1000 & sleep 1000 & echo there; wait"],
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": os.defpath, "MARK": uuid.uuid4().hex},
        start_new_session=True,
    )
    assert family.stdout is not None
    assert family.stdout.readline() == "there\n"
    children = tree.children(family.pid)
    give_up = time.monotonic() + PATIENCE
    while [Path(f"/proc/{pid}/comm").read_text() for pid in children] != ["sleep\n"] * 2:  # both came to their exec
        assert time.monotonic() < give_up
        time.sleep(0.005)
    yield family
    os.killpg(family.pid, signal.SIGKILL)
    family.wait()
    family.stdout.close()


def test_descendants_come_parents_first(family: subprocess.Popen[str]) -> None:
    found = tree.descendants(os.getpid())
    ours = [process for process in found if process.group == family.pid]
    assert [process.parent for process in ours] == [os.getpid(), family.pid, family.pid]
    assert tree.descendants(os.getpid(), apart_from=[family.pid]) == [p for p in found if p.group != family.pid]


def test_a_child_that_moves_up_during_the_look_is_found_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([{1: [2], 2: []}, {1: [3], 3: []}, {1: [3], 3: []}])  # 2, the parent of 3, ended in between
    now: dict[int, list[int]] = {}

    def children(pid: int) -> list[int]:
        if pid == 1:
            now.update(next(looks))
        return now[pid]

    monkeypatch.setattr(tree, "_lists_children", lambda pid: True)
    monkeypatch.setattr(tree, "children", children)
    monkeypatch.setattr(tree, "look", lambda pid: tree.Process(pid, parent=1, group=pid, started=0))
    assert [process.pid for process in tree.settled(1)] == [3]


def test_a_tree_that_never_settles_is_looked_at_no_more_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = itertools.count(2)
    monkeypatch.setattr(tree, "_lists_children", lambda pid: True)
    monkeypatch.setattr(tree, "children", lambda pid: [next(numbers)] if pid == 1 else [])
    monkeypatch.setattr(tree, "look", lambda pid: tree.Process(pid, parent=1, group=pid, started=0))
    assert len(tree.settled(1)) == 1


def test_a_kernel_that_lists_no_children_gives_the_same_tree(
    family: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = tree.descendants(family.pid)
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    monkeypatch.setattr(tree, "children", lambda pid: pytest.fail("this kernel does not list them"))
    assert set(tree.descendants(family.pid)) == set(listed)
    assert len(listed) == 2


def test_a_name_with_parentheses_and_blanks_is_read_over(tmp_path: Path) -> None:
    odd = tmp_path / "a) S 1 (b"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([str(odd), "1000"]) as process:
        found = tree.look(process.pid)
        process.kill()
    assert found is not None
    assert found.parent == os.getpid()


def test_a_number_that_now_belongs_to_another_process_is_not_signalled(family: subprocess.Popen[str]) -> None:
    now = tree.look(family.pid)
    assert now is not None
    earlier = tree.Process(now.pid, now.parent, now.group, now.started - 1)
    assert earlier != now
    tree.send(earlier, signal.SIGKILL)
    assert family.poll() is None
    tree.send(now, signal.SIGKILL)
    assert family.wait() == -signal.SIGKILL
    tree.send(now, signal.SIGKILL)  # gone: nothing


def test_signals_reach_their_process_on_a_kernel_without_pidfds(
    family: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    now = tree.look(family.pid)
    assert now is not None
    tree.send(tree.Process(now.pid, now.parent, now.group, now.started - 1), signal.SIGKILL)
    assert family.poll() is None
    tree.send(now, signal.SIGKILL)
    assert family.wait() == -signal.SIGKILL


def test_marked_finds_processes_by_a_variable_of_their_environment(family: subprocess.Popen[str]) -> None:
    mark = Path(f"/proc/{family.pid}/environ").read_text().partition("MARK=")[2].partition("\0")[0]
    assert len(list(tree.marked("MARK", [mark]))) == 3
    assert list(tree.marked("MARK", [mark[:-1]])) == []
    assert list(tree.marked("MARK", [])) == []


def test_a_process_that_is_gone_is_none() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert tree.look(process.pid) is None
    assert tree.children(process.pid) == []
