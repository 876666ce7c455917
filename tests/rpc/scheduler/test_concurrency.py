"""Flows that bound how many of their executions run at a time, over the scheduler's API."""

import pytest

from farhand.api.scheduler.v1.execution_service_pb2 import ListExecutionsRequest
from tests.fixtures.scheduler_with_flows import Flows, a_flow, noop, state_of


def limited(most: int, behavior: str) -> str:
    return a_flow(noop("only"), more=f"concurrency: {{limit: {most}, behavior: {behavior}}}\n")


async def test_one_at_a_time_and_the_others_say_how_many_are_before_them(flows: Flows) -> None:
    worker = await flows.worker()
    id = flows.save(limited(1, "QUEUE"))
    first, second, third = [await flows.run(id) for _ in range(3)]
    says = "It waits for its turn: its flow allows 1 execution at a time (concurrency.limit), and "
    assert (state_of(second), second.message) == ("CREATED", says + "it is the next to begin.")
    assert third.message == says + "1 waits before it."
    listed = (await flows.stub.ListExecutions(ListExecutionsRequest())).executions
    assert [each.message for each in listed] == [third.message, second.message, ""]
    await worker.end()
    assert state_of(await flows.ended(first.id)) == "SUCCESS"
    assert state_of(await flows.until(second.id, "RUNNING")) == "RUNNING"
    assert (await flows.get(third.id)).message == says + "it is the next to begin."
    await worker.end()
    await worker.end()
    ended = [await flows.ended(each.id) for each in (second, third)]
    assert [state_of(each) for each in ended] == ["SUCCESS", "SUCCESS"] and not ended[1].message
    assert ended[1].task_runs[0].create_time.ToDatetime() >= ended[0].end_time.ToDatetime()


async def test_the_kill_of_one_that_runs_begins_the_next_and_of_one_that_waits_none(flows: Flows) -> None:
    id = flows.save(limited(1, "QUEUE"))
    first, second, third, fourth = [await flows.run(id) for _ in range(4)]
    killed = await flows.kill(second.id)
    assert (state_of(killed), killed.message) == ("KILLED", "A kill was asked for while it waited for its turn.")
    assert state_of(await flows.get(third.id)) == "CREATED"
    await flows.kill(first.id)
    assert state_of(await flows.ended(first.id)) == "KILLED"
    await flows.until(third.id, "RUNNING")
    assert state_of(await flows.get(fourth.id)) == "CREATED"


@pytest.mark.parametrize(("behavior", "state"), [("FAIL", "FAILED"), ("CANCEL", "KILLED")])
async def test_one_too_many_has_ended_when_its_creation_is_answered(flows: Flows, behavior: str, state: str) -> None:
    id = flows.save(limited(1, behavior))
    await flows.run(id)
    refused = await flows.run(id, request_id="twice")
    assert (state_of(refused), len(refused.task_runs), len(refused.history)) == (state, 0, 2)
    assert refused.message.endswith(f"1 runs, and its concurrency.behavior is {behavior}.")
    assert refused.end_time == refused.create_time
    assert (await flows.run(id, request_id="twice")).id == refused.id
    assert state_of(await flows.ended(refused.id)) == state


async def test_a_newer_revision_that_allows_more_lets_more_begin(flows: Flows) -> None:
    id = flows.save(limited(1, "QUEUE"))
    first, second, third = [await flows.run(id) for _ in range(3)]
    await flows.until(first.id, "RUNNING")
    flows.save(limited(2, "QUEUE"))
    await flows.until(second.id, "RUNNING")  # by the leader's poll; nobody creates another
    assert state_of(await flows.get(third.id)) == "CREATED"
