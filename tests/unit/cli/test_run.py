"""farhand run: what is submitted, what comes out, and what it ends with."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from farhand.api.scheduler.v1 import job_pb2
from farhand.api.scheduler.v1.job_service_pb2 import (
    ExplainJobResponse,
    KillJobResponse,
    SubmitJobResponse,
    TailLogsResponse,
    WatchJobsResponse,
)
from farhand.api.types.v1.fallback_pb2 import FALLBACK_FAIL
from farhand.api.types.v1.log_record_pb2 import LOG_STREAM_STDERR, LOG_STREAM_SYSTEM
from farhand.kernel.errors import PayloadTooLarge, ShuttingDown, Violation
from farhand.kernel.names import not_found
from tests.unit.cli.builders import JOB_ID, SHELL, a_job, an_ended_job, lines, the_end
from tests.unit.cli.conftest import Farhand
from tests.unit.cli.scripted_servers import ScriptedServers

QUIETLY = ExplainJobResponse(job=a_job(job_pb2.JOB_STATE_SUCCESS))


@pytest.fixture
def scheduler(servers: ScriptedServers) -> ScriptedServers:
    """Takes every job and ends it well without a line."""
    servers.on["SubmitJob"] = SubmitJobResponse(job=a_job())
    servers.on["TailLogs"] = [the_end(an_ended_job())]
    servers.on["ExplainJob"] = QUIETLY
    servers.on["WatchJobs"] = [WatchJobsResponse(jobs=[an_ended_job()])]
    return servers


def test_the_words_become_a_shell_task(farhand: Farhand, scheduler: ScriptedServers) -> None:
    options = ("--worker-group", "gpu", "--fallback", "fail", "--env", "A=1", "--env", "B=x y", "--timeout", "10m")
    place = ("--namespace", "company.team", "--tenant", "research")
    assert farhand("run", *options, *place, "--", "echo", "it's", "--worker-group").code == 0
    [request] = scheduler.requests["SubmitJob"]
    spec = request.spec
    assert (spec.tenant, spec.namespace, spec.worker_group, spec.fallback) == (
        "research",
        "company.team",
        "gpu",
        FALLBACK_FAIL,
    )
    assert (spec.task.type, spec.task.timeout.seconds) == (SHELL, 600)
    assert dict(spec.task.properties.items()) == {
        "commands": ["echo 'it'\"'\"'s' --worker-group"],
        "env": {"A": "1", "B": "x y"},
    }
    assert len(request.request_id) == 32


def test_without_a_group_the_scheduler_inherits_one(farhand: Farhand, scheduler: ScriptedServers) -> None:
    farhand("run", "true")
    assert not scheduler.requests["SubmitJob"][0].spec.HasField("worker_group")
    farhand("run", "--worker-group", "_default", "true")
    assert scheduler.requests["SubmitJob"][1].spec.worker_group == "_default"


def test_each_line_goes_where_the_command_wrote_it(farhand: Farhand, scheduler: ScriptedServers) -> None:
    scheduler.on["TailLogs"] = [
        lines("out \x1b[31m1", "ä\x07"),
        lines("err", stream=LOG_STREAM_STDERR),
        lines("cut here", stream=LOG_STREAM_SYSTEM, fence=0),
        lines("out 2"),
        the_end(an_ended_job()),
    ]
    result = farhand("run", "true")
    assert result.out == "out \x1b[31m1\nä\x07\nout 2\n"
    assert result.err == f"farhand: job {JOB_ID} in group gpu\nerr\nfarhand: cut here\n"
    assert farhand("run", "--quiet", "true").err == "err\nfarhand: cut here\n"


@pytest.mark.parametrize(("own", "code"), [(0, 0), (42, 42), (-9, 137), (None, 1)])
def test_it_exits_with_the_commands_code(
    farhand: Farhand, scheduler: ScriptedServers, own: int | None, code: int
) -> None:
    scheduler.on["TailLogs"] = [the_end(an_ended_job(own))]
    result = farhand("run", "true")
    assert result.code == code
    assert ("ended FAILED" in result.err) == (code != 0)


def test_a_reason_that_the_log_ends_with_is_not_said_twice(farhand: Farhand, scheduler: ScriptedServers) -> None:
    job = an_ended_job(None)
    scheduler.on["TailLogs"] = [lines(job.outcome.message, stream=LOG_STREAM_SYSTEM), the_end(job)]
    result = farhand("run", "true")
    assert result.err.count(job.outcome.message) == 1
    assert f"farhand: job {JOB_ID} ended FAILED\n" in result.err


def test_detached_it_prints_the_id_and_follows_nothing(farhand: Farhand, scheduler: ScriptedServers) -> None:
    assert farhand("run", "--detach", "true").out == f"{JOB_ID}\n"
    assert "TailLogs" not in scheduler.requests
    assert json.loads(farhand("run", "--detach", "--output", "json", "true").out)["id"] == JOB_ID


def test_as_a_document_stdout_is_the_ended_job_alone(farhand: Farhand, scheduler: ScriptedServers) -> None:
    scheduler.on["TailLogs"] = [lines("out"), the_end(an_ended_job(3))]
    result = farhand("run", "--output", "json", "true")
    assert result.code == 3
    assert json.loads(result.out)["outcome"]["exit_code"] == 3
    assert "out\n" in result.err


def test_an_incomplete_log_is_said_to_be_so(farhand: Farhand, scheduler: ScriptedServers) -> None:
    scheduler.on["TailLogs"] = [the_end(an_ended_job(), incomplete=True)]
    assert "last lines of the log have not come" in farhand("run", "true").err


def test_a_cut_tail_goes_on_at_its_position(farhand: Farhand, scheduler: ScriptedServers) -> None:
    def tail(request: Any, _: Any) -> Iterator[TailLogsResponse]:
        if not request.position:
            yield lines("one", position="p1")
            raise ShuttingDown("This scheduler stops.")
        yield lines("two", position="p2")
        yield the_end(an_ended_job(7))

    scheduler.on["TailLogs"] = tail
    result = farhand("run", "true")
    assert (result.code, result.out) == (7, "one\ntwo\n")
    assert [request.position for request in scheduler.requests["TailLogs"]] == ["", "p1"]
    assert "This scheduler stops. The job goes on; trying again." in result.err
    assert "answers again" in result.err


def test_a_tail_that_just_ends_is_asked_for_again(farhand: Farhand, scheduler: ScriptedServers) -> None:
    answers = iter([[lines("one", position="p1")], [the_end(an_ended_job())]])
    scheduler.on["TailLogs"] = lambda request, context: next(answers)
    assert farhand("run", "true").out == "one\n"


def test_it_outlives_a_restart_of_the_scheduler(farhand: Farhand, scheduler: ScriptedServers) -> None:
    restarted = threading.Event()

    def restart() -> None:
        scheduler.stop()
        scheduler.start()
        restarted.set()

    def tail(request: Any, _: Any) -> Iterator[TailLogsResponse]:
        if not request.position:
            yield lines("before", position="p1")
            threading.Thread(target=restart).start()
            scheduler.ending.wait()
            return
        yield lines("after")
        yield the_end(an_ended_job(5))

    scheduler.on["TailLogs"] = tail
    result = farhand("run", "true")
    restarted.wait()
    assert (result.code, result.out) == (5, "before\nafter\n")


def test_a_job_that_starts_anew_says_so(farhand: Farhand, scheduler: ScriptedServers) -> None:
    scheduler.on["TailLogs"] = [lines("a", fence=1), lines("a", fence=2), the_end(an_ended_job())]
    result = farhand("run", "true")
    assert result.err.count("lost its worker and starts anew") == 1


def test_a_refused_submit_is_an_error_with_all_that_is_wrong(farhand: Farhand, scheduler: ScriptedServers) -> None:
    scheduler.on["SubmitJob"] = not_found("worker group", "gpuu", ["gpu"])
    result = farhand("run", "--worker-group", "gpuu", "true")
    assert (result.code, result.err) == (1, "farhand: There is no worker group 'gpuu'. Did you mean 'gpu'?\n")
    scheduler.on["SubmitJob"] = PayloadTooLarge(
        "The task has 300 KiB; at most 256 KiB are allowed.", violations=[Violation("spec.task", "is too large")]
    )
    assert "256 KiB" in farhand("run", "true").err


def test_a_submit_whose_answer_was_lost_is_repeated_under_its_id(farhand: Farhand, scheduler: ScriptedServers) -> None:
    answers = iter([ShuttingDown("This scheduler stops."), SubmitJobResponse(job=a_job())])
    scheduler.on["SubmitJob"] = lambda request, context: next(answers)
    assert farhand("run", "true").code == 0
    first, second = scheduler.requests["SubmitJob"]
    assert first.request_id == second.request_id


def test_a_scheduler_that_is_not_there_is_an_error_at_once(farhand: Farhand, unused_address: str) -> None:
    result = farhand("run", "--scheduler", unused_address, "true")
    assert result.code == 1
    assert "farhand server standalone" in result.err
    assert "--request-id" not in result.err


def test_an_error_after_the_submit_says_that_the_job_goes_on(farhand: Farhand, scheduler: ScriptedServers) -> None:
    scheduler.on["TailLogs"] = not_found("job", JOB_ID)
    result = farhand("run", "true")
    assert result.code == 1
    assert f"farhand job kill {JOB_ID}" in result.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_kills_the_job_and_waits_for_its_end(
    farhand: Farhand, scheduler: ScriptedServers, number: signal.Signals, code: int
) -> None:
    killed = threading.Event()

    def tail(_: object, __: object) -> Iterator[TailLogsResponse]:
        os.kill(os.getpid(), number)
        killed.wait()
        yield lines("last words")
        yield the_end(an_ended_job(-15, state=job_pb2.JOB_STATE_KILLED))

    def kill(_: object, __: object) -> KillJobResponse:
        killed.set()
        return KillJobResponse(job=a_job(job_pb2.JOB_STATE_KILLING))

    scheduler.on |= {"TailLogs": tail, "KillJob": kill}
    result = farhand("run", "--grace", "3s", "sleep", "100")
    assert (result.code, result.out) == (code, "last words\n")
    assert scheduler.requests["KillJob"][0].grace.seconds == 3


def test_a_job_that_ended_before_the_kill_keeps_its_code(farhand: Farhand, scheduler: ScriptedServers) -> None:
    killed = threading.Event()

    def tail(_: object, __: object) -> Iterator[TailLogsResponse]:
        os.kill(os.getpid(), signal.SIGINT)
        killed.wait()
        yield the_end(an_ended_job(0))

    def kill(_: object, __: object) -> KillJobResponse:
        killed.set()
        return KillJobResponse(job=an_ended_job(0))

    scheduler.on |= {"TailLogs": tail, "KillJob": kill}
    assert farhand("run", "true").code == 0


def test_a_second_signal_leaves_at_once_and_says_that_the_job_goes_on(
    farhand: Farhand, scheduler: ScriptedServers
) -> None:
    def tail(_: object, context: grpc.ServicerContext) -> Iterator[TailLogsResponse]:
        os.kill(os.getpid(), signal.SIGINT)
        gone = threading.Event()
        context.add_callback(gone.set)
        gone.wait()
        return iter(())

    def kill(_: object, context: grpc.ServicerContext) -> KillJobResponse:
        os.kill(os.getpid(), signal.SIGINT)
        gone = threading.Event()
        context.add_callback(gone.set)
        gone.wait()
        return KillJobResponse()

    scheduler.on |= {"TailLogs": tail, "KillJob": kill}
    result = farhand("run", "sleep", "100")
    assert result.code == 130
    assert f"job {JOB_ID} goes on" in result.err
    assert "Traceback" not in result.err


def test_a_signal_during_the_submit_kills_the_job_that_it_made(farhand: Farhand, scheduler: ScriptedServers) -> None:
    killed = threading.Event()

    def submit(_: object, __: object) -> SubmitJobResponse:
        os.kill(os.getpid(), signal.SIGINT)
        return SubmitJobResponse(job=a_job())

    def kill(_: object, __: object) -> KillJobResponse:
        killed.set()
        return KillJobResponse(job=a_job(job_pb2.JOB_STATE_KILLED))

    def tail(_: object, __: object) -> Iterator[TailLogsResponse]:
        killed.wait()
        yield the_end(a_job(job_pb2.JOB_STATE_KILLED))

    scheduler.on |= {"SubmitJob": submit, "TailLogs": tail, "KillJob": kill}
    assert farhand("run", "true").code == 130


def test_a_kill_that_fails_is_tried_again(farhand: Farhand, scheduler: ScriptedServers) -> None:
    killed = threading.Event()
    answers = iter([ShuttingDown("This scheduler stops."), KillJobResponse(job=a_job(job_pb2.JOB_STATE_KILLING))])

    def tail(_: object, __: object) -> Iterator[TailLogsResponse]:
        os.kill(os.getpid(), signal.SIGINT)
        killed.wait()
        yield the_end(a_job(job_pb2.JOB_STATE_KILLED))

    def kill(_: object, __: object) -> Any:
        answer = next(answers)
        if isinstance(answer, KillJobResponse):
            killed.set()
        return answer

    scheduler.on |= {"TailLogs": tail, "KillJob": kill}
    result = farhand("run", "sleep", "100")
    assert result.code == 130
    assert "The kill is tried again." in result.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("run",),
        ("run", "--worker-group", "gpu"),
        ("run", ""),
        ("run", "--env", "nonsense", "true"),
        ("run", "--timeout", "soon", "true"),
        ("run", "--grace", "-1", "true"),
        ("run", "--fallback", "explode", "true"),
        ("run", "\udcff"),
    ],
)
def test_wrong_use_is_told_before_anything_is_submitted(farhand: Farhand, arguments: tuple[str, ...]) -> None:
    assert farhand(*arguments).code == 2
