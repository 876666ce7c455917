"""Task types of other packages run in processes of their own."""

from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToDict

from farhand.api.types.v1 import outcome_pb2
from farhand.api.worker.v1 import session_pb2 as pb
from tests.fixtures.fake_scheduler import FakeScheduler, a_job
from tests.rpc.worker.gates import exists, gone

MODULE = """
import asyncio, os, time
from farhand.kernel.errors import Violation
from farhand.worker.tasks.base import Outcome, OutcomeState, failed

class Greet:
    type = "org.example.Greet"

    def validate(self, properties):
        return [] if "name" in properties else [Violation("name", "is required")]

    async def run(self, context):
        print("hello", context.properties["name"], context.env["FARHAND_JOB_ID"])
        code = await context.run_process(["sh", "-c", "echo from the shell; exit 4"], env={})
        return Outcome(OutcomeState.SUCCESS, outputs={"code": code, "folder": str(context.folder())})

class Crash(Greet):
    async def run(self, context):
        os._exit(9)

class Raise(Greet):
    async def run(self, context):
        raise RuntimeError("boom")

class Stuck(Greet):
    async def run(self, context):
        with open(context.properties["pid"] + ".new", "w") as file:
            file.write(str(os.getpid()))
        os.rename(file.name, context.properties["pid"])
        time.sleep(600)
"""


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH with a package that adds task types."""
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "greeting.py").write_text(MODULE)
    info = folder / "greeting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
    names = ["Greet", "Crash", "Raise", "Stuck", "Missing"]
    lines = [f"org.example.{name} = greeting:{name}" for name in names]
    (info / "entry_points.txt").write_text("\n".join(["[farhand.tasks]", *lines]))
    return folder


async def run(scheduler: FakeScheduler, packages: Path, type: str, **properties: str) -> pb.Result:
    await scheduler.spawn_worker(data=packages.parent / "w", environ={"PYTHONPATH": str(packages)})
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
    assert sorted(lines) == ["from the shell", "hello you job-1"]


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
