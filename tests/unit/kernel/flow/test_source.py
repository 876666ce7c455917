"""YAML as plain data with places; whatever is no flow's YAML is told where it stands, soon, and never raised."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farhand.kernel.flow.source import LARGEST, MOST_PROBLEMS, MOST_VALUES, Source


def told(text: str | bytes) -> list[str]:
    return [str(problem) for problem in Source.of(text).problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-7", -7),
        ("012", 12),
        ("0x1F", 31),
        ("0o17", 15),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("yes", "yes"),
        ("on", "on"),
        ("1_000", "1_000"),
        ("2026-01-31", "2026-01-31"),
        ("12:30:45", "12:30:45"),
        ('"5"', "5"),
        ("'true'", "true"),
        ("=", "="),
        ("|\n  two\n  lines", "two\nlines"),
        ("{b: [1, {c: d}]}", {"b": [1, {"c": "d"}]}),
        ("{}", {}),
        ("[]", []),
        ("<<", "<<"),
        ("ü 🎈", "ü 🎈"),
    ],
)
def test_scalars_are_read_by_the_core_schema_of_yaml_1_2(text: str, value: Any) -> None:
    source = Source.of(f"a: {text}")
    assert source.data == {"a": value} and type(source.data["a"]) is type(value)
    assert source.problems == []


def test_names_are_texts_as_they_are_written() -> None:
    assert Source.of("on: 1\n1: 2\n~: 3\ntrue: 4").data == {"on": 1, "1": 2, "~": 3, "true": 4}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the flow is empty: it needs id, namespace and tasks"),
        ("# a comment", "the flow is empty: it needs id, namespace and tasks"),
        (
            "a:\n\tb: 1",
            "line 2, column 1: a tab stands here, where YAML takes spaces alone",
        ),
        ("a: 1\nb: 2\na: 3", "line 3, column 1: a: 'a' is there twice; the first is in line 1"),
        ("x:\n  - a: 1\n    a: 3", "line 3, column 5: x[0].a: 'a' is there twice; the first is in line 2"),
        ("a: &x 1", "line 1, column 4: a: anchors are not taken: leave &x out, or quote the text"),
        (
            "cron: * * * * *",
            "line 1, column 8: text that begins with * or & needs quotes",
        ),
        (
            "a: *x",
            "line 1, column 4: a: aliases are not taken: write it out. Text that begins with * needs quotes",
        ),
        ("a: !!str 5", "line 1, column 4: a: tags are not taken: leave '!!str' out, or quote the text"),
        (
            "a: [!!python/name:os.system {}]",
            "line 1, column 5: a[0]: tags are not taken: leave '!!python/name:os.system' out, or quote the text",
        ),
        ("a: 1\n---\nb: 2", "line 2, column 1: a second document begins here; a file holds one flow"),
        (
            "a: b: c",
            "line 1, column 5: a colon stands where none can: text with ': ' in it needs quotes",
        ),
        ("a: 1\nb", "line 3, column 1: a name needs a colon behind it"),
        (
            "tasks:\n  - id: a\n   type: b",
            "line 3, column 4: tasks: this is no item of the list above it: look at the indentation",
        ),
        (
            "a:\n    b: 1\n  c: 2",
            "line 3, column 3: this does not fit what is above it: look at the indentation and at open quotes",
        ),
        (
            'a: "x',
            "line 1, column 6: the quotes are never closed (begun in line 1, column 4)",
        ),
        (
            "a: [1, 2",
            "line 2, column 1: a: a comma or ] is missing here (begun in line 1, column 4)",
        ),
        (
            "a: {b: 1",
            "line 2, column 1: a: a comma or } is missing here (begun in line 1, column 4)",
        ),
        ("a: @x", "line 1, column 4: text that begins with @ needs quotes"),
        ("a: {{ x }}", 'line 1, column 5: a: a name must be a text; an expression needs quotes: "{{ … }}"'),
        ("? [a]\n: b", 'line 1, column 3: a name must be a text; an expression needs quotes: "{{ … }}"'),
        ("a: .inf", "line 1, column 4: a: .inf is no number of JSON; quote it to keep it as a text"),
        ("a: 1e999", "line 1, column 4: a: is too large for a number; quote it to keep it as a text"),
        (
            "a: " + "9" * 5000,
            "line 1, column 4: a: is too large to be kept exactly; quote it to keep it as a text",
        ),
        ('a: "\\0"', "line 1, column 4: a: must not hold a NUL character"),
        ("a: \x07", "line 1, column 4: a control character stands here, which YAML does not take"),
        ("a: \ud800", "line 1: the flow is not UTF-8: save it in that encoding"),
        (b"a: 1\nb: \xff", "line 2: the flow is not UTF-8: save it in that encoding"),
        ("a: 1\n".encode("utf-16"), "line 1: the flow is not UTF-8: save it in that encoding"),
    ],
)
def test_what_is_no_flows_yaml_is_told_where_it_stands(text: str | bytes, problem: str) -> None:
    assert told(text) == [problem]


def test_of_two_values_under_one_name_the_first_is_kept() -> None:
    source = Source.of("a: 1\na: {b: 2}\nc: 3")
    assert source.data == {"a": 1, "c": 3}
    assert source.place(("a",)) == (1, 4)


def test_a_bomb_of_aliases_is_a_problem_for_each_of_them_and_grows_nothing() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    source = Source.of("\n".join(lines))
    assert source.data["a8"] == [None] * 9
    assert len([each for each in source.problems if "aliases" in each.message]) == 72
    assert len([each for each in source.problems if "anchors" in each.message]) == 9


def test_what_is_larger_than_a_flow_can_be_is_not_parsed() -> None:
    assert told("x" * (10 << 20)) == [f"the flow has {10 << 20} bytes; at most {LARGEST} are allowed"]
    assert told("é" * (LARGEST // 2 + 1)) == [f"the flow has {LARGEST + 2} bytes; at most {LARGEST} are allowed"]
    assert told("a: " + "x" * (LARGEST - 3)) == []


@pytest.mark.parametrize("opening", ["[", "- ", "{a: "])
def test_what_is_nested_without_end_is_read_no_deeper_than_thirty_levels(opening: str) -> None:
    (problem,) = told(opening * 10_000)
    assert problem.endswith("this is nested more than 30 levels deep")


def test_thirty_levels_are_taken() -> None:
    assert told("[" * 30 + "]" * 30) == []
    assert len(told("[" * 31 + "]" * 31)) == 1


def test_values_are_bounded() -> None:
    assert told("a:\n" + "- x\n" * MOST_VALUES) == [
        f"line {MOST_VALUES}, column 3: a: the flow holds more than {MOST_VALUES} values"
    ]


def test_problems_are_bounded() -> None:
    assert len(told("a: 1\n" * 10_000)) == MOST_PROBLEMS + 1


def test_a_place_is_that_of_the_value_or_its_name_or_the_nearest_around_it() -> None:
    source = Source.of("a: 1\ntasks:\n  - id: x\n    env: {B: 2}\n")
    assert source.place(("tasks", 0, "id")) == (3, 9)
    assert source.place(("tasks", 0, "id"), key=True) == (3, 5)
    assert source.place(("tasks", 0, "env", "B")) == (4, 14)
    assert source.place(("tasks", 0, "type")) == (3, 5)
    assert source.place(("tasks", 5)) == (3, 3)
    assert source.place(("nothing",)) == (1, 1)


@settings(deadline=None)
@given(st.text(alphabet="ab:-[]{}\"'&*!|>%@`#?,~ \t\n\\0.é\x00\ud800", max_size=60))
def test_no_text_raises(text: str) -> None:
    source = Source.of(text)
    assert source.data is not None or source.problems or "~" in text or not text.strip()
    for problem in source.problems:
        assert problem.line <= text.count("\n") + 2


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_no_bytes_raise(raw: bytes) -> None:
    Source.of(raw)
