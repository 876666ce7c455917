"""A flow is read with all that is wrong told at once, each thing with line, column, path and what to do."""

from pathlib import Path

import pytest

from farhand.kernel.flow import (
    Declaration,
    KnownTypes,
    PluginDefault,
    Reading,
    Severity,
    Source,
    read_flow,
    read_plugin_defaults,
)
from tests.architecture.repository import ROOT

EXAMPLES = sorted(ROOT.joinpath("tests/fixtures/flows").glob("*.yaml"))
KNOWN = KnownTypes(frozenset({"org.example.Greet"}))
HEAD = "id: a\nnamespace: b\n"
LOG = "type: io.kestra.plugin.core.log.Log, message: hi"


def check_group(key: str) -> str:
    if key in ("", "gpu"):
        return ""
    return f"There is no worker group '{key}'. Did you mean 'gpu'?" if key == "gpuu" else "forbidden"


def read(text: str, *declarations: Declaration) -> Reading:
    return read_flow(Source.of(text), KNOWN, declarations, check_group)


def told(text: str, *declarations: Declaration) -> list[str]:
    return [str(problem) for problem in read(text, *declarations).problems]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_the_examples_of_the_reference_are_read_as_they_are(file: Path) -> None:
    reading = read(file.read_text())
    assert reading.flow is not None and reading.problems == []


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 4


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("5", ["line 1, column 1: a flow is a map with id, namespace and tasks, not a number"]),
        ("- a", ["line 1, column 1: a flow is a map with id, namespace and tasks, not a list"]),
        (
            "description: x",
            [
                "line 1, column 1: id: is required",
                "line 1, column 1: namespace: is required",
                "line 1, column 1: tasks: is required",
            ],
        ),
        (HEAD + "tasks: []", ["line 3, column 8: tasks: must not be empty"]),
        (HEAD + "tasks: {id: x}", ["line 3, column 8: tasks: must be a list, not a map"]),
        (HEAD + "tasks: [5]", ["line 3, column 9: tasks[0]: must be a map, not a number"]),
        (
            f"id: a b\nnamespace: b..c\ntasks: [{{id: -x, {LOG}}}]",
            [
                "line 1, column 5: id: 'a b' does not match ^[a-zA-Z0-9][a-zA-Z0-9_-]*$",
                "line 2, column 12: namespace: 'b..c' does not match "
                "^[a-zA-Z0-9][a-zA-Z0-9_-]*(\\.[a-zA-Z0-9][a-zA-Z0-9_-]*)*$",
                "line 3, column 14: tasks[0].id: '-x' does not match ^[a-zA-Z0-9][a-zA-Z0-9_-]*$",
            ],
        ),
        (
            f"id: {'x' * 101}\nnamespace: b\ntasks: [{{id: x, {LOG}}}]",
            ["line 1, column 5: id: has 101 characters; at most 100 are allowed"],
        ),
        (
            "id: 5\nnamespace: b\ntasks: [{id: x, type: org.example.Greet}]",
            ["line 1, column 5: id: must be a string, not a number: quote it"],
        ),
        (
            HEAD + f"lables: {{}}\ntasks: [{{id: x, {LOG}}}]",
            ["line 3, column 1: lables: is no property of a flow. Did you mean labels or variables?"],
        ),
        (
            HEAD + f"zzz: 1\ntasks: [{{id: x, {LOG}}}]",
            [
                "line 3, column 1: zzz: is no property of a flow. It has id, namespace, description, labels, inputs, "
                "variables, tasks, errors, pluginDefaults, workerGroup, triggers, concurrency."
            ],
        ),
        (
            HEAD + f"concurrency: {{limit: 0, behaviour: WAIT}}\ntasks: [{{id: x, {LOG}}}]",
            [
                "line 3, column 22: concurrency.limit: must be at least 1",
                "line 3, column 25: concurrency.behaviour: is no property of concurrency. Did you mean behavior?",
            ],
        ),
        (
            HEAD + f"concurrency: {{behavior: QUEU}}\ntasks: [{{id: x, {LOG}}}]",
            [
                "line 3, column 14: concurrency.limit: is required",
                "line 3, column 25: concurrency.behavior: 'QUEU' is none of 'QUEUE', 'CANCEL' or 'FAIL'. "
                "Did you mean QUEUE?",
            ],
        ),
        (
            HEAD + "tasks:\n  - id: x\n    type: io.kestra.plugin.core.debug.Retrn",
            [
                "line 5, column 11: tasks[0].type: there is no task type 'io.kestra.plugin.core.debug.Retrn'. "
                "Did you mean io.kestra.plugin.core.debug.Return?"
            ],
        ),
        (
            HEAD + "tasks: [{id: x, type: org.example.Gret}]",
            [
                "line 3, column 23: tasks[0].type: there is no task type 'org.example.Gret'. "
                "Did you mean org.example.Greet?"
            ],
        ),
        (
            HEAD + "tasks: [{id: x, type: io.kestra.plugin.core.flow.ForEachItem}]",
            [
                "line 3, column 23: tasks[0].type: there is no task type 'io.kestra.plugin.core.flow.ForEachItem'. "
                "Did you mean io.kestra.plugin.core.flow.ForEach?"
            ],
        ),
        (
            HEAD + "tasks: [{id: x, type: io.kestra.plugin.core.flow.Switch, value: a}]",
            ["line 3, column 9: tasks[0]: needs cases, or defaults: it has nothing to choose from"],
        ),
        (
            HEAD
            + "tasks:\n  - id: s\n    type: io.kestra.plugin.core.flow.Switch\n    value: '{{ inputs.a }}'\n"
            + "    cases:\n"
            + f"      inputs: [{{id: x, {LOG}, mesage: y}}]\n      retry: []\n      b:\n"
            + "        - {id: f, type: io.kestra.plugin.core.flow.ForEach, values: 5, concurencyLimit: 2, tasks: x}",
            [
                "line 6, column 12: tasks[0].value: `inputs.a` is not defined",
                "line 8, column 74: tasks[0].cases.inputs[0].mesage: is no property of io.kestra.plugin.core.log.Log. "
                "Did you mean message?",
                "line 9, column 14: tasks[0].cases.retry: must not be empty",
                "line 11, column 69: tasks[0].cases.b[0].values: must be a list, or an expression that comes to one, "
                "not a number",
                "line 11, column 72: tasks[0].cases.b[0].concurencyLimit: is no property of "
                "io.kestra.plugin.core.flow.ForEach. Did you mean concurrencyLimit?",
                "line 11, column 99: tasks[0].cases.b[0].tasks: must be a list, not a string",
            ],
        ),
        (
            HEAD
            + "tasks:\n  - {id: f, type: io.kestra.plugin.core.flow.ForEach, values: 'a, b', concurrencyLimit: -1, "
            + "tasks: []}\n"
            + "  - {id: g, type: io.kestra.plugin.core.flow.Sequential, tasks: [], timeout: PT1S}",
            [
                "line 4, column 63: tasks[0].values: must be a list, or an expression that comes to one, "
                "e.g. '{{ inputs.list }}'",
                "line 4, column 89: tasks[0].concurrencyLimit: must be at least 0",
                "line 4, column 100: tasks[0].tasks: must not be empty",
                "line 5, column 65: tasks[1].tasks: must not be empty",
                "line 5, column 69: tasks[1].timeout: has no meaning here: flow control runs on no worker. Put it on "
                "the tasks inside",
            ],
        ),
        (
            HEAD + "tasks: [{id: x, type: io.kestra.plugin.core.trigger.Schedule}]",
            [
                "line 3, column 23: tasks[0].type: io.kestra.plugin.core.trigger.Schedule is a trigger's type: put it "
                "under triggers"
            ],
        ),
        (HEAD + "tasks: [{id: x}]", ["line 3, column 9: tasks[0].type: is required"]),
        (
            HEAD + "tasks: [{id: x, type: io.kestra.plugin.scripts.shell.Commands, comands: [ls]}]",
            [
                "line 3, column 9: tasks[0].commands: is required",
                "line 3, column 64: tasks[0].comands: is no property of io.kestra.plugin.scripts.shell.Commands. "
                "Did you mean commands or beforeCommands?",
            ],
        ),
        (
            HEAD + "tasks: [{id: x, type: io.kestra.plugin.core.flow.Sleep, duration: PT1S, timeuot: PT5S}]",
            [
                "line 3, column 73: tasks[0].timeuot: is no property of io.kestra.plugin.core.flow.Sleep. "
                "Did you mean timeout?"
            ],
        ),
        (
            HEAD + "tasks: [{id: x, type: io.kestra.plugin.core.flow.Sleep, duration: five}]",
            [
                "line 3, column 67: tasks[0].duration: 'five' is not a duration; write ISO-8601 such as PT1M30S, or "
                "90s, 2m30s, 1h"
            ],
        ),
        (
            HEAD + f"tasks: [{{id: x, {LOG}, timeout: 90}}]",
            ["line 3, column 76: tasks[0].timeout: must be a string, not a number: quote it"],
        ),
        (
            HEAD + f"tasks: [{{id: x, {LOG}, timeout: '90'}}]",
            [
                "line 3, column 76: tasks[0].timeout: '90' is not a duration; write ISO-8601 such as PT1M30S, or 90s, "
                "2m30s, 1h"
            ],
        ),
        (
            HEAD + f"tasks: [{{id: x, {LOG}, timeout: PT0S}}]",
            ["line 3, column 76: tasks[0].timeout: must be longer than nothing"],
        ),
        (
            HEAD + f"tasks: [{{id: x, {LOG}, timeout: P9999D}}]",
            ["line 3, column 76: tasks[0].timeout: 'P9999D' is longer than ten years"],
        ),
        (
            HEAD + f"tasks: [{{id: x, {LOG}, allowFailure: yes}}]",
            [
                "line 3, column 81: tasks[0].allowFailure: must be true or false, not a string: "
                "write it without quotes, and not 'yes'"
            ],
        ),
        (
            HEAD + f"tasks: [{{id: x, {LOG}, retry: {{type: constnt, interval: PT1S, maxAttempts: 0}}}}]",
            [
                "line 3, column 81: tasks[0].retry.type: 'constnt' is none of 'constant' or 'exponential'. "
                "Did you mean constant?",
                "line 3, column 119: tasks[0].retry.maxAttempts: must be at least 1",
            ],
        ),
        (
            HEAD + f"tasks: [{{id: x, {LOG}, retry: {{type: constant, interval: PT1S}}}}]",
            ["line 3, column 74: tasks[0].retry: must have an end: give it maxAttempts or maxDuration"],
        ),
        (
            HEAD + f"tasks: [{{id: x, {LOG}, workerGroup: gpu}}]",
            ["line 3, column 80: tasks[0].workerGroup: must be a map, not a string"],
        ),
        (
            HEAD + f"tasks: [{{id: x, {LOG}, workerGroup: {{kye: gpu, fallback: fial}}}}]",
            [
                "line 3, column 81: tasks[0].workerGroup.kye: is no property of workerGroup. Did you mean key?",
                "line 3, column 101: tasks[0].workerGroup.fallback: 'fial' is none of 'WAIT', 'FAIL' or 'CANCEL'. "
                "Did you mean FAIL?",
            ],
        ),
        (
            HEAD + f"workerGroup: {{key: gpuu}}\ntasks: [{{id: x, {LOG}, workerGroup: {{key: secret}}}}]",
            [
                "line 3, column 20: workerGroup.key: There is no worker group 'gpuu'. Did you mean 'gpu'?",
                "line 4, column 86: tasks[0].workerGroup.key: forbidden",
            ],
        ),
        (
            HEAD + f"tasks: [{{id: x, {LOG}, workerGroup: {{key: no key}}}}]",
            ["line 3, column 86: tasks[0].workerGroup.key: 'no key' does not match ^[a-zA-Z0-9][a-zA-Z0-9_-]*$"],
        ),
        (HEAD + f"tasks: [{{id: x, {LOG}, workerGroup: {{key: ''}}}}]", []),
        (HEAD + f"tasks: [{{id: x, {LOG}, workerGroup: {{key: _default}}}}]", []),
        (
            HEAD + f"tasks: [{{id: x, {LOG}}}]\nerrors: [{{id: x, {LOG}}}]",
            ["line 4, column 15: errors[0].id: 'x' is the id of tasks[0] already, in line 3"],
        ),
        (
            HEAD
            + "tasks:\n  - id: p\n    type: io.kestra.plugin.core.flow.Parallel\n    timeout: PT1S\n"
            + f"    workerGroup: {{key: gpu}}\n    tasks: [{{id: p, {LOG}}}]",
            [
                "line 6, column 5: tasks[0].timeout: has no meaning here: flow control runs on no worker. "
                "Put it on the tasks inside",
                "line 7, column 5: tasks[0].workerGroup: has no meaning here: flow control runs on no worker. "
                "Put it on the tasks inside, or on the flow",
                "line 8, column 18: tasks[0].tasks[0].id: 'p' is the id of tasks[0] already, in line 4",
            ],
        ),
        (
            HEAD + "tasks:\n  - id: i\n    type: io.kestra.plugin.core.flow.If\n    conditon: x\n    then: []",
            [
                "line 4, column 5: tasks[0].condition: is required",
                "line 6, column 5: tasks[0].conditon: is no property of io.kestra.plugin.core.flow.If. "
                "Did you mean condition?",
                "line 7, column 11: tasks[0].then: must not be empty",
            ],
        ),
        (
            HEAD
            + "tasks:\n  - id: s\n    type: io.kestra.plugin.scripts.shell.Commands\n    commands: [ok, 5]\n"
            + "    env: {A: [], =: x}\n    taskRunner: {type: docker}\n    namespaceFiles: {enabld: true}\n"
            + "    outputFiles: [/etc/passwd, ../x, a/b]\n    inputFiles: {/x: y}",
            [
                "line 6, column 20: tasks[0].commands[1]: must be a string, not a number: quote it",
                "line 7, column 14: tasks[0].env.A: must be a string, a number or a boolean, not a list",
                "line 7, column 21: tasks[0].env.=: '=' can't be the name of an environment variable",
                "line 8, column 24: tasks[0].taskRunner.type: there is no task runner 'docker'. "
                "Did you mean io.kestra.plugin.scripts.runner.docker.Docker?",
                "line 9, column 22: tasks[0].namespaceFiles.enabld: is no property of namespaceFiles. "
                "Did you mean enabled?",
                "line 10, column 19: tasks[0].outputFiles[0]: '/etc/passwd' leaves the task's folder: "
                "it must be a relative path without ..",
                "line 10, column 32: tasks[0].outputFiles[1]: '../x' leaves the task's folder: "
                "it must be a relative path without ..",
                "line 11, column 22: tasks[0].inputFiles./x: '/x' leaves the task's folder: "
                "it must be a relative path without ..",
            ],
        ),
        (
            HEAD
            + "tasks:\n  - {id: s, type: io.kestra.plugin.scripts.shell.Commands, commands: [x], taskRunner: {type: "
            + "io.kestra.plugin.scripts.runner.docker.Docker,\n    memry: {}, memory: {memory: 1KB, cpus: 1}, "
            + "cpu: {cpus: many},\n    pullPolicy: allways, privileged: true, entryPoint: []}}",
            [
                "line 4, column 75: tasks[0].taskRunner: io.kestra.plugin.scripts.runner.docker.Docker needs an image: "
                "say containerImage on the task",
                "line 5, column 5: tasks[0].taskRunner.memry: is no property of "
                "io.kestra.plugin.scripts.runner.docker.Docker. Did you mean memory?",
                "line 5, column 33: tasks[0].taskRunner.memory.memory: '1KB' is too little: "
                "a container needs at least 6MB",
                "line 5, column 38: tasks[0].taskRunner.memory.cpus: is no property of memory. It has memory.",
                "line 5, column 60: tasks[0].taskRunner.cpu.cpus: must be a number of cores such as 0.5, not a string",
                "line 6, column 17: tasks[0].taskRunner.pullPolicy: 'allways' is none of "
                "'ALWAYS', 'IF_NOT_PRESENT' or 'NEVER'. Did you mean ALWAYS?",
                "line 6, column 38: tasks[0].taskRunner.privileged: must be false: a privileged container is root "
                "on the worker's machine",
                "line 6, column 56: tasks[0].taskRunner.entryPoint: must not be empty",
            ],
        ),
        (
            HEAD + "tasks: [{id: x, type: io.kestra.plugin.core.http.Request, uri: a, options: {allowFaild: true}}]",
            [
                "line 3, column 77: tasks[0].options.allowFaild: is no property of options. Did you mean allowFailed?",
            ],
        ),
        (
            HEAD
            + "inputs:\n  - {id: n, type: INT, defaults: many}\n  - {id: n, type: SELECT}\n"
            + "  - {id: s, type: SELECT, values: [small, 5], defaults: smal}\n"
            + "  - {id: a, type: ARRAY, itemType: INT, defaults: [1, x]}\n"
            + "  - {id: b, type: INT, values: [1]}\n  - {id: c, type: JSON, itemType: INT}\n"
            + "  - {id: d, type: SELEKT}\n  - {id: e, type: ARRAY, itemType: SELECT}\n"
            + f"tasks: [{{id: x, {LOG}}}]",
            [
                "line 4, column 34: inputs[0].defaults: must be a whole number, not 'many'",
                "line 5, column 5: inputs[1]: a SELECT needs values: the texts that may be chosen",
                "line 5, column 10: inputs[1].id: 'n' is the id of inputs[0] already, in line 4",
                "line 6, column 57: inputs[2].defaults: must be one of 'small', '5', not 'smal'. Did you mean 'small'?",
                "line 7, column 55: inputs[3].defaults[1]: must be a whole number, not 'x'",
                "line 8, column 5: inputs[4]: values are for SELECT, not for INT",
                "line 9, column 5: inputs[5]: itemType is for ARRAY, not for JSON",
                "line 10, column 19: inputs[6].type: 'SELEKT' is none of 'STRING', 'INT', 'FLOAT', 'BOOLEAN', "
                "'DATETIME', 'DURATION', 'SELECT', 'JSON', 'ARRAY' or 'SECRET'. Did you mean SELECT?",
                "line 11, column 36: inputs[7].itemType: 'SELECT' is none of 'STRING', 'INT', 'FLOAT', 'BOOLEAN', "
                "'DATETIME', 'DURATION' or 'JSON'",
            ],
        ),
        (
            HEAD + f"labels: {{a: 5, b: true, c: [x]}}\ntasks: [{{id: x, {LOG}}}]",
            ["line 3, column 28: labels.c: must be a string, not a list"],
        ),
        (
            HEAD
            + f"tasks: [{{id: x, {LOG}}}]\npluginDefaults:\n"
            + "  - {type: x, values: {id: 1}}\n  - {type: y, force: true}",
            [
                "line 5, column 23: pluginDefaults[0].values: must not hold id: it says which task it is, and is not "
                "inherited",
                "line 6, column 5: pluginDefaults[1].values: is required",
                "line 6, column 15: pluginDefaults[1].force: is no property of pluginDefaults. Did you mean forced?",
            ],
        ),
    ],
)
def test_each_thing_that_is_wrong_is_told_at_its_place(text: str, problems: list[str]) -> None:
    reading = read(text)
    assert [str(problem) for problem in reading.problems] == problems
    assert (reading.flow is None) is bool(problems)


