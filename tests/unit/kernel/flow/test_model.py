"""The flow as a value: its definition is canonical JSON, and comes back as the same flow."""

import re

import pytest

from farhand.kernel.flow import Flow, If, KnownTypes, Parallel, Source, Task, effective, inherit, inherit_all, read_flow
from farhand.kernel.flow.declarations import Declaration
from farhand.kernel.flow.model import PluginDefault
from farhand.kernel.flow.types import BUILT_IN, SCHEDULE, TRIGGERS
from farhand.kernel.resolution import Fallback
from farhand.worker.runners import registry as task_runners
from farhand.worker.tasks.base import InstantTaskType, TaskType
from farhand.worker.tasks.registry import built_in

EVERYTHING = r"""
id: all
namespace: company.team
description: What a flow can say.
labels: {team: a, retries: 3}
inputs:
  - {id: size, type: INT, defaults: 5, required: false, description: How many.}
variables: {deep: {list: [1, 2.5, true, null, x]}}
workerGroup: {key: gpu, fallback: FAIL, timeout: PT1H}
tasks:
  - id: first
    type: io.kestra.plugin.scripts.shell.Commands
    description: Begins.
    disabled: true
    allowFailure: true
    timeout: 90s
    retry: {type: exponential, interval: PT1S, maxAttempts: 3, maxDuration: PT1M}
    workerGroup: {key: "", fallback: CANCEL}
    commands: ['echo "{{ inputs.size }}"']
    env: {A: 1}
  - id: fork
    type: io.kestra.plugin.core.flow.Parallel
    concurrent: 2
    tasks:
      - id: choose
        type: io.kestra.plugin.core.flow.If
        condition: true
        then: [{id: yes, type: farhand.core.Noop, payload: {a: ~}}]
        else: [{id: no, type: farhand.core.Noop}]
      - {id: beside, type: farhand.core.Noop}
errors: [{id: tell, type: io.kestra.plugin.core.log.Log, message: failed}]
triggers:
  - id: nightly
    type: io.kestra.plugin.core.trigger.Schedule
    cron: 0 3 * * *
    timezone: Europe/Berlin
    recoverMissedSchedules: LAST
    inputs: {size: 7}
    stopAfter: [FAILED, KILLED]
  - id: look
    type: io.kestra.plugin.core.http.Trigger
    uri: http://127.0.0.1/{{ vars.deep }}
    options: {followRedirects: false}
    responseCondition: "{{ response.body == 'ready' }}"
    interval: PT30S
    timeout: PT5S
    allowConcurrent: true
    workerGroup: {key: edge, fallback: FAIL}
  - id: files
    type: io.kestra.plugin.fs.local.Trigger
    disabled: true
    from: /data/in
    regExp: .*\.csv
    recursive: true
    action: MOVE
    moveDirectory: /data/done
    maxFiles: 10
pluginDefaults: [{type: io.kestra.plugin.scripts, forced: true, values: {timeout: PT2M, env: {B: "2"}}}]
"""


def the_flow(text: str = EVERYTHING) -> Flow:
    reading = read_flow(Source.of(text), KnownTypes())
    assert reading.flow is not None, reading.problems
    return reading.flow


def test_a_definition_comes_back_as_the_same_flow() -> None:
    flow = the_flow()
    again = Flow.from_json(flow.to_json())
    assert again == flow and again.to_json() == flow.to_json()


def test_a_definition_is_equal_however_the_source_is_written() -> None:
    block = "id: a\nnamespace: b\ntasks:\n  - id: x\n    type: farhand.core.Noop\n    payload: 'y'\n"
    braces = (
        '# the same\n{"id": "a", "namespace": "b", "tasks": [{"id": "x", "type": "farhand.core.Noop", payload: y}]}'
    )
    assert the_flow(block).to_json() == the_flow(braces).to_json()
    assert the_flow(block).to_json() == (
        '{"id":"a","namespace":"b","tasks":[{"id":"x","type":"farhand.core.Noop","payload":"y"}]}'
    )


def test_what_no_flow_gave_is_no_definition() -> None:
    for definition in ("", "{}", '{"id":"a","namespace":"b","tasks":[]}', "[1]"):
        with pytest.raises(ValueError):
            Flow.from_json(definition)


def test_tasks_are_walked_in_the_order_of_the_source_with_their_paths() -> None:
    walked = [(path, task.id, type(task)) for path, task in the_flow().walk()]
    assert walked == [
        ("tasks[0]", "first", Task),
        ("tasks[1]", "fork", Parallel),
        ("tasks[1].tasks[0]", "choose", If),
        ("tasks[1].tasks[0].then[0]", "yes", Task),
        ("tasks[1].tasks[0].else[0]", "no", Task),
        ("tasks[1].tasks[1]", "beside", Task),
        ("errors[0]", "tell", Task),
    ]


