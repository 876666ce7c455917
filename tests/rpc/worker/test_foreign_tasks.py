"""Task types of other packages (tests/fixtures/packages/greeting, installed by pip) run in processes of their own."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from farhand.api.types.v1 import outcome_pb2
from farhand.api.worker.v1 import session_pb2 as pb
from tests.fixtures.fake_scheduler import FakeScheduler, a_job
from tests.rpc.worker.gates import exists, gone


async def run(scheduler: FakeScheduler, packages: Path, type: str, **properties: str) -> pb.Result:
    await scheduler.spawn_worker(data=scheduler.folder / "w", environ={"PYTHONPATH": str(packages)})
    session = await scheduler.session()
    assert f"org.example.{type}" in session.hello.task_types
    session.assign(a_job("job-1", type=f"org.example.{type}", properties=properties))
    return await session.result("job-1")


async def test_it_runs_with_its_properties_and_gives_outputs(fake_scheduler: FakeScheduler, packages: Path) -> None:
    result = await run(fake_scheduler, packages, "Greet", name="you")
    outcome = MessageToDict(result.outcome)
    assert outcome["state"] == "OUTCOME_STATE_SUCCESS"
    assert outcome["outputs"]["code"] == 4
    assert outcome["outputs"]["folder"].endswith("/jobs/job-1-1")
    lines = await fake_scheduler.log_reaches("job-1", result.log_end_offset)
    assert sorted(lines) == ["a word of its own", "from the shell", "hello you job-1"]


@pytest.mark.parametrize(
    ("type", "properties", "reason", "message"),
    [
        ("Greet", {}, "INVALID_PROPERTIES", "name: is required"),
        ("Raise", {"name": "x"}, "INTERNAL", "RuntimeError: boom"),
        ("Crash", {"name": "x"}, "INTERNAL", "exit code 9"),
        ("Missing", {"name": "x"}, "INTERNAL", "AttributeError"),
    ],
)
async def test_what_goes_wrong_fails_its_own_job_with_the_reason(
    fake_scheduler: FakeScheduler, packages: Path, type: str, properties: dict[str, str], reason: str, message: str
) -> None:
    result = await run(fake_scheduler, packages, type, **properties)
    assert result.outcome.state == outcome_pb2.OUTCOME_STATE_FAILED
    assert result.outcome.reason == reason
    assert message in result.outcome.message


async def test_one_that_never_returns_dies_when_it_is_cancelled(
    fake_scheduler: FakeScheduler, packages: Path, tmp_path: Path
) -> None:
    await fake_scheduler.spawn_worker(data=tmp_path / "w", environ={"PYTHONPATH": str(packages)})
    session = await fake_scheduler.session()
    properties = {"name": "x", "pid": str(tmp_path / "pid")}
    session.assign(a_job("job-1", type="org.example.Stuck", properties=properties))
    await exists(tmp_path / "pid")
    session.cancel("job-1")
    assert (await session.result("job-1")).outcome.state == outcome_pb2.OUTCOME_STATE_KILLED
    await gone(int((tmp_path / "pid").read_text()))


async def test_a_trigger_of_another_package_is_evaluated_with_the_state_that_it_left(
    fake_scheduler: FakeScheduler, packages: Path, tmp_path: Path
) -> None:
    await fake_scheduler.spawn_worker(data=tmp_path / "w", environ={"PYTHONPATH": str(packages)})
    session = await fake_scheduler.session()
    (tmp_path / "book").write_text("Ada\nBob\n")
    properties = {"book": "{{ vars.book }}"}
    state: dict[str, Any] | None = None
    for job_id, visitors in (("job-1", ["Ada", "Bob"]), ("job-2", None)):
        context = {"vars": {"book": str(tmp_path / "book")}, "trigger": {"id": "t", "state": state}}
        session.assign(a_job(job_id, type="org.example.Visitors", properties=properties, context=context))
        outcome = MessageToDict((await session.result(job_id)).outcome)
        assert outcome["state"] == "OUTCOME_STATE_SUCCESS", outcome
        assert outcome["outputs"]["fired"] is (visitors is not None)
        assert outcome["outputs"].get("variables") == (visitors and {"visitors": visitors})
        assert outcome["outputs"]["message"] == f"{len(visitors or [])} visitors"
        state = outcome["outputs"]["state"]


async def test_a_task_runner_of_another_package_runs_scripts_and_says_what_is_wrong(
    fake_scheduler: FakeScheduler, packages: Path
) -> None:
    await fake_scheduler.spawn_worker(data=fake_scheduler.folder / "w", environ={"PYTHONPATH": str(packages)})
    session = await fake_scheduler.session()
    assert "org.example.Here" in session.hello.task_types
    for number, (runner, reason, message) in enumerate(
        [
            ({"type": "org.example.Here", "times": 2}, "NONZERO_EXIT", "the commands ended with exit code 4"),
            ({"type": "org.example.Here", "times": "x"}, "INVALID_PROPERTIES", "taskRunner.times: is a number"),
            ({"type": "org.example.Here", "times": -1}, "START_FAILED", "it can't run less than never"),
            ({"type": "org.example.Nowhere"}, "START_FAILED", "No module named 'no_such_module'"),
            ({"type": "org.example.Hree"}, "INVALID_PROPERTIES", "did you mean org.example.Here"),
        ]
    ):
        properties = {"commands": ["cat a", "exit 4"], "inputFiles": {"a": "x\n"}, "taskRunner": runner}
        session.assign(a_job(f"job-{number}", properties=properties))
        outcome = (await session.result(f"job-{number}")).outcome
        assert (outcome.reason, message in outcome.message) == (reason, True), outcome.message
    assert await fake_scheduler.log_reaches("job-0", 2) == ["x", "x"]
