"""What is wrong with a trigger is told at its place, and what plugin defaults give it counts."""

import pytest

from farhand.kernel.flow import (
    KnownTypes,
    PluginDefault,
    Problem,
    Severity,
    Source,
    Trigger,
    inherit_trigger,
    json_schema,
    levels,
    read_flow,
)
from farhand.kernel.flow.declarations import Declaration
from farhand.kernel.resolution import Fallback, resolve

HEAD = """\
id: a
namespace: b
variables: {site: "http://x"}
inputs: [{id: n, type: INT, defaults: 1}, {id: s, type: STRING, required: false}]
tasks: [{id: x, type: farhand.core.Noop, payload: "{{ trigger.files }}"}]
"""
HTTP = "type: io.kestra.plugin.core.http.Trigger"
LOCAL = "type: io.kestra.plugin.fs.local.Trigger"
SCHEDULE = "type: io.kestra.plugin.core.trigger.Schedule"


def problems(trigger: str, known: KnownTypes | None = None) -> list[Problem]:
    return list(read_flow(Source.of(f"{HEAD}triggers: [{{id: t, {trigger}}}]"), known or KnownTypes()).problems)


def told(trigger: str, known: KnownTypes | None = None) -> list[str]:
    return [f"{each.path.removeprefix('triggers[0].')}: {each.message}" for each in problems(trigger, known)]


@pytest.mark.parametrize(
    "trigger",
    [
        f"{HTTP}, uri: '{{{{ vars.site }}}}', method: POST, headers: {{A: 1}}, body: {{a: [1]}}, interval: 1s",
        f"{HTTP}, uri: x, responseCondition: '{{{{ response.body == envs.A }}}}', options: {{followRedirects: false}}",
        f"{HTTP}, uri: x, responseCondition: true, inputs: {{n: '{{{{ trigger.code }}}}', s: x}}, stopAfter: [FAILED]",
        f"{LOCAL}, from: /in, regExp: '.*', recursive: true, action: DELETE, maxFiles: 1000, timeout: PT1H",
        f"{LOCAL}, from: '{{{{ envs.IN }}}}', action: '{{{{ vars.site }}}}', moveDirectory: /d, allowConcurrent: true",
        f"{SCHEDULE}, cron: '@hourly', timezone: Europe/Berlin, withSeconds: false, recoverMissedSchedules: NONE",
    ],
)
def test_what_a_trigger_may_be(trigger: str) -> None:
    assert told(trigger) == []


@pytest.mark.parametrize(
    ("trigger", "wrong"),
    [
        (HTTP, ["uri: is required"]),
        (
            f"{HTTP}, uri: x, methd: GET",
            ["methd: is no property of io.kestra.plugin.core.http.Trigger. Did you mean method?"],
        ),
        (
            f"{HTTP}, uri: x, intervall: 1s",
            ["intervall: is no property of io.kestra.plugin.core.http.Trigger. Did you mean interval?"],
        ),
        (
            f"{HTTP}, uri: x, options: {{followRedirect: true}}",
            ["options.followRedirect: is no property of options. Did you mean followRedirects?"],
        ),
        (
            f"{HTTP}, uri: x, interval: PT0.5S",
            ["interval: 'PT0.5S' is too short: at least 1 s are between two evaluations"],
        ),
        (
            f"{HTTP}, uri: x, interval: often",
            ["interval: 'often' is not a duration; write ISO-8601 such as PT1M30S, or 90s, 2m30s, 1h"],
        ),
        (f"{HTTP}, uri: x, timeout: PT0S", ["timeout: must be longer than nothing"]),
        (
            f"{HTTP}, uri: x, stopAfter: [FAILD]",
            ["stopAfter[0]: 'FAILD' is none of 'SUCCESS', 'WARNING', 'FAILED' or 'KILLED'. Did you mean FAILED?"],
        ),
        (f"{HTTP}, uri: '{{{{ inputs.n }}}}'", ["uri: `inputs` is not defined"]),
        (f"{HTTP}, uri: '{{{{ response.body }}}}'", ["uri: `response` is not defined"]),
        (
            f"{HTTP}, uri: x, responseCondition: '{{{{ response.body'",
            ["responseCondition: `{{` has no `}}`; to have it in the text write {% raw %} … {% endraw %} around it"],
        ),
        (f"{HTTP}, uri: x, inputs: {{m: 1}}", ["inputs.m: the flow has no input 'm'. It has n, s."]),
        (f"{HTTP}, uri: x, inputs: {{n: many}}", ["inputs.n: must be a whole number, not 'many'"]),
        (f"{LOCAL}, from: in", ["from: 'in' is no absolute path: it must begin with /"]),
        (
            f"{LOCAL}, from: /in, regExp: '('",
            ["regExp: '(' is no regular expression: missing ), unterminated subpattern at position 0"],
        ),
        (f"{LOCAL}, from: /in, action: MOVE", ["triggers[0]: action MOVE needs moveDirectory: where the files go"]),
        (f"{LOCAL}, from: /in, moveDirectory: /x", ["triggers[0]: moveDirectory has a meaning for action MOVE alone"]),
        (f"{LOCAL}, from: /in, maxFiles: 0", ["maxFiles: must be at least 1"]),
        (f"{SCHEDULE}", ["cron: is required"]),
        (
            f"{SCHEDULE}, cron: '@daily', recoverMissedSchedules: SOME",
            ["recoverMissedSchedules: 'SOME' is none of 'ALL', 'LAST' or 'NONE'"],
        ),
        (
            f"{SCHEDULE}, cron: '@dayly'",
            ["cron: there is no '@dayly'; there are @annually, @daily, @hourly, @midnight, @monthly, @weekly, @yearly"],
        ),
        (
            f"{SCHEDULE}, cron: '0 3 * * *', timezone: Europe/Berln",
            ["timezone: there is no time zone 'Europe/Berln'. Did you mean Europe/Berlin?"],
        ),
        (
            f"{SCHEDULE}, cron: '0 3 * * *', withSeconds: true",
            ["triggers[0]: says withSeconds, and its cron has five fields; put the seconds before them"],
        ),
        ("type: farhand.core.Noop", ["type: farhand.core.Noop is a task's type: put it under tasks"]),
        ("type: org.example.Watch", ["type: there is no trigger type 'org.example.Watch'"]),
    ],
)
def test_each_thing_that_is_wrong_is_told_at_its_place(trigger: str, wrong: list[str]) -> None:
    assert told(trigger) == wrong