def test_problems_of_yaml_and_of_the_flow_are_told_together_in_their_order() -> None:
    assert told(f"id: a\nnamespace: 5\nid: b\ntasks: [{{id: &x y, {LOG}}}]\nlables: *x") == [
        "line 2, column 12: namespace: must be a string, not a number: quote it",
        "line 3, column 1: id: 'id' is there twice; the first is in line 1",
        "line 4, column 14: tasks[0].id: anchors are not taken: leave &x out, or quote the text",
        "line 5, column 1: lables: is no property of a flow. Did you mean labels or variables?",
        "line 5, column 9: lables: aliases are not taken: write it out. Text that begins with * needs quotes",
    ]


@pytest.mark.parametrize("count", [1001, 10_000])
def test_a_flow_of_too_many_tasks_is_one_problem(count: int) -> None:
    tasks = "".join(f"  - {{id: t{index}, type: nonsense}}\n" for index in range(count))
    assert told(f"{HEAD}tasks:\n{tasks}") == [
        f"line 3, column 1: tasks: the flow has {count} tasks; at most 1000 are allowed"
    ]


def test_tasks_inside_of_flow_control_and_for_errors_count_too() -> None:
    inside = ", ".join(f"{{id: t{index}, {LOG}}}" for index in range(999))
    parallel = f"{HEAD}tasks: [{{id: p, type: io.kestra.plugin.core.flow.Parallel, tasks: [{inside}]}}]\n"
    assert told(parallel) == []
    assert told(parallel + f"errors: [{{id: e, {LOG}}}]") == [
        "line 3, column 1: tasks: the flow has 1001 tasks; at most 1000 are allowed"
    ]


