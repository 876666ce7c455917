"""What expressions say, and what they name."""

from typing import Any

import pytest

from farhand.kernel.expressions import ExpressionError, is_template, parse, render, render_deep, templates_of, truthy

SCOPE: dict[str, Any] = {
    "inputs": {"name": "you", "items": [1.0, 2.5], "keys": "k", "size": 3.0, "on": True, "none": None, "empty": ""},
    "outputs": {"my-task": {"value": "dashed"}, "first": {"vars": {"n": 7.0, "list": ["b", "a", "b"]}}},
    "vars": {"text": "Some Text", "json": '{"a": [1, {"b": null}]}', "from": "2026-01-31T23:30:00Z"},
    "execution": {"startDate": "2026-03-04T05:06:07.089Z"},
}


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("no expression: ${#name[@]} {%s} {# kept #} } }}", "no expression: ${#name[@]} {%s} {# kept #} } }}"),
        ("hello {{ inputs.name }}!\r\n", "hello you!\r\n"),
        ("{{inputs.name}}{{inputs.name}}", "youyou"),
        ("a {{- inputs.name -}} b", "ayoub"),
        ("{% raw %}{{ not.this }}{% endraw %} {{ inputs.name }}", "{{ not.this }} you"),
        ("{% verbatim %}{{ x }}{% endverbatim %}", "{{ x }}"),
        ("${#a[@]} {{ inputs.name }}", "${#a[@]} you"),
        ("{{ '}}' ~ \"{{\" }}", "}}{{"),
        ("{{ {'a': {'b': 1}} }}", '{"a":{"b":1}}'),
        ("{{ {'a': {'b': 1}}}}", '{"a":{"b":1}}'),
        ("{{ {'a': 1}.a }}", "1"),
    ],
)
def test_text_stays_and_expressions_become_their_values(text: str, rendered: str) -> None:
    assert render(text, SCOPE) == rendered


@pytest.mark.parametrize(
    ("expression", "rendered"),
    [
        ("inputs.size", "3"),
        ("inputs.on", "true"),
        ("not inputs.on", "false"),
        ("inputs.none", ""),
        ("null", ""),
        ("1.5", "1.5"),
        ("6 / 2", "3"),
        ("7 // 2 + 7 % 2 - 1 * 2", "2"),
        ("-inputs.size", "-3"),
        ("inputs.items", "[1,2.5]"),
        ("outputs.first.vars", '{"n":7,"list":["b","a","b"]}'),
        ("[1, 'ü', none, true]", '[1,"ü",null,true]'),
    ],
)
def test_values_are_written_as_people_and_json_write_them(expression: str, rendered: str) -> None:
    assert render(f"{{{{ {expression} }}}}", SCOPE) == rendered


@pytest.mark.parametrize(
    ("expression", "rendered"),
    [
        ("inputs.items[1]", "2.5"),
        ("inputs['items'][-1]", "2.5"),
        ("inputs.items.0", "1"),
        ("inputs.keys", "k"),  # an input that is called like a method of a map
        ("outputs['my-task'].value", "dashed"),
        ("outputs.first.vars[inputs.name | replace('you', 'n')]", "7"),
        ("vars.text[0:4]", "Some"),
        ("vars.text[-4:]", "Text"),
        ("outputs.first.vars.list[1:][0]", "a"),
    ],
)
def test_names_are_keys_of_maps_and_nothing_else(expression: str, rendered: str) -> None:
    assert render(f"{{{{ {expression} }}}}", SCOPE) == rendered


