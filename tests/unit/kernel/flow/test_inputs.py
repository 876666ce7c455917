"""Inputs are checked when an execution is created, all at once; texts become what the input wants."""

from typing import Any

import pytest

from farhand.kernel.flow import Flow, check_inputs


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