def test_a_hundred_problems_are_told_and_that_there_are_more() -> None:
    problems = told(HEAD + "tasks:\n" + "".join(f"  - {{id: t{n}, type: no.such.Type{n}}}\n" for n in range(500)))
    assert len(problems) == 101
    assert problems[-1] == "there are more problems, not told here"


def test_types_of_workers_have_free_properties() -> None:
    assert told(HEAD + "tasks: [{id: x, type: org.example.Greet, whatever: [{a: ~}], timeout: PT1M}]") == []


def test_every_property_may_be_a_template_whatever_its_type() -> None:
    assert (
        told(
            HEAD
            + "inputs: [{id: a, type: STRING}]\ntasks:\n"
            + "  - {id: x, type: io.kestra.plugin.core.flow.Sleep, duration: '{{ inputs.a }}'}\n"
            + "  - {id: y, type: io.kestra.plugin.core.log.Log, message: x, level: '{{ inputs.a }}'}\n"
            + "  - id: z\n    type: io.kestra.plugin.scripts.shell.Script\n    script: x\n"
            + "    failFast: '{{ inputs.a }}'\n    outputFiles: ['{{ inputs.a }}']"
        )
        == []
    )


def test_an_expression_that_can_not_be_read_stops_the_save() -> None:
    (problem,) = read(HEAD + "tasks: [{id: x, type: org.example.Greet, deep: [{er: 'a {{ inputs. }}'}]}]").problems
    assert (problem.line, problem.column, problem.path) == (3, 54, "tasks[0].deep[0].er")
    assert problem.severity is Severity.ERROR