@pytest.mark.parametrize(
    ("expression", "rendered"),
    [
        ("inputs.size > 2 and inputs.size <= 3", "true"),
        ("1 < inputs.size < 3", "false"),
        ("1 == true", "false"),
        ("3 == inputs.size", "true"),
        ("'b' in outputs.first.vars.list", "true"),
        ("'ou' in inputs.name", "true"),
        ("'n' not in outputs.first.vars", "false"),
        ("'big' if inputs.size > 2 else 'small'", "big"),
        ("'big' if inputs.size > 5", ""),
        ("inputs.name ~ '-' ~ inputs.size ~ none", "you-3"),
        ("'a' + 'b'", "ab"),
        ("[1] + [2]", "[1,2]"),
        ("inputs.size is odd and inputs.name is string and inputs.items is list", "true"),
        ("inputs.name is startsWith('y') and inputs.name is endsWith('u')", "true"),
        ("inputs.missing is defined or inputs.a.b.c is defined", "false"),
        ("inputs.missing is empty and inputs.empty is empty and inputs.none is null", "true"),
    ],
)
def test_operators_and_tests(expression: str, rendered: str) -> None:
    assert render(f"{{{{ {expression} }}}}", SCOPE) == rendered


@pytest.mark.parametrize(
    ("expression", "rendered"),
    [
        ("inputs.missing | default('x')", "x"),
        ("inputs.a.b.c | default('x')", "x"),
        ("inputs.none | default('x')", "x"),
        ("inputs.empty | default('x')", ""),
        ("inputs.empty | default('x', true)", "x"),
        ("inputs.missing ?? inputs.none ?? 'x'", "x"),
        ("inputs.missing ?? '??'", "??"),
        ("inputs.name ?? 'x' | upper", "you"),
    ],
)
def test_defaults_are_for_what_is_not_there(expression: str, rendered: str) -> None:
    assert render(f"{{{{ {expression} }}}}", SCOPE) == rendered


@pytest.mark.parametrize(
    ("expression", "rendered"),
    [
        ("vars.text | upper", "SOME TEXT"),
        ("vars.text | lower | capitalize", "Some text"),
        ("'a b' | title", "A B"),
        ("' a ' | trim", "a"),
        ("inputs.size | upper", "3"),
        ("'a-b' | replace('-', '+')", "a+b"),
        ("'a-b' | replace({'-': '+', 'a': 'c'})", "c+b"),
        ("'a,b,c' | split(',') | last", "c"),
        ("'a,b,c' | split(',', 2)", '["a","b,c"]'),
        ("'a  b' | split | join('-')", "a-b"),
        ("vars.text | substring(5)", "Text"),
        ("vars.text | slice(0, 4)", "Some"),
        ("vars.text | startsWith('Some')", "true"),
        ("vars.text | contains('xy')", "false"),
        ("outputs.first.vars.list | unique | sort | join(', ')", "a, b"),
        ("[3, 1.5, 2] | sort(reverse=true)", "[3,2,1.5]"),
        ("[1, true, 1.0, 'a'] | unique", '[1,true,"a"]'),
        ("inputs.items | length + 1", "3"),
        ("inputs.items | first", "1"),
        ("outputs.first | keys", '["vars"]'),
        ("outputs.first.vars | values | first", "7"),
        ("2.567 | round(2)", "2.57"),
        ("2.5 | round", "2"),
        ("(-3) | abs", "3"),
        ("' 12 ' | int + 1", "13"),
        ("'x' | int(0)", "0"),
        ("'1.5' | float * 2", "3"),
        ("'12' | number + 1", "13"),
        ("'12.5' | number('FLOAT')", "12.5"),
        ("12.0 | string ~ 'x'", "12x"),
        ("vars.json | fromJson | json", '{"a":[1,{"b":null}]}'),
        ("(vars.json | fromJson).a[1]", '{"b":null}'),
        ("'say \"hi\"' | toJson", '"say \\"hi\\""'),
    ],
)
def test_filters(expression: str, rendered: str) -> None:
    assert render(f"{{{{ {expression} }}}}", SCOPE) == rendered


