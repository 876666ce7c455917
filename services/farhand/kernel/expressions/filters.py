"""The filters and tests that expressions have, and no others. Each makes a JSON value of others, within the budget."""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from farhand.kernel.expressions import dates
from farhand.kernel.expressions.budget import Budget, whole
from farhand.kernel.expressions.errors import ExpressionError
from farhand.kernel.expressions.operators import Number, contains, position, slice_of
from farhand.kernel.expressions.values import json_of, text_of
from farhand.kernel.kinds import kind
from farhand.kernel.nesting import MOST_LEVELS, too_deep

MISSING: Final = object()  # what is not defined, for those that take that


@dataclass(frozen=True, slots=True)
class Function:
    """A filter or a test: `call(budget, value, *arguments)`."""

    call: Callable[..., Any]
    takes_missing: bool = False

    def check(self, name: str, args: int, named: Sequence[str]) -> None:
        """Raises ExpressionError where the arguments are not its own."""
        try:
            inspect.signature(self.call).bind(None, None, *[None] * args, **dict.fromkeys(named))
        except TypeError:
            parameters = list(inspect.signature(self.call).parameters)[2:]
            takes = f"takes {', '.join(parameters)}" if parameters else "takes no arguments"
            raise ExpressionError(f"{name} {takes}") from None

    def apply(self, name: str, budget: Budget, subject: Any, args: Sequence[Any], named: Mapping[str, Any]) -> Any:
        """Its value. Raises ExpressionError."""
        for value in (subject, *args, *named.values()):
            if value is not MISSING:
                budget.measure(value)
        try:
            return self.call(budget, subject, *args, **named)
        except ExpressionError as error:
            raise ExpressionError(f"{name}: {error.message}") from None


# ── texts ──


def _text(value: Any, what: str = "it") -> str:
    if not isinstance(value, str):
        raise ExpressionError(f"{what} must be a text, not {kind(value)}")
    return value


def _written(value: Any, budget: Budget) -> str:
    """Numbers and booleans as their text; for filters that people use on both."""
    if isinstance(value, dict | list) or value is None:
        raise ExpressionError(f"it must be a text, not {kind(value)}")
    return text_of(value, budget)


def _case(change: Callable[[str], str]) -> Callable[..., Any]:
    def case(budget: Budget, value: Any) -> str:
        text = change(_written(value, budget))
        budget.room(len(text))
        return text

    return case


def _replace(budget: Budget, value: Any, old: Any, new: Any = None) -> str:
    """replace('a', 'b'), or Pebble's replace({'a': 'b'})."""
    text = _written(value, budget)
    pairs = old.items() if isinstance(old, dict) and new is None else [(old, new)]
    for before, after in pairs:
        if _text(before, "what is replaced") == "":
            raise ExpressionError("an empty text can't be replaced")
        after = _text(after, "the replacement")
        budget.work(len(text))
        budget.room(len(text) + text.count(before) * (len(after) - len(before)))
        text = text.replace(before, after)
    return text


def _split(budget: Budget, value: Any, separator: Any = None, limit: Any = None) -> list[str]:
    most = _whole(limit, "limit") if limit is not None else 0
    if separator == "":
        raise ExpressionError("the separator must not be empty")
    between = None if separator is None else _text(separator, "the separator")
    parts = _written(value, budget).split(between, most - 1 if most > 0 else -1)
    budget.room(len(parts))
    return parts


def _substring(budget: Budget, value: Any, begin: Any, end: Any = None) -> str:
    return str(slice_of(_text(value), position(begin), position(end), budget=budget))


def _slice(budget: Budget, value: Any, begin: Any = None, end: Any = None) -> Any:
    return slice_of(value, begin, end, budget=budget)


def _starts(budget: Budget, value: Any, prefix: Any) -> bool:
    return _text(value).startswith(_text(prefix, "the prefix"))


def _ends(budget: Budget, value: Any, suffix: Any) -> bool:
    return _text(value).endswith(_text(suffix, "the suffix"))


# ── lists and maps ──


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ExpressionError(f"it must be a list, not {kind(value)}")
    return value


def _length(budget: Budget, value: Any) -> int:
    if not isinstance(value, str | list | dict):
        raise ExpressionError(f"only a text, a list or a map has a length, not {kind(value)}")
    return len(value)


def _at(index: int) -> Callable[..., Any]:
    def at(budget: Budget, value: Any) -> Any:
        if not isinstance(value, str | list):
            raise ExpressionError(f"it must be a list or a text, not {kind(value)}")
        if not value:
            raise ExpressionError(f"the {'text' if isinstance(value, str) else 'list'} is empty")
        return value[index]

    return at


def _join(budget: Budget, value: Any, separator: Any = "") -> str:
    between = _text(separator, "the separator")
    texts = [text_of(item, budget) for item in _list(value)]
    budget.room(sum(map(len, texts)) + len(between) * len(texts))
    return between.join(texts)


def _sort(budget: Budget, value: Any, reverse: Any = False) -> list[Any]:
    items = _list(value)
    budget.work(20 * len(items))
    if all(isinstance(item, str) for item in items) or all(
        isinstance(item, int | float) and not isinstance(item, bool) for item in items
    ):
        return sorted(items, reverse=bool(reverse))
    raise ExpressionError("only texts or only numbers can be sorted")


def _unique(budget: Budget, value: Any) -> list[Any]:
    budget.work(50 * len(_list(value)))
    seen: dict[str, Any] = {}
    for item in value:
        seen.setdefault(json_of(item, budget), item)
    return list(seen.values())