@pytest.mark.parametrize(
    ("expression", "warning"),
    [
        ("inputs.sise", "`inputs.sise` is not defined. Did you mean `size`?"),
        ("vars.nothing", "`vars.nothing` is not defined"),
        ("outputs.later.value", "`outputs.later` is not defined"),
        ("outputs.frst.value", "`outputs.frst` is not defined. Did you mean `first`?"),
        ("input.size", "`input` is not defined. Did you mean `inputs`?"),
        ("taskrun.start", "`taskrun.start` is not defined. Did you mean `startDate`?"),
    ],
)
def test_a_name_that_nothing_defines_is_a_warning(expression: str, warning: str) -> None:
    reading = read(
        HEAD
        + f"inputs: [{{id: size, type: INT}}]\ntasks:\n  - {{id: first, {LOG}}}\n"
        + f"  - {{id: x, type: org.example.Greet, to: 'a {{{{ {expression} }}}}'}}"
    )
    assert [problem.message for problem in reading.problems] == [warning]
    assert reading.flow is not None and reading.errors == []


def test_names_that_are_there_are_no_warning() -> None:
    assert (
        told(
            HEAD
            + "inputs: [{id: size, type: INT}]\nvariables: {v: {w: 1}}\ntasks:\n"
            + f"  - {{id: first, {LOG}}}\n  - id: x\n    type: org.example.Greet\n    to: |\n"
            + "      {{ inputs.size }} {{ vars.v.w }} {{ outputs.first.value }} {{ labels.any }} {{ envs.HOME }}\n"
            + "      {{ flow.tenantId }} {{ execution.startDate }} {{ task.id }} {{ taskrun.startDate }}\n"
            + "      {{ trigger.x }}"
        )
        == []
    )


