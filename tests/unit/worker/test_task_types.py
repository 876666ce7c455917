"""Task types: how they are found, and what the built-in ones accept."""

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from farhand.worker.runners import registry as runners
from farhand.worker.tasks.base import SUCCESS
from farhand.worker.tasks.foreign import TASKS, TRIGGERS
from farhand.worker.tasks.noop import Noop
from farhand.worker.tasks.output_lines import OutputLines
from farhand.worker.tasks.registry import load
from farhand.worker.tasks.shell_commands import ShellCommands

RUNNERS = runners.load({}, entry_points=[])
BUILT_IN = [
    "farhand.core.Noop",
    "io.kestra.plugin.core.debug.Return",
    "io.kestra.plugin.core.execution.Fail",
    "io.kestra.plugin.core.flow.Sleep",
    "io.kestra.plugin.core.http.Request",
    "io.kestra.plugin.core.http.Trigger",
    "io.kestra.plugin.core.log.Log",
    "io.kestra.plugin.fs.local.Trigger",
    "io.kestra.plugin.scripts.python.Commands",
    "io.kestra.plugin.scripts.python.Script",
    "io.kestra.plugin.scripts.shell.Commands",
    "io.kestra.plugin.scripts.shell.Script",
]


def entry(name: str, value: str = "example.greet:Greet") -> EntryPoint:
    return EntryPoint(name, value, TASKS)


def test_the_built_in_types_are_there() -> None:
    assert load(RUNNERS, []).names == BUILT_IN


def test_a_type_of_another_package_is_told_without_being_imported() -> None:
    assert "org.example.Greet" in load(RUNNERS, [entry("org.example.Greet", "no.such.module:Greet")]).names


def test_a_trigger_type_of_another_package_is_told_beside_them() -> None:
    assert "org.example.Visitors" in load(RUNNERS, [EntryPoint("org.example.Visitors", "x:Y", TRIGGERS)]).names


@pytest.mark.parametrize("name", ["farhand.core.Noop", "not a name", "x" * 201])
def test_one_that_cant_be_a_type_is_left_out_and_the_rest_work(name: str) -> None:
    assert load(RUNNERS, [entry(name), entry("org.example.Greet")]).names == [*BUILT_IN, "org.example.Greet"]


def wrong(**properties: Any) -> list[str]:
    return [f"{violation.path}: {violation.description}" for violation in ShellCommands(RUNNERS).validate(properties)]


