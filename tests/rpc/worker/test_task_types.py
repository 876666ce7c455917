"""The task types that come with a worker, whole and over real gRPC."""

import json
import subprocess
import sys
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from farhand.api.types.v1 import log_record_pb2 as logs
from farhand.api.types.v1 import outcome_pb2
from farhand.api.worker.v1 import session_pb2 as pb
from tests.fixtures.fake_scheduler import FakeScheduler, a_job

SUCCESS = outcome_pb2.OUTCOME_STATE_SUCCESS
FAILED = outcome_pb2.OUTCOME_STATE_FAILED
KILLED = outcome_pb2.OUTCOME_STATE_KILLED


async def run(fake_scheduler: FakeScheduler, type: str, **properties: Any) -> pb.Result:
    """One job on a fresh worker, to its result and the end of its log; and another after it, to see that it can."""
    await fake_scheduler.run_worker(slots=2)
    session = await fake_scheduler.session()
    session.assign(a_job("job-1", type=f"io.kestra.plugin.{type}", properties=properties))
    result = await session.result("job-1")
    await fake_scheduler.log_reaches("job-1", result.log_end_offset)
    session.assign(a_job("job-2", "true"))
    assert (await session.result("job-2")).outcome.state == SUCCESS
    return result


def outputs(result: pb.Result) -> Any:
    return MessageToDict(result.outcome.outputs)


async def test_a_shell_script_runs_as_commands_do(fake_scheduler: FakeScheduler) -> None:
    script = 'for i in 1 2; do echo $i $A; done\necho \'::{"outputs":{"n":1}}::\'\nfalse\necho never'
    result = await run(fake_scheduler, "scripts.shell.Script", script=script, env={"A": "x"})
    assert (result.outcome.state, result.outcome.exit_code) == (FAILED, 1)
    assert result.outcome.message == "the script ended with exit code 1"
    assert fake_scheduler.lines("job-1") == ["1 x", "2 x"]
    assert outputs(result) == {"exitCode": 1, "vars": {"n": 1}, "outputFiles": {}}