def test_the_scheduler_knows_no_envs() -> None:
    text = "`envs` are a worker's; the scheduler renders this before a worker is chosen"
    assert told(HEAD + "tasks: [{id: x, type: org.example.Greet, workerGroup: {key: '{{ envs.G }}'}}]") == [
        f"line 3, column 61: tasks[0].workerGroup.key: {text}"
    ]


def test_a_triggers_id_type_and_group_are_checked_like_a_tasks() -> None:
    trigger = "type: io.kestra.plugin.core.http.Trigger, uri: 'http://x'"
    reading = read(f"{HEAD}tasks: [{{id: x, {LOG}}}]\ntriggers: [{{id: t, {trigger}, workerGroup: {{key: gpu}}}}]")
    assert reading.problems == [] and reading.flow is not None and reading.flow.triggers[0].id == "t"
    assert told(
        f"{HEAD}tasks: [{{id: x, {LOG}}}]\ntriggers: [{{id: x, type: Schedule, workerGroup: {{key: gpuu}}}}]"
    ) == [
        "line 4, column 17: triggers[0].id: 'x' is the id of tasks[0] already, in line 3",
        "line 4, column 26: triggers[0].type: there is no trigger type 'Schedule'. "
        "Did you mean io.kestra.plugin.core.trigger.Schedule?",
        "line 4, column 55: triggers[0].workerGroup.key: There is no worker group 'gpuu'. Did you mean 'gpu'?",
    ]


