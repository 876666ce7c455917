"""JSON that people and expressions write, read within the bounds of what can travel and be kept.

Everything is sent as google.protobuf.Struct sooner or later: numbers that it could
not hold exactly, NaN, and what is nested too deep are refused where they are read.
"""

import json
import math
from typing import Any, NoReturn

from farhand.kernel.nesting import MOST_LEVELS, too_deep

LARGEST_INTEGER = 1 << 53  # beyond it JSON's numbers are no longer exact


def read_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError with what is wrong, without showing the text: it may be a secret."""
    try:
        value = json.loads(text, parse_constant=_refuse, parse_int=_integer, parse_float=_real)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"is no JSON: {error.msg[0].lower()}{error.msg[1:]} ({where})") from None
    except RecursionError:
        raise ValueError(f"is nested more than {MOST_LEVELS} levels deep") from None
    check_json(value)
    return value


def check_json(value: Any) -> None:
    """Raises ValueError for a value that is JSON, and yet can't be kept."""
    if too_deep(value):
        raise ValueError(f"is nested more than {MOST_LEVELS} levels deep")
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, str) and "\0" in item:
            raise ValueError("holds a NUL character")
        if isinstance(item, dict):
            left += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            left += item


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"holds {word}, which is no number of JSON")


def _integer(text: str) -> int:
    number = int(text) if len(text) < 100 else LARGEST_INTEGER + 1
    if abs(number) > LARGEST_INTEGER:
        raise ValueError(f"holds a number above {LARGEST_INTEGER}, which is not kept exactly: quote it")
    return number


def _real(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("holds a number that is too large")
    return number
