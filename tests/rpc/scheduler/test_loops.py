"""Loops in the scheduler's API: what their rounds are given, what they may name, what a step of a long one reads."""

from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from farhand.api.scheduler.v1 import execution_pb2, execution_service_pb2
from farhand.api.types.v1.outcome_pb2 import OUTCOME_STATE_FAILED
from farhand.api.worker.v1 import session_pb2 as pb
from farhand.runtime.wire import plain
from farhand.scheduler.core import execution_step
from farhand.scheduler.loops import moving
from tests.fixtures.scheduler_with_flows import Flows, FlowWorker, a_flow, indented, noop, run_state, state_of

CORE = "io.kestra.plugin.core.flow"


def for_each(id: str, values: str, tasks: str, limit: int = 1) -> str:
    """A loop around tasks that are indented by two."""
    head = f"  - id: {id}\n    type: {CORE}.ForEach\n    values: {values}\n    concurrencyLimit: {limit}\n"
    return f"{head}    tasks:\n{indented(tasks)}"


def payload(id: str, *texts: str) -> str:
    """A leaf that names things."""
    lines = "".join(f'\n  - "{text}"' for text in texts)
    return noop(id, f"payload:{lines}")


def contexts(assignments: Sequence[pb.Assignment]) -> list[dict[str, Any]]:
    return [plain(assignment.task.context) for assignment in assignments]


def rounds(execution: execution_pb2.Execution) -> list[tuple[str, str, str]]:
    return [(run.task_id, run.iteration, run_state(run)) for run in execution.task_runs]


async def end_all(worker: FlowWorker, count: int, **outputs: Any) -> None:
    for assignment in await worker.hand.assignments(count):
        await worker.report(assignment, outputs=outputs or None)


async def test_each_round_is_given_its_value_and_sees_its_own_runs(flows: Flows) -> None:
    inside = payload("make", "{{ taskrun.value.name }}") + payload(
        "use", "{{ outputs.make.id }} {{ outputs.first.id }} {{ taskrun.value }} {{ taskrun.iteration }}"
    )
    source = a_flow(
        noop("first")
        + for_each("each", '"{{ inputs.list }}"', inside)
        + payload("after", "{{ outputs.make }}", "{{ outputs.use['1'].id }}"),
        more="inputs: [{id: list, type: ARRAY}]\n",
    )
    values = [{"name": "x"}, {"name": "y"}]
    execution = await flows.create(source, inputs={"list": values})
    worker = await flows.worker()
    await worker.end(outputs={"id": "first"})
    seen = [(await worker.end(outputs={"id": id})).task for id in ("make 0", "use 0", "make 1", "use 1", "after")]
    found = [plain(task.context) for task in seen]
    assert [found[0], found[2]] == [{"taskrun": {"value": {"name": "x"}}}, {"taskrun": {"value": {"name": "y"}}}]
    for number in (0, 1):
        assert found[2 * number + 1] == {
            "outputs": {"make": {"id": f"make {number}"}, "first": {"id": "first"}},
            "taskrun": {"value": values[number], "iteration": number},
        }
    assert found[4] == {
        "outputs": {"make": {"0": {"id": "make 0"}, "1": {"id": "make 1"}}, "use": {"1": {"id": "use 1"}}}
    }
    ended = await flows.ended(execution.id)
    assert rounds(ended) == [
        ("first", "", "SUCCESS"),
        ("each", "", "SUCCESS"),
        ("make", "0", "SUCCESS"),
        ("use", "0", "SUCCESS"),
        ("make", "1", "SUCCESS"),
        ("use", "1", "SUCCESS"),
        ("after", "", "SUCCESS"),
    ]
    by_task = {run.task_id: run for run in ended.task_runs}
    assert by_task["each"].rounds == 2 and not by_task["make"].HasField("rounds")
    assert by_task["make"].parent_task_id == "each"


