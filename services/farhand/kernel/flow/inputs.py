"""Inputs of an execution: checked when it is created, all at once.

A text is taken for every type, for that is what `--input size=5` gives; of a JSON or
ARRAY it is the JSON text, so that a JSON that is a text itself comes in quotes. Values
are JSON afterwards: dates and durations stay texts, dates in one form. A SECRET's value
is in no violation; `part_secrets` takes it out of what is kept and shown.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from farhand.kernel.durations import parse_duration
from farhand.kernel.errors import Violation
from farhand.kernel.exact_json import LARGEST_INTEGER, check_json, read_json
from farhand.kernel.expressions.values import plain
from farhand.kernel.flow.model import Flow, Input, InputType, ItemType
from farhand.kernel.flow.parts import LONGEST_DURATION, as_text
from farhand.kernel.flow.source import Path, path_text
from farhand.kernel.kinds import kind
from farhand.kernel.names import near_matches, shown
from farhand.kernel.secrets import MASK, why_no_secret

MOST_TOLD = 20  # values of a SELECT that a message lists, and items of an ARRAY of which it is told what is wrong
_INTEGER = re.compile(r"[-+]?[0-9]{1,20}")


class _Wrong(Exception):
    """A value, or an item of it, is not what the input takes."""


class _WrongItems(Exception):
    """Items of a value are not what the input takes: what is wrong with each, by its number."""

    def __init__(self, items: Mapping[int, str]) -> None:
        super().__init__()
        self.items = items


def check_inputs(flow: Flow, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Violation]]:
    """The values of all inputs, with defaults, and what is wrong; paths are like `inputs.size`.

    An input that is not required, not given and has no default is None, as is one that is given as null.
    """
    return _checked(flow.inputs, given)


def check_values(inputs: Sequence[Input], given: Mapping[str, Any]) -> list[Violation]:
    """What `check_inputs` would find wrong, of a flow with these inputs."""
    return _checked(inputs, given)[1]


def _checked(inputs: Sequence[Input], given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Violation]]:
    values: dict[str, Any] = {}
    violations: list[Violation] = []
    known = [each.id for each in inputs]
    for name in given:
        if name not in known:
            near = near_matches(name, known)
            if near:
                hint = f" Did you mean {' or '.join(near)}?"
            else:
                hint = f" It has {', '.join(known)}." if known else " It has none."
            violations.append(Violation(path_text(("inputs", name)), f"the flow has no input {shown(name)}.{hint}"))
    for each in inputs:
        value = given.get(each.id)
        if value is None:
            value = each.defaults
        if value is None:
            if each.required:
                violations.append(Violation(f"inputs.{each.id}", f"is required: {_wanted(each)}"))
            values[each.id] = None
            continue
        values[each.id], wrong = _converted(each, value)
        violations += [Violation(path_text(("inputs", each.id, *where)), what) for where, what in wrong]
    return values, violations


def check_default(of: Input) -> list[tuple[Path, str]]:
    """What is wrong with an input's own default, and with which item of it."""
    if of.defaults is None:
        return []
    if of.type is InputType.SECRET:
        why = "must not be there: whoever may read the flow would read the secret. It is given to each execution"
        return [((), why)]
    return _converted(of, of.defaults)[1]


def _converted(of: Input, value: Any) -> tuple[Any, list[tuple[Path, str]]]:
    """The value as the input has it, and what is wrong with it."""
    try:
        match of.type:
            case InputType.SELECT:
                return _selected(of, value), []
            case InputType.ARRAY:
                return _array(of, value), []
            case _:
                return _CONVERSIONS[of.type](value), []
    except _WrongItems as error:
        wrong: list[tuple[Path, str]] = [((index,), what) for index, what in error.items.items()]
        if len(wrong) > MOST_TOLD:
            wrong = [*wrong[:MOST_TOLD], ((), f"has {len(wrong) - MOST_TOLD} more items that are wrong")]
        return None, wrong
    except _Wrong as error:
        return None, [((), str(error))]


def secret_names(flow: Flow) -> frozenset[str]:
    """The ids of the flow's SECRET inputs."""
    return frozenset(each.id for each in flow.inputs if each.type is InputType.SECRET)


