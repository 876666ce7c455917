"""Taking back what a program began elsewhere: again until it is done, and not for ever."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from farhand.worker.process_control import Undo
from farhand.worker.undo_notes import UndoNotes
from farhand.worker.warden import undo
from tests.fixtures.fake_docker import CLOSE, HANG, FakeDocker, Fault


def a_request(socket: Path, seconds: float = 60.0, begun: str = "") -> undo.Undo:
    return undo.Undo(str(socket), "DELETE", "/containers/c?force=true", begun, seconds)


async def carry_out(request: undo.Undo, *, cut_off: bool = False) -> str:
    return await asyncio.to_thread(undo.carry_out, request, cut_off=cut_off)


@pytest.mark.parametrize(
    ("fault", "cut_off", "times"), [(None, True, 1), ((404, "none"), False, 1), ((404, "none"), True, 3)]
)
async def test_what_is_not_there_is_looked_for_again_only_where_it_may_be_yet(
    fake_docker: FakeDocker, fault: Fault | None, cut_off: bool, times: int
) -> None:
    if fault is not None:
        fake_docker.faults["delete"] = fault
    assert await carry_out(a_request(fake_docker.socket), cut_off=cut_off) == ""
    assert fake_docker.calls == ["delete"] * times


async def test_a_refusal_is_not_the_end_of_it(fake_docker: FakeDocker) -> None:
    fake_docker.faults["delete"] = (409, "removal is in progress")
    doing = asyncio.create_task(carry_out(a_request(fake_docker.socket)))
    await fake_docker.called("delete")
    fake_docker.faults.clear()
    assert await doing == ""
    assert len(fake_docker.calls) >= 2


@pytest.mark.parametrize(
    ("fault", "why"),
    [(HANG, "does not answer"), (CLOSE, "gave no answer"), ((500, "busy"), 'answered 500: {"message": "busy"}')],
)
async def test_when_its_time_is_over_it_says_why(fake_docker: FakeDocker, fault: Fault, why: str) -> None:
    fake_docker.faults["delete"] = fault
    assert await carry_out(a_request(fake_docker.socket, 0.3)) == f"{fake_docker.socket} {why}"


async def test_a_socket_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert await carry_out(a_request(tmp_path / "none", 0.1)) == f"{tmp_path}/none: No such file or directory"


async def test_only_what_was_begun_is_taken_back_by_the_next_worker(fake_docker: FakeDocker, tmp_path: Path) -> None:
    notes = UndoNotes(tmp_path)

    def note(run: str, **changes: Any) -> None:
        about: dict[str, Any] = {"what": "it", "method": "DELETE", "seconds": 0.1, "socket": str(fake_docker.socket)}
        notes.write(run, Undo(**{**about, "target": f"/containers/{run}", "begun": str(tmp_path / run), **changes}))

    for run in ("begun", "not-begun", "ended"):
        note(run)
    (tmp_path / "begun").touch()
    notes.left("ended")  # its folder is gone, but it had begun
    (tmp_path / "torn.json").write_text("{")
    fake_docker.faults["delete"] = (500, "busy")
    again = UndoNotes(tmp_path)
    assert not await asyncio.to_thread(again.carry_out)
    fake_docker.faults.clear()
    fake_docker.calls.clear()
    assert await asyncio.to_thread(again.carry_out)
    assert fake_docker.calls == ["delete", "delete"]
    assert not list(tmp_path.glob("*.json"))