async def test_in_loops_in_loops_the_rounds_that_both_stand_in_are_the_same(flows: Flows) -> None:
    inner = for_each("inner", "'{{ taskrun.value.list }}'", payload("leaf", "{{ outputs.before.id }}"), 0)
    names = "{{ taskrun.value }} {{ parent.taskrun.value }} {{ parents[1] }} {{ outputs.leaf }} {{ outputs.before.id }}"
    choose = f"  - id: maybe\n    type: {CORE}.If\n    condition: '{{{{ outputs.leaf[\"0\"].id }}}}'\n    then:\n"
    outer = noop("before") + inner + choose + indented(payload("last", names))
    source = a_flow(for_each("outer", "[{list: [1]}, {list: [2, 3]}]", outer) + payload("after", "{{ outputs.leaf }}"))
    execution = await flows.create(source)
    worker = await flows.worker()
    for number, count in ((0, 1), (1, 2)):
        await worker.end(outputs={"id": f"before {number}"})
        leaves = await worker.hand.assignments(count)
        assert contexts(leaves) == [{"outputs": {"before": {"id": f"before {number}"}}}] * count
        for index, leaf in enumerate(leaves):
            await worker.report(leaf, outputs={"id": f"leaf {number}/{index}"})
        last = await worker.end()
        value = {"list": [[1], [2, 3]][number]}
        assert contexts([last]) == [
            {
                "taskrun": {"value": value},
                "parent": {"taskrun": {"value": value}},  # the If stands in the round
                "parents": [{"taskrun": {"value": value, "iteration": number}}, {"taskrun": {}}],
                "outputs": {
                    "before": {"id": f"before {number}"},
                    "leaf": {str(index): {"id": f"leaf {number}/{index}"} for index in range(count)},
                },
            }
        ]
    after = await worker.end()
    assert contexts([after]) == [
        {"outputs": {"leaf": {"0": {"0": {"id": "leaf 0/0"}}, "1": {"0": {"id": "leaf 1/0"}, "1": {"id": "leaf 1/1"}}}}}
    ]
    assert state_of(await flows.ended(execution.id)) == "SUCCESS"


async def test_variables_hold_expressions_that_are_rendered_where_they_are_used(flows: Flows) -> None:
    more = (
        "inputs: [{id: name, type: STRING}]\nvariables:\n  greeting: 'Hello {{ vars.who }}'\n"
        "  who: '{{ inputs.name }} {{ outputs.first.id }}'\n  list: '[\"{{ inputs.name }}\", 2]'\n"
    )
    source = a_flow(
        noop("first")
        + for_each("each", "'{{ vars.list }}'", payload("leaf", "{{ vars.greeting }} {{ taskrun.value }}"), 0),
        more=more,
    )
    execution = await flows.create(source, inputs={"name": "{{ envs.HOME }}"})
    worker = await flows.worker()
    await worker.end(outputs={"id": "first"})
    found = contexts(await worker.hand.assignments(2))
    assert [each["taskrun"]["value"] for each in found] == ["{{ envs.HOME }}", 2]  # a value is no expression
    assert found[0]["vars"] == {
        "greeting": "Hello {{ vars.who }}",
        "who": "{{ inputs.name }} {{ outputs.first.id }}",
    }
    assert found[0]["inputs"] == {"name": "{{ envs.HOME }}"} and found[0]["outputs"] == {"first": {"id": "first"}}
    await flows.kill(execution.id)


NO_LIST = "values must come to a JSON list such as [1, 2]"


@pytest.mark.parametrize(
    ("values", "reason", "message"),
    [
        ("inputs.nix", "EXPRESSION_FAILED", "values: `inputs.nix` is not defined; inputs has text"),
        (
            "inputs.text",
            "INVALID_VALUES",
            f"{NO_LIST}; what it came to is no JSON: expecting value (line 1, column 1).",
        ),
        ("5", "INVALID_VALUES", f"{NO_LIST}, not to a number."),
    ],
)
async def test_values_that_are_no_list_fail_their_loop(flows: Flows, values: str, reason: str, message: str) -> None:
    loop = for_each("each", f"'{{{{ {values} }}}}'", noop("leaf"))
    execution = await flows.create(a_flow(loop, more="inputs: [{id: text, type: STRING, defaults: abc}]\n"))
    [each] = (await flows.ended(execution.id)).task_runs
    assert (run_state(each), each.reason, each.message) == ("FAILED", reason, message)


async def test_of_a_loop_without_rounds_the_outputs_are_an_empty_map(flows: Flows) -> None:
    loop = for_each("outer", "[x]", for_each("each", "[]", noop("leaf")) + payload("last", "{{ outputs.leaf }}"))
    execution = await flows.create(a_flow(loop + payload("after", "{{ outputs.leaf | json }}")))
    worker = await flows.worker()
    found = [await worker.end(), await worker.end()]
    assert contexts(found) == [{"outputs": {"leaf": {}}}] * 2
    assert state_of(await flows.ended(execution.id)) == "SUCCESS"


