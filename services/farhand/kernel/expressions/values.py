"""What a value is as text, and which text counts as true. Values are those of JSON."""

import json
import math
from typing import Any

from farhand.kernel.expressions.budget import Budget
from farhand.kernel.expressions.errors import ExpressionError

_FALSE = frozenset({"", "false", "0", "-0", "null", "none"})
_LARGEST_WHOLE = 2.0**63  # beyond it a float is written as such


def truthy(text: str) -> bool:
    """Whether a rendered condition holds: not so are "", false, 0, -0, null and none, in any case, trimmed."""
    return text.strip().lower() not in _FALSE


def text_of(value: Any, budget: Budget) -> str:
    """The text of a value: null is nothing, maps and lists are JSON, 3.0 is 3."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(plain(value))
    return json_of(value, budget)


def json_of(value: Any, budget: Budget) -> str:
    """The JSON of a value, without blanks."""
    budget.room(budget.measure(value))
    return json.dumps(_plain_deep(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def plain(number: float) -> int | float:
    """A number as people write it. Numbers come off the wire as floats: 3.0 is 3."""
    if not math.isfinite(number):
        raise ExpressionError("the result is no number that can be written")
    return int(number) if number.is_integer() and abs(number) < _LARGEST_WHOLE else number


def _plain_deep(value: Any) -> Any:
    if isinstance(value, float):
        return plain(value)
    if isinstance(value, dict):
        return {key: _plain_deep(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain_deep(item) for item in value]
    return value