def _keys(budget: Budget, value: Any) -> list[str]:
    return list(_map(value))


def _values(budget: Budget, value: Any) -> list[Any]:
    return list(_map(value).values())


def _map(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ExpressionError(f"it must be a map, not {kind(value)}")
    return value


# ── numbers ──


def _number(value: Any) -> Number:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ExpressionError(f"it must be a number, not {kind(value)}")
    return value


def _whole(value: Any, what: str = "it") -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ExpressionError(f"{what} must be a whole number, not {kind(value)}")
    return value


def _int(budget: Budget, value: Any, default: Any = MISSING) -> Any:
    try:
        return whole(int(value if isinstance(value, int | float) else _text(value).strip()))
    except (ValueError, OverflowError):
        return _else(default, "it is no whole number")


def _float(budget: Budget, value: Any, default: Any = MISSING) -> Any:
    try:
        return float(value if isinstance(value, int | float) else _text(value).strip())
    except (ValueError, OverflowError):
        return _else(default, "it is no number")


def _to_number(budget: Budget, value: Any, type: Any = None) -> Any:
    """Kestra's number: a text as the number that it is, or as the one of a type (INT, FLOAT, …)."""
    wanted = None if type is None else _text(type, "the type").upper()
    if wanted in ("INT", "LONG", "BIGINTEGER"):
        return _int(budget, value)
    if wanted in ("FLOAT", "DOUBLE", "BIGDECIMAL"):
        return _float(budget, value)
    if wanted is not None:
        raise ExpressionError("the type is one of INT, LONG, FLOAT, DOUBLE")
    if isinstance(value, str):
        try:
            return whole(int(value.strip()))
        except ValueError:
            return _float(budget, value)
    return _number(value)


def _round(budget: Budget, value: Any, digits: Any = 0) -> Number:
    places = _whole(digits, "the number of digits")
    if not -30 <= places <= 30:
        raise ExpressionError("the number of digits must be between -30 and 30")
    number = _number(value)
    if number != number or number in (float("inf"), -float("inf")):
        raise ExpressionError("it is no number that can be rounded")
    rounded = round(number, places)
    return whole(int(rounded)) if places <= 0 else rounded


def _else(default: Any, message: str) -> Any:
    if default is MISSING:
        raise ExpressionError(message)
    return default


# ── everything ──


def _default(budget: Budget, value: Any, default: Any = "", empty: Any = False) -> Any:
    """What is not defined or null becomes the default; with true as the second argument, what is empty too."""
    return default if value is MISSING or value is None or (empty and not value) else value


def _json(budget: Budget, value: Any) -> str:
    return json_of(value, budget)


def _from_json(budget: Budget, value: Any) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(constant)

    try:
        read = json.loads(_text(value), parse_constant=refuse)
    except (ValueError, RecursionError):
        raise ExpressionError("the text is no JSON") from None
    if too_deep(read):
        raise ExpressionError(f"the JSON is nested more than {MOST_LEVELS} levels deep")
    budget.measure(read)
    return read


def _is(*types: type) -> Callable[..., bool]:
    def is_(budget: Budget, value: Any) -> bool:
        return isinstance(value, types) and (bool in types or not isinstance(value, bool))

    return is_


FILTERS: Mapping[str, Function] = {
    "abs": Function(lambda budget, value: abs(_number(value))),
    "capitalize": Function(_case(str.capitalize)),
    "contains": Function(lambda budget, value, item: contains(value, item, budget)),
    "date": Function(dates.date),
    "dateAdd": Function(dates.date_add),
    "default": Function(_default, takes_missing=True),
    "endsWith": Function(_ends),
    "first": Function(_at(0)),
    "float": Function(_float),
    "fromJson": Function(_from_json),
    "int": Function(_int),
    "join": Function(_join),
    "json": Function(_json),
    "keys": Function(_keys),
    "last": Function(_at(-1)),
    "length": Function(_length),
    "lower": Function(_case(str.lower)),
    "number": Function(_to_number),
    "replace": Function(_replace),
    "round": Function(_round),
    "slice": Function(_slice),
    "sort": Function(_sort),
    "split": Function(_split),
    "startsWith": Function(_starts),
    "string": Function(lambda budget, value: text_of(value, budget)),
    "substring": Function(_substring),
    "title": Function(_case(str.title)),
    "toJson": Function(_json),
    "trim": Function(_case(str.strip)),
    "unique": Function(_unique),
    "upper": Function(_case(str.upper)),
    "values": Function(_values),
}
TESTS: Mapping[str, Function] = {
    "boolean": Function(_is(bool)),
    "contains": Function(lambda budget, value, item: contains(value, item, budget)),
    "defined": Function(lambda budget, value: value is not MISSING, takes_missing=True),
    "empty": Function(lambda budget, value: value is MISSING or value in (None, "", [], {}), takes_missing=True),
    "endsWith": Function(_ends),
    "even": Function(lambda budget, value: _whole(value) % 2 == 0),
    "list": Function(_is(list)),
    "map": Function(_is(dict)),
    "none": Function(lambda budget, value: value is None),
    "null": Function(lambda budget, value: value is None),
    "number": Function(_is(int, float)),
    "odd": Function(lambda budget, value: _whole(value) % 2 == 1),
    "startsWith": Function(_starts),
    "string": Function(_is(str)),
    "undefined": Function(lambda budget, value: value is MISSING, takes_missing=True),
}