def a_default(type: str, forced: bool = False, **values: object) -> PluginDefault:
    return PluginDefault.model_validate({"type": type, "forced": forced, "values": values})


def test_what_a_task_needs_may_be_inherited() -> None:
    text = HEAD + "tasks: [{id: x, type: io.kestra.plugin.core.log.Log}]\n"
    tenant = Declaration("tenant 'main'", plugin_defaults=[a_default("io.kestra.plugin.core.log", message="hi")])
    assert told(text) == ["line 3, column 9: tasks[0].message: is required"]
    assert told(text, tenant) == []
    assert told(text + "pluginDefaults: [{type: io.kestra.plugin.core.log, values: {message: hi}}]") == []


def test_what_is_inherited_and_wrong_is_told_once_where_it_is_written() -> None:
    tasks = "".join(f"  - {{id: t{n}, type: io.kestra.plugin.core.log.Log, message: x}}\n" for n in range(3))
    defaults = "pluginDefaults:\n  - {type: io.kestra.plugin.core.log, values: {levle: INFO}}"
    (problem,) = told(f"{HEAD}tasks:\n{tasks}{defaults}")
    assert problem.startswith("line 8, column 48: pluginDefaults[0].values.levle: is no property of")
    assert problem.endswith("Did you mean level? (for tasks[0])")


def test_what_is_inherited_from_outside_and_wrong_names_where_it_comes_from() -> None:
    text = HEAD + "tasks: [{id: x, type: io.kestra.plugin.core.log.Log, message: hi}]"
    tenant = Declaration("tenant 'main'", plugin_defaults=[a_default("io.kestra.plugin.core.log", level="LOUD")])
    assert told(text, tenant) == [
        "line 3, column 9: tasks[0]: level 'LOUD' is none of 'TRACE', 'DEBUG', 'INFO', 'WARN' or 'ERROR' "
        "(it comes from the plugin defaults of tenant 'main')"
    ]
    wrong = text.replace("hi", "hi, level: QUIET")
    assert [problem.path for problem in read(wrong, tenant).problems] == ["tasks[0].level"]
    own = text.replace("hi", "hi, level: INFO")
    assert told(own, tenant) == []
    forced = Declaration("tenant 'main'", plugin_defaults=[a_default("io.kestra.plugin.core.log", True, level="LOUD")])
    assert len(told(own, forced)) == 1


def test_a_literal_group_in_the_flows_plugin_defaults_is_checked() -> None:
    assert told(
        f"{HEAD}tasks: [{{id: x, {LOG}}}]\npluginDefaults: [{{type: io, values: {{workerGroup: {{key: gpuu}}}}}}]"
    ) == [
        "line 4, column 57: pluginDefaults[0].values.workerGroup.key: There is no worker group 'gpuu'. "
        "Did you mean 'gpu'?"
    ]