async def test_a_loop_of_too_many_rounds_is_refused(flows: Flows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farhand.scheduler.core.preparation.MOST_ROUNDS", 2)
    execution = await flows.create(a_flow(for_each("each", "'[1, 2, {{ 3 }}]'", noop("leaf"))))
    [each] = (await flows.ended(execution.id)).task_runs
    assert (each.reason, each.message) == (
        "TOO_MANY_ROUNDS",
        "values came to 3; a loop has at most 2 rounds. Give each more to do.",
    )


async def test_a_step_reads_no_round_that_is_over(flows: Flows) -> None:
    source = a_flow(for_each("each", "[0, 1, 2]", noop("a") + noop("b"), 2) + payload("after", "{{ outputs.b }}"))
    execution = await flows.create(source)
    worker = await flows.worker()
    first, second = await worker.hand.assignments(2)
    await worker.report(second)
    await worker.end(outputs={"id": "b 1"})
    [third] = await worker.hand.assignments()  # round 2 has begun
    connection = await asyncpg.connect(flows.scheduler.database)
    rows = await connection.fetch("SELECT task_id, iteration FROM scheduler.task_run WHERE NOT round_over ORDER BY key")
    assert [tuple(row) for row in rows] == [("each", ""), ("a", "0"), ("a", "2")]
    assert await connection.fetchval("SELECT runs_over FROM scheduler.execution") == 2
    await worker.report(first)
    await worker.report(third)
    await end_all(worker, 2, id="late")
    assert contexts([await worker.end()]) == [
        {"outputs": {"b": {"0": {"id": "late"}, "1": {"id": "b 1"}, "2": {"id": "late"}}}}
    ]
    assert len((await flows.ended(execution.id)).task_runs) == 8
    assert await connection.fetchval("SELECT runs_over FROM scheduler.execution") == 6  # each was put away once
    await connection.close()


async def test_a_long_loop_that_needs_no_worker_is_done_in_portions(
    flows: Flows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "BEGINS_AT_ONCE", 3)
    maybe = f"  - id: maybe\n    type: {CORE}.If\n    condition: 'false'\n    then:\n" + indented(noop("leaf"))
    execution = await flows.create(a_flow(for_each("each", str(list(range(20))), maybe)))
    ended = await flows.ended(execution.id)
    assert state_of(ended) == "SUCCESS" and len(ended.task_runs) == 21


async def test_an_execution_makes_a_bounded_number_of_task_runs(flows: Flows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution_step, "MOST_TASK_RUNS", 8)
    maybe = f"  - id: maybe\n    type: {CORE}.If\n    condition: 'false'\n    allowFailure: true\n    then:\n"
    source = a_flow(
        for_each("each", str(list(range(20))), maybe + indented(noop("leaf"))),
        more="errors:\n" + noop("alarm"),
    )
    execution = await flows.create(source)
    await (await flows.worker()).end()
    ended = await flows.ended(execution.id)
    assert state_of(ended) == "FAILED" and len(ended.task_runs) == 9
    assert "an execution makes no more" in ended.message


async def test_the_log_of_a_round_says_which_it_is(flows: Flows) -> None:
    inside = noop("leaf", 'workerGroup: {key: "{{ taskrun.value }}"}\nallowFailure: true')
    execution = await flows.create(a_flow(for_each("each", "[nix, nax]", inside)))
    await flows.ended(execution.id)
    answers = flows.stub.TailExecutionLogs(execution_service_pb2.TailExecutionLogsRequest(id=execution.id))
    assert [(answer.task_id, answer.iteration) async for answer in answers] == [("leaf", "0"), ("leaf", "1")]


async def test_a_failed_round_stops_its_loop(flows: Flows) -> None:
    execution = await flows.create(a_flow(for_each("each", "[1, 2]", noop("leaf"))))
    await (await flows.worker()).end(OUTCOME_STATE_FAILED, message="no space")
    ended = await flows.ended(execution.id)
    assert (state_of(ended), ended.message) == ("FAILED", "Task 'leaf' in round 0 failed: no space")


async def test_a_restart_goes_over_the_same_values_and_runs_the_rounds_that_did_not_end_well(flows: Flows) -> None:
    inside = payload("leaf", "{{ taskrun.value }}") + noop("more")
    source = a_flow(for_each("each", "'[{{ 5 }}, 6, 7]'", inside, 2) + payload("after", "{{ outputs.leaf }}"))
    execution = await flows.create(source)
    worker = await flows.worker()
    first, second = await worker.hand.assignments(2)
    await worker.report(second, outputs={"id": 1})
    [more] = await worker.hand.assignments()
    await worker.report(first, OUTCOME_STATE_FAILED)
    await worker.report(more)
    failed = await flows.ended(execution.id)
    assert ("leaf", "2", "CREATED") not in rounds(failed) and state_of(failed) == "FAILED"
    request = execution_service_pb2.RestartExecutionRequest(id=execution.id)
    again = (await flows.stub.RestartExecution(request)).execution
    begun = await worker.hand.assignments(2)
    assert [context["taskrun"]["value"] for context in contexts(begun)] == [5, 7]
    for assignment in begun:
        await worker.report(assignment, outputs={"id": "again"})
    await end_all(worker, 2)
    assert contexts([await worker.end()]) == [
        {"outputs": {"leaf": {"0": {"id": "again"}, "1": {"id": 1}, "2": {"id": "again"}}}}
    ]
    ended = await flows.ended(again.id)
    assert state_of(ended) == "SUCCESS" and len(ended.task_runs) == 8
