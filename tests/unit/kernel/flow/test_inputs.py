"""Inputs are checked when an execution is created, all at once; texts become what the input wants."""

from typing import Any

import pytest

from farhand.kernel.flow import Flow, check_inputs, part_secrets


def a_flow(*inputs: dict[str, Any]) -> Flow:
    task = {"id": "x", "type": "farhand.core.Noop"}
    return Flow.model_validate({"id": "a", "namespace": "b", "inputs": list(inputs), "tasks": [task]})


@pytest.mark.parametrize(
    ("type", "given", "value"),
    [
        ("STRING", "", ""),
        ("STRING", "5", "5"),
        ("INT", "5", 5),
        ("INT", " -7 ", -7),
        ("INT", 5.0, 5),
        ("INT", 2**53, 2**53),
        ("FLOAT", "1.5", 1.5),
        ("FLOAT", "1e3", 1000.0),
        ("FLOAT", 2, 2),
        ("BOOLEAN", "true", True),
        ("BOOLEAN", "False", False),
        ("BOOLEAN", True, True),
        ("DATETIME", "2026-01-31T08:00:00Z", "2026-01-31T08:00:00Z"),
        ("DATETIME", "2026-01-31 08:00+01:00", "2026-01-31T08:00:00+01:00"),
        ("DURATION", "PT5M", "PT5M"),
        ("DURATION", "90s", "90s"),
        ("JSON", '{"a": [1, 2.5, null]}', {"a": [1, 2.5, None]}),
        ("JSON", '"text"', "text"),
        ("JSON", "5", 5),
        ("JSON", {"a": ["as it is"]}, {"a": ["as it is"]}),
        ("JSON", False, False),
        ("ARRAY", '[1, "x", {"a": []}]', [1, "x", {"a": []}]),
        ("ARRAY", ["x", "5"], ["x", "5"]),
        ("ARRAY", "[]", []),
    ],
)
def test_values_are_taken_as_their_type_wants_them(type: str, given: Any, value: Any) -> None:
    values, violations = check_inputs(a_flow({"id": "x", "type": type}), {"x": given})
    assert not violations
    assert values == {"x": value} and values["x"].__class__ is value.__class__


@pytest.mark.parametrize(
    ("type", "given", "message"),
    [
        ("STRING", 5, "must be a text, not a number"),
        ("STRING", "a\0b", "must not hold a NUL character"),
        ("INT", "five", "must be a whole number, not 'five'"),
        ("INT", "1_000", "must be a whole number, not '1_000'"),
        ("INT", "9" * 5000, f"must be a whole number, not '{'9' * 59}…'"),
        ("INT", 1.5, "must be a whole number, not a number"),
        ("INT", True, "must be a whole number, not a boolean"),
        ("INT", 2**53 + 1, f"is too large: at most {2**53}, above which numbers are not exact"),
        ("FLOAT", "x", "must be a number, not 'x'"),
        ("FLOAT", "1_0", "must be a number, not '1_0'"),
        ("FLOAT", "nan", "must be finite"),
        ("FLOAT", "1e999", "must be finite"),
        ("FLOAT", False, "must be a number, not a boolean"),
        ("BOOLEAN", "yes", "must be true or false, not 'yes'"),
        ("BOOLEAN", 1, "must be true or false, not a number"),
        ("JSON", "text", "is no JSON: expecting value (line 1, column 1)"),
        ("JSON", '{"a": 1,}', "is no JSON: expecting property name enclosed in double quotes (line 1, column 9)"),
        ("JSON", "NaN", "holds NaN, which is no number of JSON"),
        ("JSON", "[1e999]", "holds a number that is too large"),
        ("JSON", str(2**53 + 1), f"holds a number above {2**53}, which is not kept exactly: quote it"),
        ("JSON", "9" * 5000, f"holds a number above {2**53}, which is not kept exactly: quote it"),
        ("JSON", "[" * 100_000, "is nested more than 30 levels deep"),
        ("JSON", "[" * 31 + "]" * 31, "is nested more than 30 levels deep"),
        ("JSON", '["a\\u0000"]', "holds a NUL character"),
        ("JSON", {"a\0": 1}, "holds a NUL character"),
        ("ARRAY", "1, 2", "is no JSON: extra data (line 1, column 2)"),
        ("ARRAY", '{"a": 1}', "must be a JSON list such as [1, 2], not a map"),
        ("ARRAY", 5, "must be a JSON list such as [1, 2], not a number"),
        (
            "DATETIME",
            "2026-01-31T08:00:00",
            "must be a date and time with its offset, such as 2026-01-31T08:00:00Z, not '2026-01-31T08:00:00'",
        ),
        (
            "DATETIME",
            "tomorrow",
            "must be a date and time with its offset, such as 2026-01-31T08:00:00Z, not 'tomorrow'",
        ),
        ("DURATION", "long", "must be a duration such as PT1M30S, not 'long'"),
        ("DURATION", 5, "must be a duration such as PT1M30S, not a number"),
        ("DURATION", "P99999D", "is longer than ten years"),
    ],
)
def test_what_is_no_value_of_the_type_is_refused(type: str, given: Any, message: str) -> None:
    _, violations = check_inputs(a_flow({"id": "x", "type": type}), {"x": given})
    assert [(each.path, each.description) for each in violations] == [("inputs.x", message)]


