"""What a task run is before its job is queued: group, fallback, context, or why not."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from farhand.kernel.expressions import ExpressionError, render
from farhand.kernel.flow import PluginDefault
from farhand.kernel.resolution import Fallback
from farhand.scheduler.core.declared import Declared, Group, Namespace, Tenant
from farhand.scheduler.core.flow_outline import outline
from farhand.scheduler.core.preparation import (
    Facts,
    FlowPlan,
    Prepared,
    choose_branch,
    loop_values,
    plan_flow,
    prepare,
    too_large,
)
from farhand.scheduler.core.task_run import Refused, RunId
from tests.fixtures.execution_play import START, a_flow


def a_default(type: str, forced: bool = False, **values: Any) -> PluginDefault:
    return PluginDefault.model_validate({"type": type, "forced": forced, "values": values})


DECLARED = Declared.of(
    1,
    [Tenant("main", default_fallback=Fallback.FAIL), Tenant("acme")],
    [Namespace("main", "company", default_worker_group="cpu")],
    [
        Group("u0", ""),
        Group("u1", "cpu"),
        Group("u2", "gpu"),
        Group("u3", "acme-only", frozenset({"acme"})),
        Group("u4", "leaving", deleting=True),
    ],
)
FACTS = Facts(
    tenant="main",
    flow_revision=3,
    execution_id="x0000000000001",
    execution_created_at=START,
    inputs={},
    labels={},
    outputs={},
    run=RunId("a"),
    run_id="t0000000000001",
    run_created_at=START + timedelta(seconds=1, microseconds=2500),
)


def planned(text: str, declared: Declared = DECLARED, tenant: str = "main") -> FlowPlan:
    return plan_flow(a_flow(text), tenant, declared)


def made(text: str, declared: Declared = DECLARED, **facts: Any) -> Prepared:
    found = prepare(planned(text, declared, facts.get("tenant", "main")), replace(FACTS, **facts), declared)
    assert isinstance(found, Prepared), found
    return found


def refused(text: str, declared: Declared = DECLARED, **facts: Any) -> Refused:
    found = prepare(planned(text, declared), replace(FACTS, **facts), declared)
    assert isinstance(found, Refused), found
    return found


# ── group and fallback ──


def test_a_literal_key_of_the_task() -> None:
    job = made("tasks:\n  - {id: a, workerGroup: {key: gpu, fallback: CANCEL, timeout: PT10M}}")
    assert (job.placement.group_uid, job.placement.key, job.key_level) == ("u2", "gpu", "task")
    assert (job.placement.fallback, job.fallback_level) == (Fallback.CANCEL, "task")
    assert job.wait_limit == timedelta(minutes=10)


def test_key_and_fallback_are_inherited_apart() -> None:
    job = made("tasks:\n  - {id: a}")
    assert (job.placement.key, job.key_level) == ("cpu", "namespace 'company'")
    assert (job.placement.fallback, job.fallback_level) == (Fallback.FAIL, "tenant 'main'")
    assert job.wait_limit is None


def test_a_tenant_that_declares_nothing_has_the_default_group_and_waits() -> None:
    job = made("tasks:\n  - {id: a}", tenant="acme")
    assert (job.placement.group_uid, job.key_level) == ("u0", "default")
    assert (job.placement.fallback, job.fallback_level) == (Fallback.WAIT, "default")


@pytest.mark.parametrize("rendered", ["", "  ", "_default"])
def test_a_key_that_renders_blank_is_the_default_group(rendered: str) -> None:
    text = "tasks:\n  - {id: a, workerGroup: {key: '{{ inputs.group }}'}}"
    job = made(text, inputs={"group": rendered})
    assert (job.placement.group_uid, job.placement.key, job.key_level) == ("u0", "", "task")


def test_a_key_may_be_what_another_task_gave() -> None:
    text = "tasks:\n  - {id: b}\n  - {id: a, workerGroup: {key: ' {{ outputs.b.group }} '}}"
    assert planned(text).outputs_needed("a") == {"b"}
    assert made(text, outputs={"b": {"group": "gpu"}}).placement.key == "gpu"


def test_an_unknown_key_is_refused_with_near_matches_where_it_comes_from_and_what_it_was() -> None:
    text = "tasks:\n  - {id: a, workerGroup: {key: '{{ inputs.group }}', fallback: WAIT}}"
    refusal = refused(text, inputs={"group": "gpuu"})
    assert (refusal.reason, refusal.ask_registry) == ("UNKNOWN_WORKER_GROUP", True)
    assert refusal.message == (
        "There is no worker group 'gpuu'. Did you mean 'gpu'? "
        "The key comes from the task, which says '{{ inputs.group }}'."
    )
    declared = replace(DECLARED, tenants={"main": Tenant("main", "gone")}, namespaces={})
    assert refused("tasks:\n  - {id: a}", declared).message == (
        "There is no worker group 'gone'. The key comes from tenant 'main'."
    )


def test_near_matches_are_groups_that_the_tenant_may_use() -> None:
    refusal = refused("tasks:\n  - {id: a, workerGroup: {key: acme-onl}}")
    assert "acme-only" not in refusal.message


@pytest.mark.parametrize("key", ["no such key!", "x" * 1000, "g\x1b[31m", "-gpu"])
def test_what_can_be_no_key_is_refused_without_asking_anybody(key: str) -> None:
    text = "tasks:\n  - {id: a, workerGroup: {key: '{{ inputs.group }}'}}"
    refusal = refused(text, inputs={"group": key})
    assert (refusal.reason, refusal.ask_registry) == ("UNKNOWN_WORKER_GROUP", False)
    assert "is no key of a worker group" in refusal.message and "\x1b" not in refusal.message
    assert len(refusal.message) < 500


def test_a_group_that_does_not_allow_the_tenant() -> None:
    refusal = refused("tasks:\n  - {id: a, workerGroup: {key: acme-only}}")
    assert (refusal.reason, refusal.ask_registry) == ("TENANT_NOT_ALLOWED", True)
    assert "'acme-only' does not allow tenant 'main'. The key comes from the task." in refusal.message


def test_a_group_that_is_being_deleted() -> None:
    refusal = refused("tasks:\n  - {id: a, workerGroup: {key: leaving}}")
    assert (refusal.reason, refusal.ask_registry) == ("GROUP_DELETING", True)


def test_a_key_that_names_what_is_not_there() -> None:
    text = "tasks:\n  - {id: a, workerGroup: {key: '{{ inputs.nmae }}'}}"
    refusal = refused(text, inputs={"name": "x"})
    assert refusal.reason == "EXPRESSION_FAILED"
    assert refusal.message.startswith(
        "workerGroup.key (from the task): `inputs.nmae` is not defined; inputs has name. Did you mean `inputs.name`?"
    )


# ── what it inherits ──


def test_plugin_defaults_are_those_that_are_declared_now() -> None:
    namespace = Namespace(
        "main", "company", plugin_defaults=(a_default("test", env={"A": "1"}, workerGroup={"key": "gpu"}),)
    )
    declared = replace(DECLARED, namespaces={("main", "company"): namespace})
    job = made("tasks:\n  - {id: a, env: {B: '2'}}", declared)
    assert job.properties == {"env": {"B": "2", "A": "1"}}
    assert (job.placement.key, job.key_level) == ("gpu", "plugin defaults of namespace 'company'")


def test_the_flow_of_a_plan_has_all_that_is_inherited() -> None:
    tenant = Tenant("main", plugin_defaults=(a_default("test", allowFailure=True, timeout="PT5S"),))
    plan = planned("tasks:\n  - {id: p, type: Parallel, tasks: [{id: a}]}", replace(DECLARED, tenants={"main": tenant}))
    assert plan.flow.tasks[0].children["tasks"][0].allow_failure is True
    job = prepare(plan, FACTS, DECLARED)
    assert isinstance(job, Prepared) and job.timeout == timedelta(seconds=5)


def test_a_task_that_is_none_any_more_is_refused_alone() -> None:
    half = a_default("test.Half")  # made unsound behind the model's back, as a later version might find one
    broken = half.model_copy(update={"values": half.values.model_copy(update={"timeout": "soon"})})
    tenant = Tenant("main", plugin_defaults=(broken, a_default("test.Noop", timeout="PT5S")))
    declared = replace(DECLARED, tenants={"main": tenant})
    text = """
        tasks:
          - {id: a, type: Half}
          - {id: i, type: If, condition: x, then: [{id: c, type: Half}], else: [{id: d}]}
          - {id: p, type: Parallel, tasks: [{id: b}]}
        """
    refusal = refused(text, declared)
    assert refusal.reason == "INVALID_TASK" and "timeout" in refusal.message
    assert made(text, declared, run=RunId("b")).timeout == timedelta(seconds=5)
    assert made(text, declared, run=RunId("d")).timeout == timedelta(seconds=5)
    assert refused(text, declared, run=RunId("c")).reason == "INVALID_TASK"


@pytest.mark.parametrize(
    ("written", "deliveries"), [("", 3), (", onWorkerLost: AGAIN", 3), (", onWorkerLost: FAIL", 1)]
)
def test_a_task_may_say_that_it_must_not_run_twice(written: str, deliveries: int) -> None:
    job = made(f"tasks:\n  - {{id: a{written}}}")
    assert job.max_deliveries == deliveries
    assert "onWorkerLost" not in job.properties


# ── the context ──


def test_the_context_holds_what_templates_name_and_nothing_more() -> None:
    text = """
        variables: {region: eu, secret: s}
        tasks:
          - {id: b}
          - {id: c}
          - id: a
            timeout: PT1M
            commands: ["echo {{ inputs.name }} {{ vars.region }}", "{{ outputs.b.value | upper }}"]
            env: {HOME: "{{ envs.HOME }}", RUN: "{{ taskrun.startDate }} {{ taskrun.attemptsCount }}"}
            where: "{{ flow.tenantId }}/{{ flow.namespace }}/{{ flow.id }}:{{ flow.revision }} {{ labels.team }}"
            what: "{{ task.id }} {{ task.type }} {{ execution.id }} {{ execution.startDate }} {{ execution.state }}"
            who: "{{ taskrun.id }}"
        """
    assert planned(text).outputs_needed("a") == {"b"}
    job = made(
        text,
        inputs={"name": "Ada", "other": "x"},
        labels={"team": "blue", "cost": "1"},
        outputs={"b": {"value": "v", "large": "x" * 1000}},
        run=RunId("a", attempt=2),
    )
    assert job.context == {
        "inputs": {"name": "Ada"},
        "outputs": {"b": {"value": "v"}},
        "vars": {"region": "eu"},
        "labels": {"team": "blue"},
        "flow": {"tenantId": "main", "namespace": "company.team", "id": "flow", "revision": 3},
        "execution": {"id": "x0000000000001", "startDate": "2026-11-24T00:00:00.000Z", "state": "RUNNING"},
        "task": {"id": "a", "type": "test.Noop"},
        "taskrun": {"id": "t0000000000001", "startDate": "2026-11-24T00:00:01.002Z", "attemptsCount": 1},
    }
    assert job.properties["commands"][0] == "echo {{ inputs.name }} {{ vars.region }}"
    assert job.timeout == timedelta(minutes=1)


def test_a_task_without_templates_has_an_empty_context() -> None:
    assert made("tasks:\n  - {id: a, commands: [ls]}", inputs={"x": 1}).context == {}


def test_all_outputs_are_needed_where_one_is_chosen_by_a_value() -> None:
    text = "tasks:\n  - {id: b}\n  - {id: c}\n  - {id: a, format: '{{ outputs[inputs.which].value }}'}"
    assert planned(text).outputs_needed("a") >= {"b", "c"}


def test_what_a_task_gave_that_failed_or_was_skipped_is_missed_by_name() -> None:
    text = "tasks:\n  - {id: b, disabled: true}\n  - {id: c}\n  - {id: a, format: '{{ outputs.b.value }}'}"
    job = made(text, outputs={"c": {"value": 1}})
    with pytest.raises(ExpressionError, match=r"`outputs\.b` is not defined"):
        render(job.properties["format"], job.context)


def test_a_trigger_is_there_only_if_one_started_the_execution() -> None:
    text = "tasks:\n  - {id: a, format: '{{ trigger.date }}'}"
    assert made(text).context == {}
    assert made(text, trigger={"date": "2026-11-24", "x": 1}).context == {"trigger": {"date": "2026-11-24"}}


def test_what_cannot_be_read_is_told_before_a_worker_sees_it() -> None:
    namespace = Namespace("main", "company", plugin_defaults=(a_default("test", env={"A": "{{ oops"}),))
    refusal = refused("tasks:\n  - {id: a}", replace(DECLARED, namespaces={("main", "company"): namespace}))
    assert refusal.reason == "EXPRESSION_FAILED" and refusal.message.startswith("env.A: ")


def test_a_task_that_is_too_large_names_its_largest_part() -> None:
    text = "tasks:\n  - {id: b}\n  - {id: a, format: '{{ outputs.b.value }} {{ inputs.x }}'}"
    job = made(text, outputs={"b": {"value": "x" * 5000}}, inputs={"x": "y"})
    refusal = too_large(5100, 4096, job)
    assert refusal.reason == "PAYLOAD_TOO_LARGE"
    assert "5100 bytes" in refusal.message and "at most 4096" in refusal.message and "'outputs.b'" in refusal.message
    itself = too_large(5100, 4096, made("tasks:\n  - {id: a, format: " + "x" * 5000 + "}"))
    assert "its own properties" in itself.message


# ── If ──

IF = "tasks:\n  - {id: b}\n  - {id: a, type: If, condition: '{{ outputs.b.ok }}', then: [{id: t}]}"


@pytest.mark.parametrize(
    ("value", "branch"), [(True, "then"), ("x", "then"), (1, "then"), (False, "else"), ("", "else")]
)
def test_a_condition_chooses_a_branch(value: object, branch: str) -> None:
    plan = planned(IF)
    assert plan.outputs_needed("a") == {"b"}
    assert choose_branch(plan, replace(FACTS, outputs={"b": {"ok": value}})) == branch


def test_a_condition_that_names_what_is_not_there_is_refused() -> None:
    refusal = choose_branch(planned(IF), FACTS)
    assert isinstance(refusal, Refused) and refusal.reason == "EXPRESSION_FAILED"
    assert refusal.message.startswith("condition: `outputs.b` is not defined")
    broken = planned("tasks:\n  - {id: a, type: If, condition: '{{ oops', then: [{id: t}]}")
    assert isinstance(choose_branch(broken, FACTS), Refused) and broken.outputs_needed("a") == frozenset()


# ── Switch and ForEach ──

SWITCH = "tasks:\n  - {id: a, type: Switch, value: '{{ inputs.on }}', cases: {gpu: [{id: t}], '1': [{id: u}]}}"


@pytest.mark.parametrize(
    ("value", "branch"), [("gpu", "cases.gpu"), (1.0, "cases.1"), ("GPU", "defaults"), ("", "defaults")]
)
def test_a_switch_takes_the_case_of_its_value(value: object, branch: str) -> None:
    assert choose_branch(planned(SWITCH), replace(FACTS, inputs={"on": value})) == branch


def test_a_switch_whose_value_can_t_be_rendered_is_refused() -> None:
    refusal = choose_branch(planned(SWITCH), FACTS)
    assert isinstance(refusal, Refused) and refusal.message.startswith("value: `inputs.on` is not defined")


@pytest.mark.parametrize(
    ("values", "came_to"),
    [
        ("[1, {a: '{{ inputs.n }}'}, null]", [1, {"a": "5"}, None]),
        ("'{{ inputs.list }}'", [1, "x", {"a": [2.5]}]),
        ("'[{{ inputs.n }}]'", [5]),
        ("'[1, \"a\"]'", [1, "a"]),
        ("[]", []),
    ],
)
def test_a_loop_goes_over_what_its_values_come_to(values: str, came_to: list[object]) -> None:
    plan = planned(f"tasks:\n  - {{id: a, type: ForEach, values: {values}, tasks: [{{id: t}}]}}")
    assert loop_values(plan, replace(FACTS, inputs={"n": 5, "list": [1, "x", {"a": [2.5]}]})) == came_to


# ── the outline ──


def test_an_outline_tells_where_each_task_stands() -> None:
    flow = a_flow(
        """
        tasks:
          - {id: p, type: Parallel, tasks: [{id: a}]}
          - {id: i, type: If, condition: x, then: [{id: t}], else: [{id: e}]}
          - {id: f, type: ForEach, values: [1], tasks: [{id: g, type: ForEach, values: [2], tasks: [{id: h}]}]}
        errors:
          - {id: alarm}
        """
    )
    assert [(id, place.parent, place.branch, place.in_errors) for id, place in outline(flow).items()] == [
        ("p", "", "", False),
        ("a", "p", "tasks", False),
        ("i", "", "", False),
        ("t", "i", "then", False),
        ("e", "i", "else", False),
        ("f", "", "", False),
        ("g", "f", "tasks", False),
        ("h", "g", "tasks", False),
        ("alarm", "", "", True),
    ]
    assert {id: place.loops for id, place in outline(flow).items() if place.loops} == {"g": ("f",), "h": ("f", "g")}
