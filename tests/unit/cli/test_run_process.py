"""farhand run as a process: at a terminal, in a pipe, under real signals."""

import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from farhand.api.scheduler.v1 import job_pb2
from farhand.api.scheduler.v1.job_service_pb2 import (
    ExplainJobResponse,
    KillJobResponse,
    SubmitJobResponse,
    TailLogsResponse,
)
from tests.unit.cli.builders import a_job, an_ended_job, lines, the_end
from tests.unit.cli.scripted_servers import ScriptedServers

FARHAND = [sys.executable, "-m", "farhand.cli"]


@pytest.fixture
def scheduler(servers: ScriptedServers) -> ScriptedServers:
    """Takes every job; KillJob sets `killed`, which ends it."""
    servers.on["SubmitJob"] = SubmitJobResponse(job=a_job())
    servers.on["ExplainJob"] = ExplainJobResponse(job=a_job(job_pb2.JOB_STATE_SUCCESS))
    return servers


@pytest.fixture
def killed(scheduler: ScriptedServers) -> threading.Event:
    killed = threading.Event()

    def kill(_: object, __: object) -> KillJobResponse:
        killed.set()
        return KillJobResponse(job=a_job(job_pb2.JOB_STATE_KILLING))

    scheduler.on["KillJob"] = kill
    return killed


def test_ctrl_c_is_quiet_and_kills(scheduler: ScriptedServers, killed: threading.Event) -> None:
    def tail(_: object, __: object) -> Iterator[TailLogsResponse]:
        yield lines("started")
        killed.wait()
        yield the_end(a_job(job_pb2.JOB_STATE_KILLED))

    scheduler.on["TailLogs"] = tail
    command = subprocess.Popen([*FARHAND, "run", "true"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert command.stdout is not None
    assert command.stdout.readline() == "started\n"
    command.send_signal(signal.SIGINT)
    _, err = command.communicate(timeout=30)
    assert command.returncode == 130
    assert "killing job" in err
    assert "Traceback" not in err


def test_a_reader_that_goes_away_kills_the_job(scheduler: ScriptedServers, killed: threading.Event) -> None:
    def tail(_: object, __: object) -> Iterator[TailLogsResponse]:
        while not killed.is_set():
            yield lines(*["y" * 100] * 1000)

    scheduler.on["TailLogs"] = tail
    command = subprocess.Popen([*FARHAND, "run", "yes"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert command.stdout is not None
    assert command.stderr is not None
    command.stdout.readline()
    command.stdout.close()
    err = command.stderr.read()
    command.stderr.close()
    assert command.wait(timeout=30) == 141
    assert killed.is_set()
    assert "Broken" not in err


def test_ctrl_c_while_logs_are_followed_leaves_quietly_and_kills_nothing(
    scheduler: ScriptedServers, killed: threading.Event
) -> None:
    scheduler.on["GetJob"] = lambda request, context: _get_job_response()

    def tail(_: object, __: object) -> Iterator[TailLogsResponse]:
        yield lines("started")
        scheduler.ending.wait()

    scheduler.on["TailLogs"] = tail
    command = subprocess.Popen(
        [*FARHAND, "job", "logs", "x", "--follow"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert command.stdout is not None
    assert command.stdout.readline() == "started\n"
    command.send_signal(signal.SIGINT)
    _, err = command.communicate(timeout=30)
    assert (command.returncode, err) == (130, "")
    assert not killed.is_set()


def test_a_terminal_gets_colours_and_no_other_escapes(scheduler: ScriptedServers) -> None:
    scheduler.on["TailLogs"] = [lines("\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[2Jx"), the_end(an_ended_job())]
    shown = _at_a_terminal("run", "--quiet", "true")
    assert shown == b"\x1b[31mred\x1b[0m x\r\n"


def test_a_terminal_shows_why_it_waits_and_then_only_the_log(scheduler: ScriptedServers) -> None:
    explained = threading.Semaphore(0)

    def explain(_: object, __: object) -> ExplainJobResponse:
        explained.release()
        return ExplainJobResponse(job=a_job(), message="No worker.")

    def tail(_: object, __: object) -> Iterator[TailLogsResponse]:
        explained.acquire()
        explained.acquire()  # when it asks again it has shown the first answer
        yield lines("out")
        yield the_end(an_ended_job())

    scheduler.on |= {"ExplainJob": explain, "TailLogs": tail}
    shown = _at_a_terminal("run", "true")
    waiting, _, after = shown.partition(b"out")
    assert b"waits: No worker." in waiting
    assert after == b"\r\n"


def test_tables_at_a_terminal_are_safe_too(servers: ScriptedServers) -> None:
    from farhand.api.registry.v1.tenant_pb2 import Tenant
    from farhand.api.registry.v1.tenant_service_pb2 import ListTenantsResponse

    servers.on["ListTenants"] = ListTenantsResponse(tenants=[Tenant(id="main", description="\x1b]0;t\x07[bold]d")])
    shown = _at_a_terminal("tenant", "list")
    assert b"[bold]d" in shown
    assert b"\x1b]0" not in shown


def _get_job_response() -> Any:
    from farhand.api.scheduler.v1.job_service_pb2 import GetJobResponse

    return GetJobResponse(job=a_job())


def _at_a_terminal(*arguments: str) -> bytes:
    """All that a terminal would be sent."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    command = subprocess.Popen([*FARHAND, *arguments], stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 65536)
        except OSError:  # Linux's word for the end of a terminal
            break
    os.close(ours)
    assert command.wait(timeout=30) == 0
    return shown