def test_a_leaf_keeps_what_is_its_types_own_apart() -> None:
    first = the_flow().tasks[0]
    assert isinstance(first, Task)
    assert first.properties == {"commands": ['echo "{{ inputs.size }}"'], "env": {"A": 1}}
    assert first.worker_group is not None and first.worker_group.key == ""
    assert first.worker_group.fallback is Fallback.CANCEL
    assert first.written()["retry"] == {
        "type": "exponential",
        "interval": "PT1S",
        "maxAttempts": 3,
        "maxDuration": "PT1M",
    }


def test_a_flow_never_changes() -> None:
    with pytest.raises(ValueError, match="frozen"):
        the_flow().id = "b"


def test_labels_and_conditions_are_texts() -> None:
    flow = the_flow()
    assert flow.labels == {"team": "a", "retries": "3"}
    (choose,) = [task for _, task in flow.walk() if isinstance(task, If)]
    assert choose.condition == "true"


def test_a_task_inherits_also_for_its_runner() -> None:
    task = Task.model_validate({"id": "a", "type": "x.Run", "taskRunner": {"type": "y.Docker", "cpu": 1}, "none": None})
    defaults = [
        {"type": "y", "values": {"cpu": 2, "memory": "1G"}},
        {"type": "x.Run", "values": {"timeout": "PT5S", "taskRunner": {"image": "debian"}, "none": {"type": "y.Z"}}},
        {"type": "y.Docker", "forced": True, "values": {"privileged": False}},
    ]
    around = [Declaration("flow", plugin_defaults=[PluginDefault.model_validate(each) for each in defaults])]
    assert effective(task.written(), around) == {
        "id": "a",
        "type": "x.Run",
        "timeout": "PT5S",
        "taskRunner": {"type": "y.Docker", "cpu": 1, "memory": "1G", "image": "debian", "privileged": False},
        "none": {"type": "y.Z", "cpu": 2, "memory": "1G"},
    }
    inherited = inherit(task, around)
    assert inherited.timeout == "PT5S" and inherited.properties["taskRunner"]["image"] == "debian"


def test_a_flow_inherits_for_every_leaf_in_it_and_for_nothing_else() -> None:
    flow = the_flow()
    noops = {"type": "farhand.core.Noop", "values": {"allowFailure": True, "payload": {"b": 1}}}
    everything = {"type": "io.kestra", "values": {"timeout": "PT9S"}}
    tenant = Declaration("tenant", plugin_defaults=[PluginDefault.model_validate(each) for each in (noops, everything)])
    inherited = {task.id: task for _, task in inherit_all(flow, [tenant]).walk()}
    assert {name for name, task in inherited.items() if task.allow_failure} == {"first", "yes", "no", "beside"}
    yes, first, tell = inherited["yes"], inherited["first"], inherited["tell"]
    assert isinstance(yes, Task) and isinstance(first, Task) and isinstance(tell, Task)
    assert yes.properties == {"payload": {"a": None, "b": 1}}
    assert first.timeout == "PT2M" and first.properties["env"] == {"A": 1, "B": "2"}  # the flow's own, forced
    assert tell.timeout == "PT9S"
    again = [(path, type(task)) for path, task in flow.walk()]
    assert [(path, type(task)) for path, task in inherit_all(flow, [tenant]).walk()] == again


def test_nulls_inside_of_properties_stay() -> None:
    task = Task.model_validate({"id": "a", "type": "x", "payload": {"a": None, "b": [None]}})
    assert inherit(task, []).properties == {"payload": {"a": None, "b": [None]}}


ON_WORKERS = {**BUILT_IN, **{name: model for name, model in TRIGGERS.items() if name != SCHEDULE}}


def taken_by_the_worker(task_type: TaskType | InstantTaskType) -> set[str]:
    """The names of the properties that a worker's type takes, as it tells who gives another."""
    unknown = {"qqqq": 1}
    if isinstance(task_type, InstantTaskType):
        told = task_type.conclude(unknown).message
    else:
        told = task_type.validate(unknown)[0].description
    listed = re.search(r"It has ([\w, ]+)\.", told)
    assert listed, told
    return set(listed[1].split(", "))


@pytest.mark.parametrize("task_type", built_in(task_runners.load({})), ids=lambda each: each.type)
def test_flows_take_what_workers_take(task_type: TaskType | InstantTaskType) -> None:
    told = {field.alias or name for name, field in ON_WORKERS[task_type.type].model_fields.items()}
    # The timeout of a flow's task is common to all types, and holds for all of the run.
    assert told == taken_by_the_worker(task_type) - {"timeout"}


def test_the_types_of_flows_are_those_of_workers() -> None:
    assert {each.type for each in built_in(task_runners.load({}))} == ON_WORKERS.keys()


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("[one, '{{ flow.id }}']", None),
        ("5", "must be a string or a list of strings, not a number"),
        ("[one, 5]", "must be a string or a list of strings, not a number"),
        ("[]", "must not be empty"),
    ],
)
def test_a_message_is_one_text_or_several_and_else_one_problem(message: str, problem: str | None) -> None:
    text = f"id: a\nnamespace: b\ntasks: [{{id: tell, type: io.kestra.plugin.core.log.Log, message: {message}}}]\n"
    problems = read_flow(Source.of(text), KnownTypes()).problems
    assert [each.message for each in problems] == ([problem] if problem else [])