def part_secrets(flow: Flow, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Checked values in two: all inputs as they are kept and shown, with MASK for each secret that is there, and the
    secrets by their names. One that is masked already is no secret any more."""
    there = {name: value for name in secret_names(flow) if (value := values.get(name)) is not None}
    return {**values, **dict.fromkeys(there, MASK)}, {name: text for name, text in there.items() if text != MASK}


_WANTED: Mapping[InputType, str] = {
    InputType.STRING: "a text",
    InputType.INT: "a whole number",
    InputType.FLOAT: "a number",
    InputType.BOOLEAN: "true or false",
    InputType.DATETIME: "a date and time with its offset, such as 2026-01-31T08:00:00Z",
    InputType.DURATION: "a duration such as PT1M30S",
    InputType.JSON: "JSON",
    InputType.ARRAY: "a JSON list such as [1, 2]",
    InputType.SECRET: "a secret text, which `farhand execution create` takes by --input NAME=@FILE, by --input-env, "
    "or asks for",
}


def _wanted(of: Input) -> str:
    return f"one of {_listed(of.values)}" if of.type is InputType.SELECT else _WANTED[of.type]


def _listed(values: Sequence[str]) -> str:
    more = f" and {len(values) - MOST_TOLD} more" if len(values) > MOST_TOLD else ""
    return ", ".join(map(shown, values[:MOST_TOLD])) + more


def _wrong(type: InputType, value: Any) -> _Wrong:
    what = shown(value) if isinstance(value, str) else kind(value)
    return _Wrong(f"must be {_WANTED[type]}, not {what}")


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(InputType.STRING, value)
    if "\0" in value:
        raise _Wrong("must not hold a NUL character")
    return value


def _int(value: Any) -> int:
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, float) and value.is_integer():  # JSON on the wire has no other numbers
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(InputType.INT, value)
    if abs(value) > LARGEST_INTEGER:
        raise _Wrong(f"is too large: at most {LARGEST_INTEGER}, above which numbers are not exact")
    return value


def _float(value: Any) -> float:
    if isinstance(value, str):
        try:
            value = float(value) if "_" not in value else value
        except ValueError:
            raise _wrong(InputType.FLOAT, value) from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(InputType.FLOAT, value)
    if isinstance(value, float) and not math.isfinite(value):
        raise _Wrong("must be finite")
    return value


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and (word := value.strip().casefold()) in ("true", "false"):
        return word == "true"
    raise _wrong(InputType.BOOLEAN, value)


def _datetime(value: Any) -> str:
    """In the form that expressions have for all dates: ISO-8601 with an offset."""
    if not isinstance(value, str):
        raise _wrong(InputType.DATETIME, value)
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        raise _wrong(InputType.DATETIME, value) from None
    if moment.tzinfo is None:
        raise _wrong(InputType.DATETIME, value)
    return moment.isoformat().replace("+00:00", "Z")


def _duration(value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(InputType.DURATION, value)
    try:
        seconds = parse_duration(value)
    except ValueError:
        raise _wrong(InputType.DURATION, value) from None
    if seconds > LONGEST_DURATION:
        raise _Wrong("is longer than ten years")
    return value.strip()


def _json(value: Any) -> Any:
    try:
        if isinstance(value, str):
            return read_json(value)
        check_json(value)
    except ValueError as error:
        raise _Wrong(str(error)) from None
    return value


def _selected(of: Input, value: Any) -> str:
    text = as_text(plain(value) if isinstance(value, float) and math.isfinite(value) else value)
    if not isinstance(text, str):
        raise _Wrong(f"must be one of {_listed(of.values)}, not {kind(value)}")
    if text not in of.values:
        near = near_matches(text, of.values)
        hint = f". Did you mean {' or '.join(map(shown, near))}?" if near else ""
        raise _Wrong(f"must be one of {_listed(of.values)}, not {shown(text)}{hint}")
    return text


def _array(of: Input, value: Any) -> list[Any]:
    items = _json(value)
    if not isinstance(items, list):
        raise _Wrong(f"must be {_WANTED[InputType.ARRAY]}, not {kind(items)}")
    if of.item_type in (None, ItemType.JSON):
        return items  # a text among them is a text, and not JSON once more
    convert = _CONVERSIONS[InputType(of.item_type)]
    made: list[Any] = []
    wrong: dict[int, str] = {}
    for index, item in enumerate(items):
        try:
            made.append(convert(item))
        except _Wrong as error:
            wrong[index] = str(error)
    if wrong:
        raise _WrongItems(wrong)
    return made


def _secret(value: Any) -> str:
    if why := why_no_secret(value):
        raise _Wrong(why)
    text: str = value
    return text


_CONVERSIONS: Mapping[InputType, Callable[[Any], Any]] = {
    InputType.STRING: _string,
    InputType.INT: _int,
    InputType.FLOAT: _float,
    InputType.BOOLEAN: _boolean,
    InputType.DATETIME: _datetime,
    InputType.DURATION: _duration,
    InputType.JSON: _json,
    InputType.SECRET: _secret,
}
"""Of the types of which nothing more needs to be known."""
