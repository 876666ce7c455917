"""What of a scope goes along with a task."""

import copy

import pytest

from farhand.kernel.expressions import ExpressionError, parse, render, select

SCOPE = {
    "inputs": {"a": 1, "b": {"c": 2, "d": 3}, "list": [{"x": 1}]},
    "outputs": {"t": {"value": "v", "other": "o"}, "u": {"value": "w"}},
    "vars": {"v": 1},
}


def chosen(text: str) -> object:
    return select(SCOPE, parse(text).names)


def test_what_is_named_goes_along_and_nothing_else() -> None:
    assert chosen("{{ inputs.b.c }} {{ outputs.t.value }}") == {
        "inputs": {"b": {"c": 2}},
        "outputs": {"t": {"value": "v"}},
    }
    assert chosen("{{ inputs.list[0].x }}") == {"inputs": {"list": [{"x": 1}]}}
    assert chosen("nothing") == {}


def test_a_whole_map_holds_its_parts() -> None:
    before = copy.deepcopy(SCOPE)
    assert chosen("{{ outputs[vars.v] }} {{ outputs.t.value }}") == {"outputs": SCOPE["outputs"], "vars": {"v": 1}}
    assert chosen("{{ inputs.b.c }} {{ inputs.b }}") == {"inputs": {"b": {"c": 2, "d": 3}}}
    assert before == SCOPE


@pytest.mark.parametrize("text", ["{{ inputs.x }}", "{{ outputs.t.valeu }}", "{{ outputs.x.y }}", "{{ inputs.b.c.z }}"])
def test_an_error_says_the_same_with_what_went_along(text: str) -> None:
    messages = []
    for scope in (SCOPE, select(SCOPE, parse(text).names)):
        with pytest.raises(ExpressionError) as caught:
            render(text, scope)
        messages.append(caught.value.message)
    assert messages[0] == messages[1]


def test_a_missing_name_brings_the_others_names_and_not_their_values() -> None:
    assert chosen("{{ outputs.t.x }}") == {"outputs": {"t": {"value": None, "other": None}}}
    assert chosen("{{ outputs.t.x }} {{ outputs.t.value }}") == {"outputs": {"t": {"value": "v", "other": None}}}