def test_a_required_input_that_a_trigger_does_not_give_is_told() -> None:
    flow = "id: a\nnamespace: b\ninputs: [{id: n, type: INT}]\ntasks: [{id: x, type: farhand.core.Noop}]\n"
    reading = read_flow(Source.of(f"{flow}triggers: [{{id: t, {HTTP}, uri: x}}]"), KnownTypes())
    assert [(each.path, each.message) for each in reading.problems] == [
        ("triggers[0].inputs.n", "the input 'n' is required: a whole number")
    ]
    given = read_flow(
        Source.of(f"{flow}triggers: [{{id: t, {HTTP}, uri: x, inputs: {{n: '{{{{ trigger.code }}}}'}}}}]"), KnownTypes()
    )
    assert given.problems == []


def test_what_only_polling_has_a_use_for_is_a_warning_on_a_schedule() -> None:
    (problem,) = problems(f"{SCHEDULE}, cron: '@daily', workerGroup: {{key: x}}")
    assert problem.severity is Severity.WARNING and problem.path == "triggers[0].workerGroup"
    assert problem.message == "has no effect here: the scheduler itself looks at the clock, and no worker is asked"


def test_a_type_that_workers_told_is_taken_with_whatever_it_holds() -> None:
    known = KnownTypes(frozenset({"org.example.Watch"}))
    assert told("type: org.example.Watch, whatever: [1], interval: 5s", known) == []
    assert "org.example.Watch" in json_schema(known)["$defs"]


def of_defaults(type: str, forced: bool = False, **values: object) -> Declaration:
    default = PluginDefault.model_validate({"type": type, "forced": forced, "values": values})
    return Declaration("tenant 'main'", key="outer", plugin_defaults=[default])


def test_a_trigger_inherits_and_resolves_as_a_task_does() -> None:
    trigger = Trigger.model_validate({"id": "t", "type": "x.Watch", "interval": "PT5S"})
    weak = of_defaults(
        "x",
        interval="PT1H",
        timeout="PT9S",
        path="/in",
        retry={"type": "constant", "interval": "PT1S", "maxAttempts": 2},
        workerGroup={"key": "edge", "fallback": "CANCEL"},
    )
    inherited = inherit_trigger(trigger, [weak])
    assert (inherited.interval, inherited.timeout, inherited.properties) == ("PT5S", "PT9S", {"path": "/in"})
    resolved = resolve(levels(trigger, [weak]))
    assert (resolved.key, resolved.fallback) == ("edge", Fallback.CANCEL)
    own = trigger.model_copy(update={"worker_group": inherited.worker_group})
    assert resolve(levels(own, [of_defaults("x.Watch", forced=True, workerGroup={"key": "forced"})])).key == "forced"


def test_a_bad_cron_is_told_with_line_and_column() -> None:
    text = f"{HEAD}triggers:\n  - id: t\n    {SCHEDULE}\n    cron: 0 25 * * *\n"
    (problem,) = read_flow(Source.of(text), KnownTypes()).problems
    assert (problem.line, problem.column, problem.severity) == (9, 11, Severity.ERROR)
    assert "'25' in '0 25 * * *' is no hour" in problem.message