def test_all_that_is_wrong_is_told_at_once() -> None:
    flow = a_flow({"id": "size", "type": "INT"}, {"id": "name", "type": "STRING"}, {"id": "on", "type": "BOOLEAN"})
    _, violations = check_inputs(flow, {"sise": 5, "on": "maybe", "zzz": 1})
    assert [(each.path, each.description) for each in violations] == [
        ("inputs.sise", "the flow has no input 'sise'. Did you mean size?"),
        ("inputs.zzz", "the flow has no input 'zzz'. It has size, name, on."),
        ("inputs.size", "is required: a whole number"),
        ("inputs.name", "is required: a text"),
        ("inputs.on", "must be true or false, not 'maybe'"),
    ]


def test_defaults_stand_in_and_what_is_not_required_is_none() -> None:
    flow = a_flow(
        {"id": "a", "type": "INT", "defaults": 5},
        {"id": "b", "type": "DURATION", "required": False},
        {"id": "c", "type": "STRING", "defaults": ""},
    )
    assert check_inputs(flow, {}) == ({"a": 5, "b": None, "c": ""}, [])
    assert check_inputs(flow, {"a": None, "b": None}) == ({"a": 5, "b": None, "c": ""}, [])
    assert check_inputs(flow, {"a": 6, "b": "PT1S", "c": "x"}) == ({"a": 6, "b": "PT1S", "c": "x"}, [])


def test_a_flow_without_inputs_takes_none() -> None:
    _, (violation,) = check_inputs(a_flow(), {"a": 1})
    assert violation.description == "the flow has no input 'a'. It has none."


SIZE = {"id": "size", "type": "SELECT", "values": ["small", "large", 4, True]}


@pytest.mark.parametrize(("given", "value"), [("small", "small"), ("4", "4"), (4.0, "4"), (True, "true")])
def test_a_select_takes_one_of_its_values(given: Any, value: str) -> None:
    assert check_inputs(a_flow(SIZE), {"size": given}) == ({"size": value}, [])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("smal", "must be one of 'small', 'large', '4', 'true', not 'smal'. Did you mean 'small'?"),
        ("huge-est", "must be one of 'small', 'large', '4', 'true', not 'huge-est'"),
        (["small"], "must be one of 'small', 'large', '4', 'true', not a list"),
        (None, "is required: one of 'small', 'large', '4', 'true'"),
    ],
)
def test_a_select_takes_nothing_else(given: Any, message: str) -> None:
    _, (violation,) = check_inputs(a_flow(SIZE), {"size": given})
    assert (violation.path, violation.description) == ("inputs.size", message)


def test_a_select_of_many_values_lists_some() -> None:
    many = a_flow({"id": "n", "type": "SELECT", "values": [f"v{n}" for n in range(30)]})
    _, (violation,) = check_inputs(many, {"n": "x"})
    assert "'v19' and 10 more, not 'x'" in violation.description


@pytest.mark.parametrize(
    ("item_type", "given", "value"),
    [
        ("INT", '[1, 2.0, "3"]', [1, 2, 3]),
        ("STRING", ["a", ""], ["a", ""]),
        ("BOOLEAN", '[true, "false"]', [True, False]),
        ("DURATION", ["90s"], ["90s"]),
        ("JSON", '[1, [2], "x"]', [1, [2], "x"]),
    ],
)
def test_the_items_of_an_array_are_taken_as_their_type_wants_them(item_type: str, given: Any, value: list[Any]) -> None:
    flow = a_flow({"id": "list", "type": "ARRAY", "itemType": item_type})
    assert check_inputs(flow, {"list": given}) == ({"list": value}, [])


def test_each_item_of_an_array_that_is_wrong_is_told() -> None:
    flow = a_flow({"id": "list", "type": "ARRAY", "itemType": "INT"}, {"id": "s", "type": "SELECT", "values": ["a"]})
    _, violations = check_inputs(flow, {"list": '[1, "two", 3, null]', "s": "b"})
    assert [(each.path, each.description) for each in violations] == [
        ("inputs.list[1]", "must be a whole number, not 'two'"),
        ("inputs.list[3]", "must be a whole number, not nothing"),
        ("inputs.s", "must be one of 'a', not 'b'"),
    ]
    _, violations = check_inputs(flow, {"list": ["x"] * 25, "s": "a"})
    assert (len(violations), violations[-1].description) == (21, "has 5 more items that are wrong")


@pytest.mark.parametrize("given", ["abc", "  abc  ", "", "n33dle\0", 12345678, ["n33dle"], {"n33dle": 1}, True])
def test_what_is_no_secret_is_refused_without_being_told(given: Any) -> None:
    values, [violation] = check_inputs(a_flow({"id": "x", "type": "SECRET"}), {"x": given})
    assert (violation.path, values) == ("inputs.x", {"x": None})
    assert "n33dle" not in violation.description and "12345678" not in violation.description


def test_secrets_are_taken_out_of_what_is_kept() -> None:
    flow = a_flow(
        {"id": "token", "type": "SECRET"},
        {"id": "pin", "type": "SECRET", "required": False},
        {"id": "who", "type": "STRING"},
    )
    values, violations = check_inputs(flow, {"token": " s3cret ", "who": "ada"})
    assert violations == []
    kept, secrets = part_secrets(flow, values)
    assert kept == {"token": "***", "pin": None, "who": "ada"}
    assert secrets == {"token": " s3cret "}
    assert part_secrets(flow, kept) == (kept, {})