async def test_python_commands_find_a_python_that_does_not_buffer(
    fake_scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    commands = ["echo 'import os; print(os.environ[\"PYTHONUNBUFFERED\"])' > m.py", "python3 m.py"]
    result = await run(fake_scheduler, "scripts.python.Commands", commands=commands)
    assert result.outcome.state == SUCCESS
    assert fake_scheduler.lines("job-1") == ["1"]


async def test_without_a_python_on_the_path_it_is_the_workers(
    fake_scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    script = {"script": "import farhand; print('found')"}
    session.assign(a_job("job-1", type="io.kestra.plugin.scripts.python.Script", properties=script))
    assert (await session.result("job-1")).outcome.state == SUCCESS
    assert await fake_scheduler.log_reaches("job-1", 1) == ["found"]


async def test_a_python_script_gives_outputs_and_its_traceback_shows_its_lines(fake_scheduler: FakeScheduler) -> None:
    script = """
import json, os, sys
print("::" + json.dumps({"outputs": {"env": os.environ["A"], "argv": sys.argv[1:]}}) + "::")
print("grüße", os.environ["PYTHONUNBUFFERED"], sorted(os.listdir(".")))
raise ValueError("on purpose")
"""
    result = await run(fake_scheduler, "scripts.python.Script", script=script, env={"A": 1}, beforeCommands=["> file"])
    assert (result.outcome.state, result.outcome.exit_code) == (FAILED, 1)
    assert outputs(result) == {"exitCode": 1, "vars": {"env": "1", "argv": []}, "outputFiles": {}}
    assert sorted(fake_scheduler.lines("job-1", stream=logs.LOG_STREAM_STDOUT)) == ["grüße 1 ['.script.py', 'file']"]
    traceback = fake_scheduler.lines("job-1", stream=logs.LOG_STREAM_STDERR)
    assert '    raise ValueError("on purpose")' in traceback
    assert traceback[-1] == "ValueError: on purpose"


async def test_a_python_script_may_be_longer_than_an_argument(fake_scheduler: FakeScheduler) -> None:
    script = "x = '''" + "y" * 150_000 + "'''\nprint(len(x))"
    assert (await run(fake_scheduler, "scripts.python.Script", script=script)).outcome.state == SUCCESS
    assert fake_scheduler.lines("job-1") == ["150000"]


async def test_a_python_that_can_t_be_found_before_the_start_is_told(fake_scheduler: FakeScheduler) -> None:
    before = [". /no/such/venv/bin/activate"]
    result = await run(fake_scheduler, "scripts.python.Script", script="print(1)", beforeCommands=before)
    assert (result.outcome.state, result.outcome.reason) == (FAILED, "NONZERO_EXIT")
    assert any("/no/such/venv" in line for line in fake_scheduler.lines("job-1"))


@pytest.mark.parametrize("duration", ["PT0S", "PT0.01S"])
async def test_sleep_sleeps(fake_scheduler: FakeScheduler, duration: str) -> None:
    result = await run(fake_scheduler, "core.flow.Sleep", duration=duration)
    assert (result.outcome.state, outputs(result)) == (SUCCESS, {})


async def test_a_sleep_is_woken_by_a_kill_and_by_its_timeout(fake_scheduler: FakeScheduler) -> None:
    await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    sleep = "io.kestra.plugin.core.flow.Sleep"
    session.assign(
        a_job("job-1", type=sleep, properties={"duration": "P1D"}),
        a_job("job-2", type=sleep, properties={"duration": "P99999999999D"}, timeout=0.1),
    )
    assert (await session.result("job-2")).outcome.reason == "TIMEOUT"
    session.cancel("job-1")
    assert (await session.result("job-1")).outcome.state == KILLED


@pytest.mark.parametrize(("given", "value"), [("a text", "a text"), (3, "3"), (True, "true"), ("", "")])
async def test_return_gives_its_format(fake_scheduler: FakeScheduler, given: object, value: str) -> None:
    assert outputs(await run(fake_scheduler, "core.debug.Return", format=given)) == {"value": value}


async def test_return_without_a_format_gives_nothing(fake_scheduler: FakeScheduler) -> None:
    assert outputs(await run(fake_scheduler, "core.debug.Return")) == {}


async def test_a_value_over_the_limit_of_outputs_is_told(fake_scheduler: FakeScheduler) -> None:
    result = await run(fake_scheduler, "core.debug.Return", format='"' * 200_000)
    assert (result.outcome.state, result.outcome.reason) == (FAILED, "OUTPUT_TOO_LARGE")
    assert "are 400013 bytes; 262144 are allowed" in result.outcome.message


async def test_log_writes_its_lines_at_its_level(fake_scheduler: FakeScheduler) -> None:
    message = ["one\ntwo", "", "x" * 10_000, "half \ufffd"]
    result = await run(fake_scheduler, "core.log.Log", message=message, level="error")
    assert result.outcome.state == SUCCESS
    records = fake_scheduler.logs["job-1", 1]
    assert [record.text for record in records] == ["one", "two", "", "x" * 10_000, "half \ufffd"]
    assert {(record.stream, record.level) for record in records} == {(logs.LOG_STREAM_STDOUT, logs.LOG_LEVEL_ERROR)}


async def test_log_is_info_unless_said_otherwise(fake_scheduler: FakeScheduler) -> None:
    await run(fake_scheduler, "core.log.Log", message="hello")
    (record,) = fake_scheduler.logs["job-1", 1]
    assert (record.text, record.level) == ("hello", logs.LOG_LEVEL_INFO)


@pytest.mark.parametrize(("properties", "message"), [({"errorMessage": "No.\nNo!"}, "No.\nNo!"), ({}, "Task failure")])
async def test_fail_fails_with_its_message(
    fake_scheduler: FakeScheduler, properties: dict[str, str], message: str
) -> None:
    result = await run(fake_scheduler, "core.execution.Fail", **properties)
    assert (result.outcome.state, result.outcome.reason, result.outcome.message) == (FAILED, "FAIL_TASK", message)
    assert {record.level for record in fake_scheduler.logs["job-1", 1]} == {logs.LOG_LEVEL_ERROR}
    assert fake_scheduler.lines("job-1") == message.split("\n")


async def test_a_request_to_nobody_fails_with_the_reason(fake_scheduler: FakeScheduler) -> None:
    result = await run(fake_scheduler, "core.http.Request", uri="http://127.0.0.1:1/")
    assert (result.outcome.state, result.outcome.reason) == (FAILED, "REQUEST_FAILED")
    assert result.outcome.message == "GET http://127.0.0.1:1/: can't connect: Connection refused"


async def test_a_program_that_writes_binary_gets_a_log_of_texts(fake_scheduler: FakeScheduler) -> None:
    script = "import os; os.write(1, bytes(range(256)) * 4 + b'::{\\x00\\xff}::\\n'); os.write(2, b'\\xff\\n')"
    result = await run(fake_scheduler, "scripts.python.Script", script=script)
    assert (result.outcome.state, outputs(result)) == (SUCCESS, {"exitCode": 0, "vars": {}, "outputFiles": {}})
    assert any("\ufffd" in line for line in fake_scheduler.lines("job-1"))
    assert not any("\0" in line for line in fake_scheduler.lines("job-1"))


async def test_a_program_whose_outputs_are_huge_fails_and_the_other_slot_works(fake_scheduler: FakeScheduler) -> None:
    line = "::" + json.dumps({"outputs": {"k": "x" * 60_000}}) + "::"
    script = f"for i in range(10): print({line!r}.replace('\"k\"', f'\"k{{i}}\"'))"
    result = await run(fake_scheduler, "scripts.python.Script", script=script)
    assert (result.outcome.state, result.outcome.reason) == (FAILED, "OUTPUT_TOO_LARGE")
    assert outputs(result) == {"exitCode": 0}


async def test_a_program_that_never_ends_its_line_gets_a_marked_cut(fake_scheduler: FakeScheduler) -> None:
    script = "import sys\nfor _ in range(40): sys.stdout.write('x' * 1_000_000)"
    assert (await run(fake_scheduler, "scripts.python.Script", script=script)).outcome.state == SUCCESS
    (line,) = fake_scheduler.lines("job-1")
    assert line.endswith("[cut: the line has more than 64 KiB]")


async def test_a_program_that_floods_its_log_gets_a_marked_cut(fake_scheduler: FakeScheduler) -> None:
    script = "import sys\nsys.stderr.write(('y' * 1000 + '\\n') * 20_000)"
    assert (await run(fake_scheduler, "scripts.python.Script", script=script)).outcome.state == SUCCESS
    assert "the output is longer than" in fake_scheduler.lines("job-1")[-1]


def test_what_requests_and_expressions_cost_is_paid_by_the_first_of_them() -> None:
    code = "import farhand.worker.bootstrap, sys; print(sorted({'httpx', 'jinja2', 'anyio'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
