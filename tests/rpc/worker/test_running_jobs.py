"""A worker, whole and over real gRPC, runs what a scheduler assigns."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToDict

from farhand.api.types.v1 import log_record_pb2, outcome_pb2
from farhand.api.worker.v1 import session_pb2 as pb
from tests.fixtures.fake_scheduler import NOOP, FakeScheduler, a_job

STDERR = log_record_pb2.LOG_STREAM_STDERR
SYSTEM = log_record_pb2.LOG_STREAM_SYSTEM

SUCCESS = outcome_pb2.OUTCOME_STATE_SUCCESS
FAILED = outcome_pb2.OUTCOME_STATE_FAILED
KILLED = outcome_pb2.OUTCOME_STATE_KILLED


async def run(fake_scheduler: FakeScheduler, job: pb.Assignment) -> pb.Result:
    """One job on a fresh worker, to its result and the end of its log."""
    await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    session.assign(job)
    result = await session.result(job.job_id, job.fence)
    await fake_scheduler.log_reaches(job.job_id, result.log_end_offset, job.fence)
    return result


async def test_commands_run_and_their_result_and_log_come_back(fake_scheduler: FakeScheduler) -> None:
    result = await run(fake_scheduler, a_job("job-1", "echo hello", "echo oops >&2", 'echo "$FARHAND_JOB_ID"'))
    assert result.outcome.state == SUCCESS
    assert result.outcome.exit_code == 0
    assert result.outcome.run_duration.ToNanoseconds() > 0
    assert result.log_end_offset == 3
    assert {"hello", "job-1"} <= set(fake_scheduler.lines("job-1"))
    assert fake_scheduler.lines("job-1", stream=STDERR) == ["oops"]


async def test_thousands_of_instant_tasks_ride_in_few_frames(fake_scheduler: FakeScheduler) -> None:
    await fake_scheduler.run_worker(slots=1000)
    session = await fake_scheduler.session()
    await session.until(lambda: session.credit == 1000)
    session.assign(*(a_job(f"job-{n}", type=NOOP, properties={}) for n in range(1000)))
    await session.until(lambda: len(session.results) == 1000)
    assert len(session.of("result")) < 10
    assert all(result.outcome.state == SUCCESS for result in session.results.values())
    await session.until(lambda: session.credit == 2000)


async def test_a_job_runs_in_a_fresh_folder_that_is_gone_afterwards(
    fake_scheduler: FakeScheduler, tmp_path: Path
) -> None:
    await run(fake_scheduler, a_job("job-1", "pwd; ls -A; mkdir -p a/b; touch a/b/c; chmod 0 a/b a"))
    folder, *rest = fake_scheduler.lines("job-1")
    assert rest == []
    assert Path(folder).parent == tmp_path / "worker-0" / "jobs"
    async with asyncio.timeout(10):
        while Path(folder).exists():
            await asyncio.sleep(0.01)


async def test_the_environment_says_who_runs_and_keeps_the_workers_secrets(
    fake_scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARHAND_TOKEN", "secret-of-the-worker")
    monkeypatch.setenv("TOOLS", "/opt/tools")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    properties = {"commands": ["env"], "env": {"GREETING": "hello", "COUNT": 3, "FARHAND_FENCE": "99"}}
    await run(fake_scheduler, a_job("job-1", fence=7, properties=properties, traceparent=trace))
    env = dict(line.split("=", 1) for line in fake_scheduler.lines("job-1", 7) if "=" in line)
    assert (env["FARHAND_JOB_ID"], env["FARHAND_TENANT"]) == ("job-1", "main")
    assert env["FARHAND_FENCE"] == "7"
    assert (env["GREETING"], env["COUNT"], env["TOOLS"]) == ("hello", "3", "/opt/tools")
    assert env["TRACEPARENT"] == trace
    assert "secret-of-the-worker" not in str(env)


async def test_the_first_failing_command_ends_the_script(fake_scheduler: FakeScheduler) -> None:
    result = await run(fake_scheduler, a_job("job-1", "echo before", "exit 3", "echo after"))
    assert (result.outcome.state, result.outcome.exit_code) == (FAILED, 3)
    assert result.outcome.reason == "NONZERO_EXIT"
    assert fake_scheduler.lines("job-1") == ["before"]


async def test_without_fail_fast_the_last_command_decides(fake_scheduler: FakeScheduler) -> None:
    job = a_job("job-1", properties={"commands": ["false", "echo after"], "failFast": False})
    result = await run(fake_scheduler, job)
    assert result.outcome.state == SUCCESS
    assert fake_scheduler.lines("job-1") == ["after"]


async def test_a_command_that_does_not_exist_fails_with_the_shells_line(fake_scheduler: FakeScheduler) -> None:
    result = await run(fake_scheduler, a_job("job-1", "no-such-command-here"))
    assert (result.outcome.state, result.outcome.exit_code) == (FAILED, 127)
    assert any("no-such-command-here" in line for line in fake_scheduler.lines("job-1", stream=STDERR))


async def test_an_interpreter_that_does_not_exist_fails_with_a_line_of_ours(fake_scheduler: FakeScheduler) -> None:
    job = a_job("job-1", properties={"commands": ["x"], "interpreter": ["/no/such/shell", "-c"]})
    result = await run(fake_scheduler, job)
    assert (result.outcome.state, result.outcome.reason) == (FAILED, "START_FAILED")
    assert not result.outcome.HasField("exit_code")
    assert any("/no/such/shell" in line for line in fake_scheduler.lines("job-1", stream=SYSTEM))


async def test_all_that_is_wrong_with_a_task_is_told_at_once(fake_scheduler: FakeScheduler) -> None:
    result = await run(fake_scheduler, a_job("job-1", properties={"comands": ["x"], "env": ["A=1"], "failFast": "yes"}))
    assert (result.outcome.state, result.outcome.reason) == (FAILED, "INVALID_PROPERTIES")
    for part in ("comands", "Did you mean commands", "commands: is required", "env: ", "failFast: "):
        assert part in result.outcome.message
    assert fake_scheduler.lines("job-1", stream=SYSTEM) == [result.outcome.message]


async def test_a_type_that_the_worker_does_not_know_fails(fake_scheduler: FakeScheduler) -> None:
    result = await run(fake_scheduler, a_job("job-1", type="org.example.Unknown", properties={}))
    assert (result.outcome.state, result.outcome.reason) == (FAILED, "UNKNOWN_TASK_TYPE")


async def test_a_task_that_runs_too_long_is_killed_with_all_its_processes(
    fake_scheduler: FakeScheduler, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    job = a_job("job-1", f"setsid sh -c 'echo $$ > {pid}; exec sleep 60' & sleep 60", timeout=1.0)
    result = await run(fake_scheduler, job)
    assert (result.outcome.state, result.outcome.reason) == (FAILED, "TIMEOUT")
    assert fake_scheduler.lines("job-1", stream=SYSTEM) == [result.outcome.message]
    assert not Path("/proc", pid.read_text().strip()).exists()


async def test_outputs_are_read_from_stdout_and_not_logged(fake_scheduler: FakeScheduler) -> None:
    result = await run(
        fake_scheduler,
        a_job(
            "job-1", "echo 'first'", """echo '::{"outputs":{"n":1,"s":"x"}}::'""", """echo '::{"outputs":{"n":2}}::'"""
        ),
    )
    assert MessageToDict(result.outcome.outputs) == {"exitCode": 0, "vars": {"n": 2, "s": "x"}, "outputFiles": {}}
    assert fake_scheduler.lines("job-1") == ["first"]


async def test_a_failing_script_keeps_its_outputs(fake_scheduler: FakeScheduler) -> None:
    result = await run(fake_scheduler, a_job("job-1", """echo '::{"outputs":{"n":1}}::'; exit 2"""))
    assert result.outcome.state == FAILED
    assert MessageToDict(result.outcome.outputs) == {"exitCode": 2, "vars": {"n": 1}, "outputFiles": {}}


async def test_outputs_that_cant_be_read_are_a_warning_and_never_a_crash(fake_scheduler: FakeScheduler) -> None:
    result = await run(
        fake_scheduler, a_job("job-1", "echo '::{bad}::'", """echo '::{"outputs":{"n":"\\\\u0000"}}::'""")
    )
    assert result.outcome.state == SUCCESS
    assert len(fake_scheduler.lines("job-1", stream=SYSTEM)) == 2


async def test_outputs_over_the_limit_fail_with_both_sizes(fake_scheduler: FakeScheduler) -> None:
    line = """i=0; while [ $i -lt 10 ]; do printf '::{"outputs":{"k%d":"%050000d"}}::\\n' $i 0; i=$((i+1)); done"""
    result = await run(fake_scheduler, a_job("job-1", line))
    assert result.outcome.reason == "OUTPUT_TOO_LARGE"
    assert "262144" in result.outcome.message


async def test_a_cancelled_job_ends_as_killed_with_its_grandchildren(
    fake_scheduler: FakeScheduler, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    session.assign(a_job("job-1", f"setsid sh -c 'echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 60' & sleep 60"))
    async with asyncio.timeout(10):
        while not pid.exists():
            await asyncio.sleep(0.01)
    session.cancel("job-1")
    result = await session.result("job-1")
    assert (result.outcome.state, result.outcome.reason) == (KILLED, "KILLED")
    assert [job.job_id for job in (await session.expect("cancel_ack")).jobs] == ["job-1"]
    assert not Path("/proc", pid.read_text().strip()).exists()


async def test_a_job_that_was_cancelled_before_it_came_never_starts(
    fake_scheduler: FakeScheduler, tmp_path: Path
) -> None:
    await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    session.cancel("job-1")
    await session.expect("cancel_ack")
    session.assign(a_job("job-1", f"touch {tmp_path}/started"), a_job("job-2", "true", fence=2))
    result = await session.result("job-1")
    assert result.outcome.state == KILLED
    await session.result("job-2", 2)
    assert not (tmp_path / "started").exists()
    assert ("job-1", 1) not in session.started


async def test_what_ends_with_the_warden_has_no_result_and_another_warden_runs_the_next(
    fake_scheduler: FakeScheduler,
) -> None:
    await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    session.assign(a_job("job-1", "sleep 60"))
    await session.has_started("job-1")
    os.kill(_warden(), signal.SIGKILL)
    second = await fake_scheduler.session()
    assert second.held == {("job-1", 1): pb.HELD_PHASE_SELF_FENCED}
    assert not session.results
    second.assign(a_job("job-1", "true", fence=2))
    assert (await second.result("job-1", 2)).outcome.state == SUCCESS


def _warden() -> int:
    """The process id of this process's warden."""
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            if Path("/proc", pid, "comm").read_text().strip() == "farhand-warden":
                return int(pid)
    raise AssertionError("there is no warden")