def test_plugin_defaults_of_namespaces_and_tenants_are_read_alike() -> None:
    good = {"type": "io.kestra", "forced": True, "values": {"workerGroup": {"key": "gpu"}, "env": {"A": "1"}}}
    defaults, violations = read_plugin_defaults([good], "tenant.plugin_defaults", check_group)
    assert violations == [] and defaults[0].forced and defaults[0].values.written == good["values"]
    _, violations = read_plugin_defaults(
        [
            {"type": "a b", "values": {}},
            {"type": "a", "values": {"workerGroup": {"key": "gpuu"}}},
            {"type": "a", "values": {"workerGroup": {"fallback": "NO"}, "timeout": "soon"}},
        ],
        "tenant.plugin_defaults",
        check_group,
    )
    assert [each.path for each in violations] == [
        "tenant.plugin_defaults[0].type",
        "tenant.plugin_defaults[1].values.workerGroup.key",
        "tenant.plugin_defaults[2].values.timeout",
        "tenant.plugin_defaults[2].values.workerGroup.fallback",
    ]


@pytest.mark.parametrize(
    ("type", "warning"),
    [
        ("io.kestra.plugin.script", "matches no type that is known. Did you mean io.kestra.plugin.scripts?"),
        ("io.kestra.plugin.core.flow.Parallel", "flow control inherits nothing"),
        ("io.kestra.plugin.scripts", None),
        ("org.example", None),
        ("io.kestra.plugin.core.runner.Process", None),
        ("io.kestra.plugin.core.trigger.Schedule", None),
    ],
)
def test_a_plugin_default_that_nothing_inherits_is_a_warning(type: str, warning: str | None) -> None:
    reading = read(f"{HEAD}tasks: [{{id: x, {LOG}}}]\npluginDefaults: [{{type: {type}, values: {{}}}}]")
    assert reading.flow is not None
    assert [problem.message for problem in reading.problems] == ([warning] if warning else [])


def test_expressions_where_nothing_is_rendered_are_told() -> None:
    assert told(
        f"{HEAD}labels: {{a: '{{{{ inputs.b }}}}'}}\n"
        + f"inputs: [{{id: b, type: STRING, defaults: '{{{{ x }}}}'}}]\ntasks: [{{id: x, {LOG}}}]"
    ) == [
        "line 3, column 13: labels.a: is kept as it is: expressions are not rendered here",
        "line 4, column 42: inputs[0].defaults: must be a value: expressions are not rendered here",
    ]


def test_variables_hold_expressions_that_are_checked_and_name_one_another_in_no_circle() -> None:
    assert told(
        f"{HEAD}variables:\n  a: '{{{{ inputs.nix }}}}'\n"
        + "  b: [{x: '{{ vars.c }}'}]\n  c: '{{ vars.d | upper }}'\n"
        + "  d: '{{ vars.b }}'\n  e: '{{ oops'\n  f: '{{ envs.HOME }} {{ taskrun.value }} {{ parent.taskrun.value }}'\n"
        + f"tasks: [{{id: x, {LOG}}}]"
    ) == [
        "line 4, column 6: variables.a: `inputs.nix` is not defined",
        "line 5, column 6: variables.b: variables name one another in a circle: b → c → d → b",
        "line 8, column 6: variables.e: `{{` has no `}}`; to have it in the text write {% raw %} … {% endraw %} around "
        "it",
    ]


def test_what_is_there_inside_of_flow_control_is_a_warning_elsewhere() -> None:
    loop = "type: io.kestra.plugin.core.flow.ForEach, values: '{{ taskrun.value }}'"
    uses = "format: '{{ taskrun.value }} {{ taskrun.iteration }} {{ parent.taskrun.value }} {{ parents[0] }}'"
    leaf = f"type: io.kestra.plugin.core.debug.Return, {uses}"
    assert told(f"{HEAD}tasks:\n  - {{id: f, {loop}, tasks: [{{id: a, {leaf}}}]}}\n  - {{id: b, {leaf}}}") == [
        "line 4, column 63: tasks[0].values: `taskrun.value` is there only inside of a ForEach",
        "line 5, column 63: tasks[1].format: `parent` is there only inside of flow control",
    ]


def test_expressions_are_bounded() -> None:
    (problem,) = told(f"{HEAD}tasks: [{{id: x, type: org.example.Greet, to: '{'{{ a }}' * 5001}'}}]")
    assert problem.endswith("tasks[0].to: the flow holds more than 5000 expressions")


def test_many_warnings_hide_no_error() -> None:
    texts = ", ".join(["'{{ nothing }}'"] * 300)
    reading = read(
        f"{HEAD}tasks:\n  - {{id: x, type: org.example.Greet, to: [{texts}]}}\n"
        + "  - {id: y, type: org.example.Greet, workerGroup: {key: gpuu}}"
    )
    assert reading.flow is None
    assert [problem.path for problem in reading.errors] == ["tasks[1].workerGroup.key"]
    assert len(reading.problems) == 101


