"""Secret inputs over the wire: who is given them, what is answered instead, and what comes of a missing key."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from farhand.api.scheduler.v1 import execution_service_pb2, job_service_pb2
from farhand.api.types.v1.outcome_pb2 import OUTCOME_STATE_FAILED
from farhand.runtime.security import LOCAL
from farhand.runtime.wire import plain
from farhand.scheduler.core import declared as core
from farhand.scheduler.rpc.execution_orders import read_order
from tests.fixtures.fake_registry import FakeRegistry
from tests.fixtures.scheduler_service import a_scheduler
from tests.fixtures.scheduler_with_flows import Flows, a_flow, noop, state_of, states
from tests.rpc.refusal import refused

KEY, OTHER_KEY = (base64.b64encode(bytes([letter]) * 32).decode() for letter in b"ko")
INPUTS = """inputs:
  - {id: token, type: SECRET}
  - {id: pin, type: SECRET, required: false}
  - {id: who, type: STRING}
"""
GIVEN = {"token": "t0ken-needle", "who": "ada"}


@pytest.fixture
async def secretive(fresh_database: str, registry: FakeRegistry) -> AsyncIterator[Flows]:
    """Flows on a scheduler that has a key."""
    await registry.declare(core.Tenant("other"), core.Group("u-gpu", "gpu"))
    async with a_scheduler(fresh_database, registry=registry.address, secrets_key=KEY) as scheduler:
        yield Flows(registry, scheduler)


def naming(*tasks: str) -> str:
    """A flow of tasks, id=TEMPLATE each."""
    lines = (task.partition("=") for task in tasks)
    return a_flow("".join(noop(id, f'payload: "{template}"') for id, _, template in lines), more=INPUTS)


async def test_the_tasks_that_name_a_secret_get_it_and_nobody_else_does(secretive: Flows) -> None:
    source = naming("first={{ inputs.token }} {{ inputs.pin }}", "second={{ inputs.who }}", "third={{ inputs }}")
    created = await secretive.create(source, inputs={**GIVEN, "pin": "p1n-needle"})
    assert plain(created.inputs) == {"token": "***", "pin": "***", "who": "ada"}
    worker = await secretive.worker()
    first, second, third = [await worker.end() for _ in range(3)]
    assert dict(first.secret_inputs) == {"token": "t0ken-needle", "pin": "p1n-needle"}
    assert plain(first.task.context) == {"inputs": {"token": "***", "pin": "***"}}
    assert dict(second.secret_inputs) == {}
    assert dict(third.secret_inputs) == {"token": "t0ken-needle", "pin": "p1n-needle"}
    ended = await secretive.ended(created.id)
    assert state_of(ended) == "SUCCESS"
    jobs = [
        (await secretive.scheduler.jobs.GetJob(job_service_pb2.GetJobRequest(id=run.job_id))).job
        for run in ended.task_runs
    ]
    listed = await secretive.stub.ListExecutions(execution_service_pb2.ListExecutionsRequest())
    for message in (created, ended, listed, *jobs):
        assert b"needle" not in message.SerializeToString()


async def test_a_secret_that_is_not_given_is_null(secretive: Flows) -> None:
    created = await secretive.create(naming("only={{ inputs.token }}{{ inputs.pin }}"), inputs=GIVEN)
    assert plain(created.inputs) == {"token": "***", "pin": None, "who": "ada"}
    assignment = await (await secretive.worker()).end()
    assert dict(assignment.secret_inputs) == {"token": "t0ken-needle"}
    assert plain(assignment.task.context) == {"inputs": {"token": "***", "pin": None}}


async def test_a_job_that_comes_back_gets_its_secrets_again(secretive: Flows) -> None:
    created = await secretive.create(naming("only={{ inputs.token }}"), inputs=GIVEN)
    first = await secretive.worker(worker_id="first")
    [lost] = await first.hand.assignments()
    await first.hand.send(goodbye={})
    assert dict(lost.secret_inputs) == {"token": "t0ken-needle"}
    again = await (await secretive.worker(worker_id="second")).end()
    assert dict(again.secret_inputs) == {"token": "t0ken-needle"}
    assert state_of(await secretive.ended(created.id)) == "SUCCESS"


async def test_without_a_key_no_secret_is_taken_and_the_error_says_what_to_do(flows: Flows) -> None:
    id = flows.save(naming("only={{ inputs.token }}"))
    told = await refused(flows.run(id, inputs=GIVEN, request_id="r"))
    assert told.reason == "SECRETS_NEED_KEY"
    assert "(token)" in told.message and "openssl rand -base64 32" in told.message and "needle" not in told.message
    assert not (await flows.stub.ListExecutions(execution_service_pb2.ListExecutionsRequest())).executions


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "is required: a secret text"),
        (12345678, "must be a secret text, not a number"),
        (["needle"], "must be a secret text, not a list"),
        ("abc", "is too short for a secret"),
        ("  ab   ", "is too short for a secret"),
        ("needle\0needle", "must not hold a NUL character"),
    ],
)
async def test_what_is_no_secret_is_refused_and_not_told(secretive: Flows, value: Any, said: str) -> None:
    id = secretive.save(naming("only={{ inputs.token }}"))
    told = await refused(secretive.run(id, inputs={**GIVEN, "token": value}))
    [violation] = told.violations
    assert violation.path == "inputs.token" and said in violation.description
    for text in ("needle", "12345678", "abc", "'ab"):
        assert text not in told.message


async def test_a_request_is_the_same_only_with_the_same_secrets(secretive: Flows) -> None:
    id = secretive.save(naming("only={{ inputs.token }}"))
    first = await secretive.run(id, inputs=GIVEN, request_id="r")
    await secretive.registry.stop()
    assert (await secretive.run(id, inputs=GIVEN, request_id="r")).id == first.id
    for other in ({"token": "t0ken-needl3"}, {"pin": "p1n-needle"}, {"who": "bob"}):
        told = await refused(secretive.run(id, inputs={**GIVEN, **other}, request_id="r"))
        assert told.reason == "REQUEST_ID_REUSED" and "need" not in told.message.replace("needs", "")


def test_a_request_s_hash_says_nothing_of_a_secret() -> None:
    def body_hash(token: str, who: str, *secrets: str) -> bytes:
        request = execution_service_pb2.CreateExecutionRequest(namespace="company", flow_id="flow", request_id="r")
        request.inputs.update({"token": token, "who": who})
        return read_order(request, LOCAL, "").request.body_hash(frozenset(secrets))

    assert body_hash("one", "ada", "token") == body_hash("another", "ada", "token")
    assert body_hash("one", "ada", "token") != body_hash("one", "bob", "token")
    assert body_hash("one", "ada") != body_hash("another", "ada")


async def test_a_secret_that_can_t_be_read_fails_its_job_alone_and_says_why(
    secretive: Flows, fresh_database: str
) -> None:
    tampered = await secretive.create(naming("only={{ inputs.token }}"), inputs=GIVEN)
    fine = await secretive.create(naming("only={{ inputs.token }}"), inputs=GIVEN)
    connection = await asyncpg.connect(fresh_database)
    try:
        await connection.execute(
            """UPDATE scheduler.secret_input SET sealed = set_byte(sealed, 30, get_byte(sealed, 30) # 1)
               WHERE execution_key = (SELECT min(key) FROM scheduler.execution)"""
        )
    finally:
        await connection.close()
    await secretive.until(fine.id, "RUNNING")
    worker = await secretive.worker()
    assignment = await worker.end()
    assert dict(assignment.secret_inputs) == {"token": "t0ken-needle"}
    assert state_of(await secretive.ended(fine.id)) == "SUCCESS"
    ended = await secretive.ended(tampered.id)
    assert (state_of(ended), states(ended)) == ("FAILED", {"only": "FAILED"})
    [run] = ended.task_runs
    assert run.reason == "SECRET_UNREADABLE"
    assert f"The secret input 'token' of execution {tampered.id} can't be read: it was changed" in run.message


async def test_with_another_key_the_job_fails_and_the_key_is_named(
    secretive: Flows, registry: FakeRegistry, fresh_database: str
) -> None:
    created = await secretive.create(naming("only={{ inputs.token }}"), inputs=GIVEN)
    await secretive.until(created.id, "RUNNING")
    async with a_scheduler(fresh_database, registry=registry.address, secrets_key=OTHER_KEY) as other:
        there = Flows(registry, other)
        await there.worker()
        ended = await there.ended(created.id)
        [run] = ended.task_runs
        assert run.reason == "SECRET_UNREADABLE" and "--secrets-key-file" in run.message
        told = await refused(there.run("flow", inputs=GIVEN))
        assert told.reason == "SECRETS_NEED_KEY" and "which this scheduler was not given" in told.message


async def test_restarts_and_replays_take_secrets_over(secretive: Flows, fresh_database: str) -> None:
    source = naming("only={{ inputs.token }} {{ inputs.pin }}")
    first = await secretive.create(source, inputs={**GIVEN, "pin": "p1n-needle"})
    worker = await secretive.worker()
    await worker.end(OUTCOME_STATE_FAILED)
    await secretive.ended(first.id)
    restart = execution_service_pb2.RestartExecutionRequest(id=first.id, request_id="restart")
    restarted = (await secretive.stub.RestartExecution(restart)).execution
    assert plain(restarted.inputs) == {"token": "***", "pin": "***", "who": "ada"}
    assert dict((await worker.end()).secret_inputs) == {"token": "t0ken-needle", "pin": "p1n-needle"}
    assert (await secretive.stub.RestartExecution(restart)).execution.id == restarted.id

    def replay(**inputs: str) -> execution_service_pb2.ReplayExecutionRequest:
        request = execution_service_pb2.ReplayExecutionRequest(id=first.id, request_id="replay")
        request.inputs.update(inputs)
        return request

    replayed = (await secretive.stub.ReplayExecution(replay(pin="another pin"))).execution
    assert dict((await worker.end()).secret_inputs) == {"token": "t0ken-needle", "pin": "another pin"}
    assert (await secretive.stub.ReplayExecution(replay(pin="another pin"))).execution.id == replayed.id
    for other in ({"pin": "p1n-needle"}, {}):
        told = await refused(secretive.stub.ReplayExecution(replay(**other)))
        assert told.reason == "REQUEST_ID_REUSED"
    connection = await asyncpg.connect(fresh_database)
    try:
        kept = "".join(str(row) for row in await connection.fetch("SELECT e::text FROM scheduler.execution e"))
    finally:
        await connection.close()
    assert "needle" not in kept and "another pin" not in kept


async def test_a_secret_is_not_taken_over_by_an_input_that_is_none(secretive: Flows) -> None:
    """Another revision of the flow shows what it is given under the same name."""
    first = await secretive.create(naming("only={{ inputs.token }}"), inputs=GIVEN)
    await (await secretive.worker()).end()
    await secretive.ended(first.id)
    secretive.save(naming("only={{ inputs.token }}").replace("token, type: SECRET", "token, type: STRING"))
    request = execution_service_pb2.ReplayExecutionRequest(id=first.id, flow_revision=2)
    told = await refused(secretive.stub.ReplayExecution(request))
    assert [violation.path for violation in told.violations] == ["inputs.token"]
    assert "is required" in told.message and "needle" not in told.message