@pytest.mark.parametrize(
    ("expression", "rendered"),
    [
        ("execution.startDate | date", "2026-03-04T05:06:07.089000Z"),
        ("execution.startDate | date('yyyy-MM-dd HH:mm:ss.SSS')", "2026-03-04 05:06:07.089"),
        ("execution.startDate | date('EEEE, d MMMM yy, h:mm a')", "Wednesday, 4 March 26, 5:06 AM"),
        ("execution.startDate | date(\"yyyyMMdd'T'HH''XXX\")", "20260304T05'Z"),
        ("execution.startDate | date('%Y/%m/%d %H:%M:%S %%')", "2026/03/04 05:06:07 %"),
        ("execution.startDate | date('HH:mm XXX', timeZone='Europe/Berlin')", "06:06 +01:00"),
        ("'2026-03-04' | date('yyyy-MM-dd HH')", "2026-03-04 00"),
        ("vars.from | dateAdd(1, 'MONTHS')", "2026-02-28T23:30:00Z"),
        ("vars.from | dateAdd(-1, 'YEAR') | date('iso_date')", "2025-01-31"),
        ("vars.from | dateAdd(45, 'MINUTES')", "2026-02-01T00:15:00Z"),
    ],
)
def test_dates(expression: str, rendered: str) -> None:
    assert render(f"{{{{ {expression} }}}}", SCOPE) == rendered


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{{ outputs.a.value }} {{ inputs.x }}", {("outputs", "a", "value"), ("inputs", "x")}),
        ("{{ outputs['my-task']['v'] | upper }}", {("outputs", "my-task", "v")}),
        ("{{ outputs[inputs.which].value }}", {("outputs",), ("inputs", "which")}),
        ("{{ outputs.a.list[0].b }}", {("outputs", "a", "list")}),
        ("{{ inputs }}", {("inputs",)}),
        ("{{ vars.a[0:inputs.n] ?? labels.b }}", {("vars", "a"), ("inputs", "n"), ("labels", "b")}),
        (
            "{{ 'x' if task.id == flow.id else [trigger, {'a': envs.HOME}] }}",
            {("task", "id"), ("flow", "id"), ("trigger",), ("envs", "HOME")},
        ),
        ("{{ 'x' | default(inputs.d) is defined }}", {("inputs", "d")}),
        ("{% raw %}{{ inputs.x }}{% endraw %}", set()),
        ("inputs.x", set()),
    ],
)
def test_a_template_tells_all_that_it_names(text: str, names: set[tuple[str, ...]]) -> None:
    assert parse(text).names == names


def test_all_texts_of_a_value_are_rendered_and_its_keys_are_not() -> None:
    value = {"commands": ["echo {{ inputs.name }}", "b"], "env": {"{{ a }}": "{{ inputs.size }}"}, "n": 1.0, "t": True}
    assert render_deep(value, SCOPE) == {
        "commands": ["echo you", "b"],
        "env": {"{{ a }}": "3"},
        "n": 1.0,
        "t": True,
    }
    assert dict(templates_of(value)) == {"commands[0]": "echo {{ inputs.name }}", "env.{{ a }}": "{{ inputs.size }}"}


def test_an_error_inside_of_a_value_says_where() -> None:
    with pytest.raises(ExpressionError, match=r"^env\.A\[1\]: `inputs.nmae` is not defined"):
        render_deep({"env": {"A": ["b", "{{ inputs.nmae }}"]}}, SCOPE)


def test_only_a_text_that_may_have_expressions_is_a_template() -> None:
    assert is_template("{{ a }}") and is_template("{% raw %}")
    assert not is_template("${#a} }} {a}")


@pytest.mark.parametrize("text", ["", "  ", "false", "FALSE ", "0", "-0", "null", "None"])
def test_what_is_false(text: str) -> None:
    assert not truthy(text)


@pytest.mark.parametrize("text", ["true", "1", "no", "0.0", "[]", "x"])
def test_everything_else_is_true(text: str) -> None:
    assert truthy(text)
