"""A worker evaluates polling triggers: whole, over real gRPC, with properties that are rendered just before."""

from pathlib import Path

from google.protobuf.json_format import MessageToDict

from farhand.api.types.v1 import outcome_pb2
from tests.fixtures.fake_scheduler import FakeScheduler, a_job
from tests.fixtures.http_server import Server, answer

HTTP = "io.kestra.plugin.core.http.Trigger"
LOCAL = "io.kestra.plugin.fs.local.Trigger"
SUCCESS = outcome_pb2.OUTCOME_STATE_SUCCESS
FAILED = outcome_pb2.OUTCOME_STATE_FAILED
KILLED = outcome_pb2.OUTCOME_STATE_KILLED


async def test_the_condition_alone_is_rendered_when_the_answer_is_there(
    fake_scheduler: FakeScheduler, http_server: Server
) -> None:
    http_server.answers["/status"] = answer(b"ready")
    await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    assert {HTTP, LOCAL} <= set(session.hello.task_types)
    properties = {
        "uri": "{{ vars.site }}/status",
        "responseCondition": "{{ response.body == vars.wanted and trigger.id == 't' }}",
    }
    context = {"vars": {"site": http_server.uri, "wanted": "ready"}, "trigger": {"id": "t", "state": None}}
    session.assign(a_job("job-1", type=HTTP, properties=properties, context=context))
    result = await session.result("job-1")
    assert result.outcome.state == SUCCESS, result.outcome.message
    assert MessageToDict(result.outcome.outputs)["fired"] is True


async def test_files_are_stored_for_the_execution_and_their_copies_are_gone(
    fake_scheduler: FakeScheduler, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("1,2")
    await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    context = {"trigger": {"id": "t", "state": None}}
    session.assign(a_job("job-1", type=LOCAL, properties={"from": str(tmp_path / "in")}, context=context))
    result = await session.result("job-1")
    assert result.outcome.state == SUCCESS, result.outcome.message
    (file,) = MessageToDict(result.outcome.outputs)["variables"]["files"]
    assert file["name"] == "a.csv" and file["uri"].endswith("/a.csv")
    await session.until(lambda: not list((tmp_path / "worker-0" / "jobs").iterdir()))


async def test_a_pattern_that_never_ends_is_killed_and_the_worker_goes_on(
    fake_scheduler: FakeScheduler, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / ("a" * 60 + "b")).write_text("x")
    await fake_scheduler.run_worker(slots=1)
    session = await fake_scheduler.session()
    context = {"trigger": {"id": "t", "state": None}}
    properties = {"from": str(tmp_path / "in"), "regExp": "(a+)+"}
    session.assign(a_job("job-1", type=LOCAL, properties=properties, context=context, timeout=0.2))
    result = await session.result("job-1")
    assert (result.outcome.state, result.outcome.reason) == (FAILED, "TIMEOUT")
    session.assign(a_job("job-2", "true"))
    assert (await session.result("job-2")).outcome.state == SUCCESS