def test_commands_alone_are_enough() -> None:
    assert wrong(commands=["true"]) == []


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({}, "commands: is required"),
        ({"commands": []}, "commands: must not be empty"),
        ({"commands": "true"}, "commands: must be a list of strings, not a string"),
        ({"commands": ["true", 1]}, "commands[1]: must be a string, not a number"),
        ({"commands": ["x"], "interpreter": []}, "interpreter: must not be empty"),
        ({"commands": ["x"], "env": {"A=B": "1"}}, "env: 'A=B' can't be the name of an environment variable"),
        ({"commands": ["x"], "env": {"A": []}}, "env.A: must be a string, not a list"),
        ({"commands": ["x"], "failFast": 1}, "failFast: must be true or false, not a number"),
        (
            {"commands": ["x"], "taskRunner": {"type": "io.kestra.plugin.core.runner.Proces"}},
            "taskRunner.type: this worker has no task runner 'io.kestra.plugin.core.runner.Proces'; "
            "did you mean io.kestra.plugin.core.runner.Process?",
        ),
        (
            {"commands": ["x"], "taskRunner": {"type": "io.kestra.plugin.core.runner.Process", "a": 1}},
            "taskRunner.a: is no property of io.kestra.plugin.core.runner.Process. It has type.",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_path(properties: dict[str, Any], message: str) -> None:
    assert wrong(**properties) == [message]


@pytest.mark.parametrize(
    ("type", "properties", "message"),
    [
        ("scripts.shell.Script", {}, "script: is required"),
        ("scripts.shell.Script", {"script": ["x"]}, "script: must be a string, not a list"),
        ("scripts.python.Script", {"script": ""}, "script: must not be empty"),
        ("scripts.python.Script", {"commands": ["x"], "script": "x"}, "commands: is no property of"),
        ("scripts.python.Commands", {"script": "x"}, "commands: is required"),
        ("core.flow.Sleep", {}, "duration: is required"),
        ("core.flow.Sleep", {"duration": 5}, "duration: must be a string, not a number"),
        ("core.flow.Sleep", {"duration": "soon"}, "duration: 'soon' is not a duration; write 90s"),
        ("core.flow.Sleep", {"duration": "9" * 400 + "s"}, "duration: is too long"),
        ("core.flow.Sleep", {"duration": "PT1S", "durration": 1}, "Did you mean duration?"),
        ("core.debug.Return", {"format": ["x"]}, "format: must be a string, not a list"),
        ("core.log.Log", {}, "message: is required"),
        ("core.log.Log", {"message": {}}, "message: must be a string, not a map"),
        ("core.log.Log", {"message": ["a", 1]}, "message[1]: must be a string, not a number"),
        (
            "core.log.Log",
            {"message": "a", "level": "LOUD"},
            "level: must be one of TRACE, DEBUG, INFO, WARN, ERROR, not 'LOUD'",
        ),
        ("core.execution.Fail", {"errorMessage": []}, "errorMessage: must be a string, not a list"),
        ("core.http.Request", {}, "uri: is required"),
        ("core.http.Request", {"uri": "file:///etc/passwd"}, "uri: must be an address such as https://example.com"),
        ("core.http.Request", {"uri": "http://"}, "uri: must be an address"),
        ("core.http.Request", {"uri": "http://h:99999/"}, "uri: must be an address"),
        ("core.http.Request", {"uri": "http://h/a b"}, "uri: must be an address"),
        ("core.http.Request", {"uri": "http://h", "method": "FETCH"}, "method: must be one of GET, HEAD, POST"),
        ("core.http.Request", {"uri": "http://h", "headers": {"a b": "x"}}, "headers: 'a b' can't be the name"),
        ("core.http.Request", {"uri": "http://h", "headers": {"a": "x\r\nb: y"}}, "headers.a: must be ASCII on one"),
        ("core.http.Request", {"uri": "http://h", "headers": ["a"]}, "headers: must be a map of names to values"),
        ("core.http.Request", {"uri": "http://h", "timeout": "later"}, "timeout: 'later' is not a duration"),
        ("core.http.Request", {"uri": "http://h", "options": {"allowFail": True}}, "Did you mean allowFailed?"),
        ("core.http.Request", {"uri": "http://h", "options": {"allowFailed": 1}}, "options.allowFailed: must be true"),
        ("core.http.Request", {"uri": "http://h", "options": 1}, "options: must be a map, not a number"),
    ],
)
def test_each_type_says_what_is_wrong_with_its_properties(type: str, properties: dict[str, Any], message: str) -> None:
    task_type = load(RUNNERS, []).running[f"io.kestra.plugin.{type}"]
    assert message in "; ".join(f"{each.path}: {each.description}" for each in task_type.validate(properties))


def test_a_secret_in_an_address_is_not_shown() -> None:
    task_type = load(RUNNERS, []).running["io.kestra.plugin.core.http.Request"]
    (violation,) = task_type.validate({"uri": "ftp://user:secret@h/?token=secret"})
    assert "secret" not in violation.description


def test_lists_maps_and_booleans_may_be_texts_that_expressions_made() -> None:
    rendered = {"commands": '["a","b"]', "env": '{"A":1}', "failFast": "false", "beforeCommands": '["c"]'}
    assert ShellCommands(RUNNERS).validate(rendered) == []
    assert ShellCommands(RUNNERS).script(rendered) == "c\na\nb"
    assert wrong(commands="[not json") == ["commands: must be a list of strings, not a string"]


def test_commands_too_long_for_one_argument_are_told_before_the_start() -> None:
    assert "131071 in one argument" in wrong(commands=["x" * 200_000])[0]


def test_the_script_is_before_commands_then_commands_and_stops_at_the_first_failure() -> None:
    assert ShellCommands(RUNNERS).script({"commands": ["b", "c"], "beforeCommands": ["a"]}) == "set -e\na\nb\nc"
    assert ShellCommands(RUNNERS).script({"commands": ["b"], "failFast": False}) == "b"


def test_noop_has_no_properties() -> None:
    assert Noop().conclude({}) == SUCCESS
    assert Noop().conclude({"x": 1}).reason == "INVALID_PROPERTIES"


def take(*lines: str) -> tuple[OutputLines, list[str], list[bool]]:
    warnings: list[str] = []
    outputs = OutputLines(warnings.append)
    return outputs, warnings, [outputs.take(line) for line in lines]


def test_later_outputs_win_and_names_add_up() -> None:
    outputs, warnings, taken = take('::{"outputs":{"a":1}}::', '::{"outputs":{"a":2,"b":[1]}}::\r')
    assert (outputs.vars, warnings, taken) == ({"a": 2, "b": [1]}, [], [True, True])


@pytest.mark.parametrize("line", ["x", "", ":: {}", ' ::{"outputs":{}}::', "::{not the end", "::[1]::"])
def test_other_lines_are_left_to_the_log(line: str) -> None:
    assert take(line)[2] == [False]


@pytest.mark.parametrize(
    "line",
    [
        "::{bad}::",
        '::{"outputs":[1]}::',
        '::{"outputs":{"a":NaN}}::',
        '::{"outputs":{"a":"\\u0000"}}::',
        '::{"outputs":{"a":"\\ud800"}}::',
        "::{" + "[" * 100_000 + "}::",
        '::{"outputs":' + "x" * 100_000,
    ],
)
def test_a_line_that_cant_be_read_is_a_warning(line: str) -> None:
    outputs, warnings, taken = take(line)
    assert (outputs.vars, len(warnings), taken) == ({}, 1, [True])


def test_an_unknown_key_is_told_and_the_outputs_are_kept() -> None:
    outputs, warnings, _ = take('::{"outputs":{"a":1},"other":2}::')
    assert outputs.vars == {"a": 1}
    assert "other" in warnings[0]


def test_metrics_are_accepted() -> None:
    assert take('::{"metrics":[]}::')[1] == []
