"""What is said beside a job's log while it waits, and how long one waits between attempts."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from farhand.api.scheduler.v1 import job_pb2
from farhand.api.scheduler.v1.job_service_pb2 import (
    WAIT_REASON_NO_WORKER,
    WAIT_REASON_SLOTS_BUSY,
    ExplainJobResponse,
    WatchJobsResponse,
)
from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceStub
from farhand.cli.backoff import Backoff
from farhand.cli.follow import Follower
from farhand.cli.notices import Notices
from farhand.kernel.errors import ShuttingDown
from farhand.kernel.names import not_found
from farhand.runtime.grpc_channel import make_channel
from farhand.runtime.settings import DialSettings
from tests.unit.cli.builders import JOB_ID, a_job
from tests.unit.cli.scripted_servers import ScriptedServers

SUCCESS = ExplainJobResponse(job=a_job(job_pb2.JOB_STATE_SUCCESS))
RUNNING = ExplainJobResponse(job=a_job(job_pb2.JOB_STATE_RUNNING))
NO_WORKER = ExplainJobResponse(job=a_job(), reason=WAIT_REASON_NO_WORKER, message="No worker.")


async def narrated(servers: ScriptedServers, quiet: bool = False) -> None:
    """Narrate job JOB_ID to its end, with next to no waiting."""
    async with make_channel(servers.address, DialSettings()) as channel:
        follower = Follower(
            JobServiceStub(channel),
            JOB_ID,
            lambda records: None,
            Notices(quiet),
            servers.address,
            backoff=lambda: Backoff(0.001, 0.001),
            patience=0,
            explain_every=0,
        )
        await follower.narrate()


def in_turn(*answers: Any) -> Callable[[object, object], Any]:
    """One answer after the other."""
    rest = iter(answers)
    return lambda request, context: next(rest)


def busy(position: int) -> ExplainJobResponse:
    message = f"All slots are busy; {position - 1} jobs are before it."
    return ExplainJobResponse(job=a_job(), reason=WAIT_REASON_SLOTS_BUSY, message=message, position=position)


async def test_a_reason_is_said_once_and_a_new_one_again(
    servers: ScriptedServers, capsys: pytest.CaptureFixture[str]
) -> None:
    servers.on["ExplainJob"] = in_turn(NO_WORKER, NO_WORKER, busy(3), busy(2), SUCCESS)
    await narrated(servers)
    assert capsys.readouterr().err.splitlines() == [
        f"farhand: job {JOB_ID} waits: No worker.",
        f"farhand: job {JOB_ID} waits: All slots are busy; 2 jobs are before it.",
    ]


async def test_quietly_nothing_is_said(servers: ScriptedServers, capsys: pytest.CaptureFixture[str]) -> None:
    servers.on["ExplainJob"] = in_turn(NO_WORKER, SUCCESS)
    await narrated(servers, quiet=True)
    assert capsys.readouterr().err == ""


async def test_a_running_job_is_watched_and_not_asked_about(servers: ScriptedServers) -> None:
    def watch(_: object, __: object) -> Iterator[WatchJobsResponse]:
        yield WatchJobsResponse(jobs=[a_job(job_pb2.JOB_STATE_RUNNING)])
        yield WatchJobsResponse(jobs=[a_job(job_pb2.JOB_STATE_SUCCESS)])

    servers.on |= {"ExplainJob": in_turn(RUNNING, SUCCESS), "WatchJobs": watch}
    await narrated(servers)
    assert [list(request.ids) for request in servers.requests["WatchJobs"]] == [[JOB_ID]]


async def test_a_job_that_lost_its_worker_is_explained_again(
    servers: ScriptedServers, capsys: pytest.CaptureFixture[str]
) -> None:
    servers.on |= {
        "ExplainJob": in_turn(RUNNING, NO_WORKER, SUCCESS),
        "WatchJobs": [WatchJobsResponse(jobs=[a_job(job_pb2.JOB_STATE_CREATED)])],
    }
    await narrated(servers)
    assert "waits: No worker." in capsys.readouterr().err


async def test_a_scheduler_that_restarts_is_waited_for(servers: ScriptedServers) -> None:
    servers.on["ExplainJob"] = in_turn(ShuttingDown("It stops."), ShuttingDown("It stops."), SUCCESS)
    await narrated(servers)
    assert len(servers.requests["ExplainJob"]) == 3


async def test_where_nothing_can_be_explained_the_narration_ends_quietly(
    servers: ScriptedServers, capsys: pytest.CaptureFixture[str]
) -> None:
    servers.on["ExplainJob"] = not_found("job", JOB_ID)
    await narrated(servers)
    assert capsys.readouterr().err == ""


def test_waits_grow_up_to_the_longest_and_start_anew_after_a_success() -> None:
    backoff = Backoff(0.5, 5.0, random.Random(1))
    waits = [backoff.next() for _ in range(200)]
    assert all(wait <= 0.5 * 2**attempt for attempt, wait in enumerate(waits[:4]))
    assert 4.0 < max(waits) <= 5.0
    assert min(waits) < 0.5, "full jitter, not a fixed step"
    backoff.reset()
    assert backoff.next() <= 0.5


def test_far_along_the_wait_does_not_overflow() -> None:
    backoff = Backoff(0.5, 5.0)
    for _ in range(5000):
        assert backoff.next() <= 5.0
