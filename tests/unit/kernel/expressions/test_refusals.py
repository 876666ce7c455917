"""What expressions can't do, and how they say so."""

import subprocess
import sys
from typing import Any

import pytest

from farhand.kernel.expressions import ExpressionError, UndefinedName, parse, render, render_deep

SCOPE: dict[str, Any] = {
    "inputs": {"name": "secret-value", "size": 3.0, "items": [1.0], "big": "x" * 200_000, "none": None},
    "outputs": {"my-task": {"value": "x"}, "a": {}},
}


def refused(text: str) -> str:
    with pytest.raises(ExpressionError) as caught:
        render(text, SCOPE)
    assert "secret-value" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ inputs.nmae }}",
         "`inputs.nmae` is not defined; inputs has big, items, name, none, size. Did you mean `inputs.name`?"),
        (
            "{{ trigger.date }}",
            "`trigger` is not defined; there are inputs, outputs. "
            "Executions that a trigger started have it; for others, give it a `default`",
        ),
        ("{{ inptus.name }}", "`inptus` is not defined; there are inputs, outputs. Did you mean `inputs`?"),
        ("{{ outputs.my-task.value }}",
         "`outputs.my` is not defined; outputs has a, 'my-task'. Did you mean `outputs['my-task']`?"),
        ("{{ outputs.a.value }}", "`outputs.a.value` is not defined; outputs.a has nothing"),
        ("{{ inputs.none.x }}", "`inputs.none.x` is not defined; inputs.none is null"),
        ("{{ inputs.items[1] }}", "`inputs.items[1]` is not defined; inputs.items has 1 items"),
        ("{{ inputs.items.name }}",
         "`inputs.items.name` is not defined; inputs.items is a list, whose items are [0], [1], …"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named_with_what_is(text: str, message: str) -> None:
    assert refused(text) == message
    with pytest.raises(UndefinedName):
        render(text, SCOPE)


def test_of_many_names_some_are_listed() -> None:
    with pytest.raises(ExpressionError, match=r"inputs has n000, .* n019 and 480 more$"):
        render("{{ inputs.x }}", {"inputs": {f"n{number:03}": 1 for number in range(500)}})


@pytest.mark.parametrize(
    "expression",
    [
        "''.__class__",
        "''.__class__.__mro__",
        "inputs.name.__class__",
        "inputs.__class__.__init__.__globals__",
        "inputs['__class__']",
        "inputs.items.__getitem__",
        "inputs.items.append",
        "inputs.name.format",
        "inputs.name['format']",
        "inputs.size.real",
        "(1).__add__",
        "true.__class__",
        "none.__class__",
        "self",
        "self._TemplateReference__context",
        "lipsum",
        "cycler",
        "namespace",
        "config",
        "request",
        "inputs | attr('name')",
        "inputs.items | map('upper')",
        "inputs.items | select",
        "inputs.name | format(1)",
        "inputs.name | pprint",
        "inputs.name | safe",
        "inputs.name | tojson",
        "inputs.name | xmlattr",
        "'%s' % inputs.name",
        "'%1000000000s' % 1",
        "'{0.__class__}'.format(1)",
        "range(3)",
        "inputs.items.append(1)",
        "dict(a=1)",
        "lipsum()",
        "''.join(['a'])",
        "cycler.__init__.__globals__.os.popen('id').read()",
        "inputs.items | default(*inputs.items)",
        "inputs.items | default(**inputs)",
        "inputs.name is filter",
        "inputs.name is sameas(1)",
        "inputs.items[::2]",
    ],
)
def test_nothing_leads_out_of_the_values(expression: str) -> None:
    refused(f"{{{{ {expression} }}}}")


@pytest.mark.parametrize(
    "text",
    [
        "{% for x in inputs.items %}{{ x }}{% endfor %}",
        "{% set x = 1 %}",
        "{% macro m() %}{% endmacro %}",
        "{% include 'x' %}",
        "{% import os %}",
        "{%- if true -%}x{% endif %}",
    ],
)
def test_statements_are_refused_with_a_way_to_write_them_literally(text: str) -> None:
    message = refused(text)
    assert "is a statement, and there are none" in message
    assert "{% raw %}" in message


@pytest.mark.parametrize(
    "expression",
    [
        "'a' * 10**9",
        "'a' * 1000000000",
        "1000000000 * 'a'",
        "[1] * 1000000000",
        "2 ** 99999999",
        "9" * 5000,
        "9" * 4000,
        "-" + "9" * 100,
        "'" + "9" * 100 + "' | int",
        "'" + "9" * 5000 + "' | int",
        "'1e999' | float",
        "1e308 * 10",
        "1e400",
        "'nan' | float",
        "1 / 0",
        "1 % 0",
        "1.5 // 0",
        "99999999999999999999999999999999999999999 * 99999999999999999999999999999999999999999",
        "inputs.size | round(1000000000)",
        "inputs.big ~ inputs.big",
        "inputs.big + inputs.big",
        "inputs.big | replace('x', 'xx')",
        "'x'" + " | replace('x', 'xxxxxxxxxx')" * 8,
        "inputs.big | split('x') | join('aaa')",
        "[inputs.big, inputs.big]",
        "[inputs.big, inputs.big] | json",
        "[inputs.big, inputs.big] | join",
        "'\\u0390' * 3",
        "'\\x00'",
        "'\\ud800'",
        "(" * 5000 + "1" + ")" * 5000,
        "(" * 500 + "1" + ")" * 500,
        "[" * 500 + "]" * 500,
        "not " * 2000 + "1",
        "- " * 3000 + "1",
        "+".join(["1"] * 3000),
        "'a'" + "~('a'" * 500 + ")" * 500,
        "inputs" + "['a']" * 2400,
        "1" + " if 1 else 1" * 800,
        "1" + " | string" * 1000,
        "'" + "[" * 9000 + "' | fromJson",
        "'" + "[" * 40 + "]" * 40 + "' | fromJson",
        "'NaN' | fromJson",
        "'[1e999]' | fromJson",
        "x" * 20_000,
        "'" + "x" * 20_000,
        "'2026-01-01' | dateAdd(99999999999999999999, 'DAYS')",
        "'2026-01-01' | dateAdd(99999, 'YEARS')",
        "'2026-01-01' | dateAdd(1e308, 'MONTHS')",
        "'2026-01-01' | date('" + "yyyy" * 1000 + "')",
        "'2026-01-01' | date('yyyy', timeZone='../../etc/passwd')",
    ],
)
def test_nothing_grows_or_runs_without_end(expression: str) -> None:
    refused(f"{{{{ {expression} }}}}")


@pytest.mark.parametrize(
    "expression",
    [
        "(inputs.big ~ inputs.big) | length",
        "(inputs.big + inputs.big) | length",
        "inputs.big | replace('x', 'xx') | length",
        "inputs.big | replace({'x': 'xx'}) | length",
        "['a', 'b', 'c'] | join(inputs.big) | length",
        "[inputs.big, inputs.big] | json | length",
    ],
)
def test_what_is_too_large_on_the_way_is_never_made(expression: str) -> None:
    assert "grows over the limit of 262144 characters" in refused(f"{{{{ {expression} }}}}")


def test_how_deep_steps_may_be_is_told_when_they_are_read_wherever_that_is() -> None:
    parse("{{ 1" + " | string" * 90 + " }}")
    with pytest.raises(ExpressionError, match="nested too deep"):
        parse("{{ 1" + " | string" * 110 + " }}")


def test_many_expressions_share_one_budget() -> None:
    refused("{{ inputs.big }}" * 2)
    refused("{{ 1 }}" * 1001)
    texts = ["{{ inputs.big | replace('x', 'y') | replace('y', 'x') | upper | lower | length }}"] * 1000
    with pytest.raises(ExpressionError, match=r"^\[\d+\]: .*too much work"):
        render_deep(texts, SCOPE)
    with pytest.raises(ExpressionError, match="longer than 1048576 characters together"):
        render_deep(["{{ inputs.big }}"] * 6, SCOPE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ }}", "`{{  }}`: it is empty"),
        ("{{ a", "`{{` has no `}}`; to have it in the text write {% raw %} … {% endraw %} around it"),
        ("{{ 'a }}", "`{{` is followed by a ' that is not closed; to have it"),
        ("{{ a b }}", "`{{ a b }}`: 'b' is not expected there"),
        ("{{ 1 + }}", "`{{ 1 + }}`: "),
        ("{{ a ! b }}", "`{{ a ! b }}`: unexpected char '!'"),
        ("{{ (a ?? b) }}", "`??` can only stand outside of all brackets"),
        ("{{ inputs.name | uper }}", "there is no filter 'uper'; did you mean upper?"),
        ("{{ inputs.name is strange }}", "there is no test 'strange'; did you mean string?"),
        ("{{ inputs.name | join(1, 2) }}", "join takes separator"),
        ("{{ inputs.name | upper(1) }}", "upper takes no arguments"),
        ("{{ f(1) }}", "nothing can be called"),
        ("{{ 2 ** 3 }}", "there are no powers (**)"),
        ("{% raw %}", "{% raw %} has no {% endraw %}"),
    ],
)
def test_what_can_t_be_read_is_told_when_it_is_read(text: str, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("inputs.name + 1", "+ takes numbers, not a string; join texts with ~"),
        ("1 < 'a'", "< takes numbers, not a string"),
        ("inputs.items | upper", "upper: it must be a text, not a list"),
        ("inputs.name | int", "int: it is no whole number"),
        ("inputs.name | date", "date: the text is no date in ISO-8601"),
        ("inputs.name | join", "join: it must be a list, not a string"),
        ("[1, 'a'] | sort", "sort: only texts or only numbers can be sorted"),
        ("'2026-01-01' | date('yyyyy')", "there is no 'yyyyy' in a format"),
        ("'2026-01-01' | date('%Q')", "there is no %Q in a format"),
        ("'2026-01-01' | date(timeZone='Mars/Base')", "this machine knows no time zone 'Mars/Base'"),
        ("'2026-01-01' | dateAdd(1, 'MOONS')", "the unit is one of"),
        ("[] | first", "first: the list is empty"),
        ("1 in 5", "`in` looks into a text, a list or a map, not into a number"),
        ("inputs[1]", "inputs is a map: its keys are texts, not a number"),
    ],
)
def test_a_wrong_value_is_told_with_the_expression_and_never_shown(expression: str, message: str) -> None:
    told = refused(f"{{{{ {expression} }}}}")
    assert told.startswith(f"`{{{{ {expression} }}}}`: ")
    assert message in told


def test_an_error_tells_the_line_of_its_expression() -> None:
    with pytest.raises(ExpressionError) as caught:
        parse("one\ntwo {{ a }}\nthree {{ b( }}")
    assert caught.value.line == 3


def test_jinja_is_imported_when_the_first_expression_is_read() -> None:
    code = (
        "import sys; from farhand.kernel.expressions import render, render_deep\n"
        "render('plain', {}); render_deep({'a': ['b']}, {}); assert 'jinja2' not in sys.modules\n"
        "render('{{ 1 }}', {}); assert 'jinja2' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
