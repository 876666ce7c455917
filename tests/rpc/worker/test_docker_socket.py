"""A Docker that is not there, refuses, hangs or vanishes: the task says so, and the worker goes on."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from farhand.api.types.v1 import outcome_pb2
from farhand.api.worker.v1 import session_pb2 as pb
from farhand.worker import undo_notes
from farhand.worker.runners import docker
from tests.fixtures.containers import a_container_job
from tests.fixtures.fake_docker import HANG, FakeDocker
from tests.fixtures.fake_scheduler import FakeScheduler, FakeSession, a_job

FAILED = outcome_pb2.OUTCOME_STATE_FAILED


async def a_session(fake_scheduler: FakeScheduler, at: Path, timeout: float = 60.0) -> FakeSession:
    await fake_scheduler.run_worker(docker_socket=str(at), docker_timeout=timeout)
    return await fake_scheduler.session()


async def fails(session: FakeSession, fence: int = 1, **properties: Any) -> pb.Result:
    """The result of a container's job that failed, and that the worker runs another one afterwards."""
    result = await session.result("job-1", fence)
    assert result.outcome.state == FAILED
    session.assign(a_job("job-2", "true"))
    assert (await session.result("job-2")).outcome.state == outcome_pb2.OUTCOME_STATE_SUCCESS
    return result


def a_job_in_a_container(**properties: Any) -> pb.Assignment:
    return a_job("job-1", properties=a_container_job(commands=["true"], **properties))


async def test_one_that_is_not_there(fake_scheduler: FakeScheduler, tmp_path: Path) -> None:
    session = await a_session(fake_scheduler, tmp_path / "docker.sock")
    session.assign(a_job_in_a_container())
    result = await fails(session)
    assert result.outcome.reason == "START_FAILED"
    assert result.outcome.message.startswith(f"there is no socket {tmp_path}/docker.sock on this worker")
    assert await fake_scheduler.log_reaches("job-1", result.log_end_offset) == [result.outcome.message]


@pytest.mark.parametrize(("hangs", "why"), [(True, "has not answered for 3s"), (False, "broke")])
async def test_one_that_goes_away_while_a_command_runs_fails_that_task_and_is_cleaned_up_when_it_is_back(
    fake_scheduler: FakeScheduler,
    fake_docker: FakeDocker,
    monkeypatch: pytest.MonkeyPatch,
    hangs: bool,
    why: str,
) -> None:
    monkeypatch.setattr(undo_notes, "PAUSE", 0.05)
    monkeypatch.setattr(docker, "LONGEST_UNDO", 0.3)
    session = await a_session(fake_scheduler, fake_docker.socket, 3.0 if hangs else 60.0)
    session.assign(a_job_in_a_container())
    assert await fake_scheduler.log_reaches("job-1", 1) == ["up"]
    if hangs:
        fake_docker.faults.update(version=HANG, delete=HANG)
    else:
        await fake_docker.vanish()
    result = await fails(session)
    assert result.outcome.reason == "RUNNER_FAILED"
    assert why in result.outcome.message and "while the command ran" in result.outcome.message
    lines = await fake_scheduler.log_reaches("job-1", result.log_end_offset)
    assert any("could not be removed" in line and "tries again until it is" in line for line in lines), lines
    if not hangs:
        await fake_docker.open()
    fake_docker.faults.clear()
    fake_docker.calls.clear()
    await fake_docker.called("delete")
    await until_no_note_is_left(fake_scheduler)


async def until_no_note_is_left(fake_scheduler: FakeScheduler) -> None:
    async with asyncio.timeout(15):
        while list(fake_scheduler.folder.glob("*/undo/*")):
            await asyncio.sleep(0.01)
