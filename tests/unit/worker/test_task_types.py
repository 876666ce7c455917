"""Task types: how they are found, and what the built-in ones accept."""

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from farhand.worker.tasks.base import SUCCESS
from farhand.worker.tasks.noop import Noop
from farhand.worker.tasks.output_lines import OutputLines
from farhand.worker.tasks.registry import ENTRY_POINT_GROUP, load
from farhand.worker.tasks.shell import ShellCommands, script


def entry(name: str, value: str = "example.greet:Greet") -> EntryPoint:
    return EntryPoint(name, value, ENTRY_POINT_GROUP)


def test_the_built_in_types_are_there() -> None:
    assert load([]).names == ["farhand.core.Noop", "io.kestra.plugin.scripts.shell.Commands"]


def test_a_type_of_another_package_is_told_without_being_imported() -> None:
    assert "org.example.Greet" in load([entry("org.example.Greet", "no.such.module:Greet")]).names


@pytest.mark.parametrize("name", ["farhand.core.Noop", "not a name", "x" * 201])
def test_one_that_cant_be_a_type_is_left_out_and_the_rest_work(name: str) -> None:
    assert load([entry(name), entry("org.example.Greet")]).names == [
        "farhand.core.Noop",
        "io.kestra.plugin.scripts.shell.Commands",
        "org.example.Greet",
    ]


def wrong(**properties: Any) -> list[str]:
    return [f"{violation.path}: {violation.description}" for violation in ShellCommands().validate(properties)]


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
            {"commands": ["x"], "taskRunner": {"type": "io.kestra.plugin.scripts.runner.docker.Docker"}},
            "taskRunner.type: this worker knows one runner, io.kestra.plugin.core.runner.Process",
        ),
        (
            {"commands": ["x"], "taskRunner": {"type": "io.kestra.plugin.core.runner.Process", "a": 1}},
            "taskRunner.a: is not known",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_path(properties: dict[str, Any], message: str) -> None:
    assert wrong(**properties) == [message]


def test_commands_too_long_for_one_argument_are_told_before_the_start() -> None:
    assert "131071 in one argument" in wrong(commands=["x" * 200_000])[0]


def test_the_script_is_before_commands_then_commands_and_stops_at_the_first_failure() -> None:
    assert script({"commands": ["b", "c"], "beforeCommands": ["a"]}) == "set -e\na\nb\nc"
    assert script({"commands": ["b"], "failFast": False}) == "b"


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
