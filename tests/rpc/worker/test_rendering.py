"""A worker renders the templates of a task that has a context, just before its start."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from farhand.api.types.v1 import log_record_pb2, outcome_pb2
from tests.fixtures.fake_scheduler import NOOP, FakeScheduler, FakeSession, a_job

RETURN = "io.kestra.plugin.core.debug.Return"
SUCCESS = outcome_pb2.OUTCOME_STATE_SUCCESS
FAILED = outcome_pb2.OUTCOME_STATE_FAILED
KILLED = outcome_pb2.OUTCOME_STATE_KILLED


async def a_worker(fake_scheduler: FakeScheduler, **settings: Any) -> FakeSession:
    await fake_scheduler.run_worker(**settings)
    return await fake_scheduler.session()


async def returned(session: FakeSession, format: str, context: dict[str, Any] | None, job_id: str = "job-1") -> Any:
    session.assign(a_job(job_id, type=RETURN, properties={"format": format}, context=context))
    result = await session.result(job_id)
    assert result.outcome.state == SUCCESS, result.outcome.message
    return MessageToDict(result.outcome.outputs)["value"]


async def test_properties_are_rendered_with_what_came_along(fake_scheduler: FakeScheduler) -> None:
    session = await a_worker(fake_scheduler)
    properties = {
        "commands": ["echo {{ inputs.name }} $N", "echo {{ outputs['first-task'].value | upper }}"],
        "env": {"N": "{{ inputs.n + 1 }}"},
        "failFast": "{{ inputs.n > 5 }}",
    }
    context = {"inputs": {"name": "Ada", "n": 3}, "outputs": {"first-task": {"value": "x"}}}
    session.assign(a_job("job-1", properties=properties, context=context))
    result = await session.result("job-1")
    assert result.outcome.state == SUCCESS, result.outcome.message
    assert await fake_scheduler.log_reaches("job-1", 2) == ["Ada 4", "X"]


async def test_without_a_context_properties_are_taken_as_they_are(fake_scheduler: FakeScheduler) -> None:
    session = await a_worker(fake_scheduler)
    assert await returned(session, "{{ inputs.name }} {% x %}", None) == "{{ inputs.name }} {% x %}"
    assert await returned(session, "{{ 1 + 1 }}", {}, "job-2") == "2"


async def test_expressions_see_the_workers_environment_and_none_of_its_secrets(
    fake_scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLS", "/opt/tools")
    monkeypatch.setenv("FARHAND_TOKEN", "secret-of-the-worker")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "secret-of-the-worker")
    session = await a_worker(fake_scheduler)
    assert await returned(session, "{{ envs.TOOLS }}", {"envs": {"TOOLS": "another's"}}) == "/opt/tools"
    everything = await returned(session, "{{ envs | keys | join(' ') }} {{ envs }}", {}, "job-2")
    assert "FARHAND_" not in everything and "OTEL_" not in everything and "secret-of-the-worker" not in everything


async def test_a_missing_name_fails_the_job_and_is_named_with_what_is_there(fake_scheduler: FakeScheduler) -> None:
    session = await a_worker(fake_scheduler)
    context = {"inputs": {"name": "Ada", "size": 3}}
    session.assign(a_job("job-1", "echo {{ inputs.nmae }}", context=context))
    result = await session.result("job-1")
    message = (
        "commands[0]: `inputs.nmae` is not defined; inputs has name, size. Did you mean `inputs.name`?"
    )  # fmt: skip
    assert (result.outcome.state, result.outcome.reason) == (FAILED, "EXPRESSION_FAILED")
    assert result.outcome.message == message
    await fake_scheduler.log_reaches("job-1", 1)
    (record,) = fake_scheduler.logs["job-1", 1]
    assert (record.text, record.level) == (message, log_record_pb2.LOG_LEVEL_ERROR)
    assert record.stream == log_record_pb2.LOG_STREAM_SYSTEM


async def test_what_is_rendered_is_what_is_validated(fake_scheduler: FakeScheduler) -> None:
    session = await a_worker(fake_scheduler)
    job = a_job("job-1", type="io.kestra.plugin.core.flow.Sleep", properties={"duration": "{{ inputs.d }}"})
    job.task.context.update({"inputs": {"d": "soon"}})
    session.assign(job)
    assert (await session.result("job-1")).outcome.message.startswith("duration: 'soon' is not a duration")
    job.job_id = "job-2"
    job.task.context.update({"inputs": {"d": "PT0S"}})
    session.assign(job)
    assert (await session.result("job-2")).outcome.state == SUCCESS


async def test_an_instant_task_is_rendered_too(fake_scheduler: FakeScheduler) -> None:
    session = await a_worker(fake_scheduler)
    session.assign(
        a_job("job-1", type=NOOP, properties={"payload": "{{ inputs.a }}"}, context={"inputs": {"a": 1}}),
        a_job("job-2", type=NOOP, properties={"payload": "{{ inputs.b }}"}, context={"inputs": {"a": 1}}),
        a_job("job-3", type=NOOP, properties={"payload": "{{ inputs.b }}"}),
        a_job("job-4", type=NOOP, properties={}, context={}),
        a_job("job-5", type=NOOP, properties={"pay": "{{ inputs.a }}"}, context={"inputs": {"a": 1}}),
    )
    reasons = [(await session.result(f"job-{number}")).outcome.reason for number in range(1, 6)]
    assert reasons == ["", "EXPRESSION_FAILED", "", "", "INVALID_PROPERTIES"]


@pytest.mark.parametrize(
    ("expression", "part"),
    [
        ("'a' * 1000000000", "* takes numbers, not a string"),
        ("9 ** 9 ** 9", "there are no powers"),
        ("inputs.__class__.__mro__", "`inputs.__class__` is not defined"),
        ("inputs.big ~ inputs.big ~ inputs.big", "grows over the limit"),
        ("inputs.big | replace('x', 'xxxx')", "grows over the limit"),
        ("(" * 1000 + ")" * 1000, "brackets may be nested 30 deep"),
        ("inputs", "is not closed"),
    ],
)
async def test_no_expression_harms_the_worker(fake_scheduler: FakeScheduler, expression: str, part: str) -> None:
    session = await a_worker(fake_scheduler)
    text = "{{ 'x" if part == "is not closed" else f"{{{{ {expression} }}}}"
    context = {"inputs": {"big": "x" * 100_000}}
    session.assign(
        a_job("job-1", type=RETURN, properties={"format": text}, context=context), a_job("job-2", "echo other")
    )
    result = await session.result("job-1")
    assert result.outcome.reason == "EXPRESSION_FAILED"
    assert part in result.outcome.message
    assert (await session.result("job-2")).outcome.state == SUCCESS


async def test_while_ten_thousand_texts_are_rendered_others_go_on(fake_scheduler: FakeScheduler) -> None:
    session = await a_worker(fake_scheduler)
    texts = [f"{{{{ inputs.list[{number}] }}}}" for number in range(10_000)]
    context = {"inputs": {"list": [float(number) for number in range(10_000)]}}
    large = a_job("job-1", type=NOOP, properties={"payload": texts}, context=context)
    session.assign(large, a_job("job-2", type=RETURN, properties={"format": "small"}))
    assert (await session.result("job-1")).outcome.state == SUCCESS
    assert list(session.results) == [("job-2", 1), ("job-1", 1)]


async def test_a_rendering_that_is_cancelled_ends_as_killed(fake_scheduler: FakeScheduler) -> None:
    session = await a_worker(fake_scheduler)
    heavy = "{{ inputs.big | replace('x', 'y') | upper | lower | length }}"
    properties = {"payload": [heavy] * 20 + [f"{{{{ {number} }}}}" for number in range(5_000)]}
    session.assign(a_job("job-1", type=NOOP, properties=properties, context={"inputs": {"big": "x" * 100_000}}))
    await session.has_started("job-1")
    session.cancel("job-1")
    assert (await session.result("job-1")).outcome.state == KILLED


async def test_a_type_of_another_package_gets_rendered_properties(
    fake_scheduler: FakeScheduler, packages: Path, tmp_path: Path
) -> None:
    await fake_scheduler.spawn_worker(data=tmp_path / "w", environ={"PYTHONPATH": str(packages), "WHO": "Ada"})
    session = await fake_scheduler.session()
    properties = {"name": "{{ envs.WHO }}", "times": "{{ inputs.n }}"}
    session.assign(a_job("job-1", type="org.example.Greet", properties=properties, context={"inputs": {"n": 2}}))
    result = await session.result("job-1")
    assert MessageToDict(result.outcome.outputs)["greeting"] == "hello Ada, hello Ada"