def test_nothing_in_a_problem_can_paint_a_terminal() -> None:
    for problem in told(
        '"\\e[31mred": 1\n"\\e[0m": 2\nid: "\\e"\ntasks: [{id: x, type: "\\e", workerGroup: {key: "\\e"}}]'
    ):
        assert problem.isprintable()


def test_an_unknown_property_of_a_map_inside_of_a_task_is_told() -> None:
    task = "type: io.kestra.plugin.core.http.Request, uri: x, options: {allowFaild: true}"
    assert told(f"{HEAD}tasks: [{{id: x, {task}}}]") == [
        "line 3, column 77: tasks[0].options.allowFaild: is no property of options. Did you mean allowFailed?"
    ]


SECRET = HEAD + "inputs: [{id: token, type: SECRET}]\n"
KEPT = (
    "is a secret, and what is made of this is kept and shown; only the properties of tasks that run on workers may "
    "name it"
)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (
            SECRET + f"tasks: [{{id: x, {LOG}, workerGroup: {{key: '{{{{ inputs.token }}}}'}}}}]",
            "line 4, column 86: tasks[0].workerGroup.key",
        ),
        (
            SECRET + f"workerGroup: {{key: \"{{{{ inputs['token'] | lower }}}}\"}}\ntasks: [{{id: x, {LOG}}}]",
            "line 4, column 20: workerGroup.key",
        ),
        (
            SECRET
            + "tasks: [{id: i, type: io.kestra.plugin.core.flow.If, condition: '{{ inputs.token == 1 }}', "
            + f"then: [{{id: x, {LOG}}}]}}]",
            "line 4, column 65: tasks[0].condition",
        ),
        (
            SECRET
            + "pluginDefaults: [{type: io.kestra.plugin.core.log, values: "
            + f"{{workerGroup: {{key: '{{{{ inputs.token }}}}'}}}}}}]\ntasks: [{{id: x, {LOG}}}]",
            "line 4, column 80: pluginDefaults[0].values.workerGroup.key",
        ),
        (
            SECRET + f"labels: {{a: 'x {{{{ inputs.token }}}}'}}\ntasks: [{{id: x, {LOG}}}]",
            "line 4, column 13: labels.a",
        ),
    ],
)
def test_a_secret_is_not_named_where_the_scheduler_renders_or_keeps(text: str, place: str) -> None:
    errors = [problem for problem in read(text).problems if problem.severity is Severity.ERROR]
    assert [str(problem) for problem in errors] == [f"{place}: `inputs.token` {KEPT}"]


def test_nor_is_a_variable_that_holds_one() -> None:
    text = SECRET + "variables: {a: '{{ inputs.token }}', b: ['{{ vars.a }}'], c: x}\n"
    text += f"tasks: [{{id: x, {LOG}, workerGroup: {{key: '{{{{ vars.b }}}}'}}}}]"
    assert told(text) == [f"line 5, column 86: tasks[0].workerGroup.key: `vars.b` {KEPT.replace('is a', 'holds a', 1)}"]
    assert told(text.replace("vars.b }}'}}", "vars.c }}'}}")) == []


def test_the_properties_of_a_task_may_name_a_secret() -> None:
    text = (
        SECRET + "tasks: [{id: x, type: io.kestra.plugin.core.log.Log, message: '{{ inputs.token }} {{ inputs }}'}]\n"
    )
    text += "pluginDefaults: [{type: io.kestra.plugin.scripts, values: {env: {A: '{{ inputs.token }}'}}}]"
    assert told(text) == []


def test_a_secret_stands_in_no_flow() -> None:
    text = HEAD + f"inputs: [{{id: a, type: SECRET, defaults: n33dle}}]\ntasks: [{{id: x, {LOG}}}]"
    [problem] = told(text)
    assert problem.startswith("line 3, column 42: inputs[0].defaults: must not be there") and "n33dle" not in problem


@pytest.mark.parametrize(
    ("more", "inputs", "place"),
    [
        ("", "{token: n33dle}", "line 5, column 94: triggers[0].inputs.token: is a secret"),
        ("", "{token: '{{ trigger.date }}'}", "line 5, column 94: triggers[0].inputs.token: is a secret"),
        ("", "{}", "line 5, column 93: triggers[0].inputs.token: the input 'token' is a secret"),
        (", required: false", "{}", ""),
    ],
)
def test_a_trigger_gives_no_secret(more: str, inputs: str, place: str) -> None:
    text = HEAD + f"inputs: [{{id: token, type: SECRET{more}}}]\ntasks: [{{id: x, {LOG}}}]\n"
    schedule = "id: t, type: io.kestra.plugin.core.trigger.Schedule, cron: '* * * * *'"
    problems = told(text + f"triggers: [{{{schedule}, inputs: {inputs}}}]")
    assert [problem[: len(place)] for problem in problems] == ([place] if place else [])
    assert all("n33dle" not in problem for problem in problems)
