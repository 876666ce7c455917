"""What the operators do: on JSON values alone, typed, and never over the budget."""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from farhand.kernel.expressions.budget import Budget, whole
from farhand.kernel.expressions.errors import ExpressionError, UndefinedName, joined, undefined
from farhand.kernel.expressions.values import text_of
from farhand.kernel.kinds import kind

Number = int | float


def choose(value: Any, key: Any, path: Callable[[], str]) -> Any:
    """An item of a map or a list. A map's keys are all that it has: `inputs.items` is an input called items.

    `path` tells how the value is written, for the message.
    """
    if isinstance(value, Mapping):
        if isinstance(key, str):
            if key in value:
                return value[key]
            raise undefined(joined(path(), key), path(), key, value)
        raise ExpressionError(f"{path()} is a map: its keys are texts, not {kind(key)}")
    if isinstance(value, list | str):
        index = int(key) if isinstance(key, float) and key.is_integer() else key
        if isinstance(index, bool) or not isinstance(index, int):
            raise UndefinedName(
                f"`{joined(path(), key)}` is not defined; {path()} is {kind(value)}, whose items are [0], [1], …"
            )
        if not -len(value) <= index < len(value):
            raise UndefinedName(f"`{joined(path(), index)}` is not defined; {path()} has {len(value)} items")
        return value[index]
    raise UndefinedName(
        f"`{joined(path(), key)}` is not defined; {path()} is {'null' if value is None else kind(value)}"
    )


def slice_of(value: Any, begin: Any, end: Any, *, budget: Budget) -> Any:
    """Part of a text or a list; positions count from 0, negative ones from the end."""
    if not isinstance(value, str | list):
        raise ExpressionError(f"only a text or a list has parts, not {kind(value)}")
    budget.room(len(value))
    return value[position(begin) : position(end)]


def position(value: Any) -> int | None:
    """A position in a text or a list."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise ExpressionError(f"a position must be a whole number, not {kind(value)}")


def concat(values: Sequence[Any], budget: Budget) -> str:
    """The texts of all, in a row: `~`."""
    texts = [text_of(value, budget) for value in values]
    budget.room(sum(map(len, texts)))
    return "".join(texts)


def numbers(sign: str, *values: Any) -> tuple[Number, ...]:
    """The values, which must be numbers."""
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            hint = "; join texts with ~" if sign == "+" else ""
            raise ExpressionError(f"{sign} takes numbers, not {kind(value)}{hint}")
    return values


def checked(number: Number) -> Number:
    """A number that stays in bounds."""
    return whole(number) if isinstance(number, int) else number


def _add(left: Any, right: Any, budget: Budget) -> Any:
    if isinstance(left, str) and isinstance(right, str):
        budget.room(len(left) + len(right))
        return left + right
    if isinstance(left, list) and isinstance(right, list):
        budget.room(len(left) + len(right))
        return left + right
    return _arithmetic("+", operator.add)(left, right, budget)


def _arithmetic(sign: str, function: Callable[[Any, Any], Number]) -> Callable[[Any, Any, Budget], Number]:
    def apply(left: Any, right: Any, budget: Budget) -> Number:
        first, second = (checked(each) for each in numbers(sign, left, right))
        try:
            return checked(function(first, second))
        except ZeroDivisionError:
            raise ExpressionError("divided by zero") from None
        except (OverflowError, ValueError):
            raise ExpressionError("the number is too large") from None

    return apply


def _ordered(sign: str, function: Callable[[Any, Any], bool]) -> Callable[[Any, Any, Budget], bool]:
    def apply(left: Any, right: Any, budget: Budget) -> bool:
        if isinstance(left, str) and isinstance(right, str):
            budget.work(min(len(left), len(right)))
            return function(left, right)
        return function(*numbers(sign, left, right))

    return apply


def equal(left: Any, right: Any, budget: Budget) -> bool:
    """Equal as JSON: 1 is 1.0, and true is not 1."""
    if isinstance(left, dict | list) and isinstance(right, dict | list):
        budget.measure(left)
        budget.measure(right)
    elif isinstance(left, bool) is not isinstance(right, bool):
        return False
    elif isinstance(left, str) and isinstance(right, str):
        budget.work(min(len(left), len(right)))
    return bool(left == right)


def contains(container: Any, item: Any, budget: Budget) -> bool:
    """Whether a text holds another, a list an item, or a map a key."""
    if isinstance(container, str):
        if not isinstance(item, str):
            raise ExpressionError(f"a text can hold a text, not {kind(item)}")
        budget.work(len(container) + len(item))
        return item in container
    if isinstance(container, list):
        budget.work(20 * len(container))
        return any(equal(each, item, budget) for each in container)
    if isinstance(container, dict):
        return isinstance(item, str) and item in container
    raise ExpressionError(f"`in` looks into a text, a list or a map, not into {kind(container)}")


BINARY: Mapping[str, Callable[[Any, Any, Budget], Any]] = {
    "+": _add,
    "-": _arithmetic("-", operator.sub),
    "*": _arithmetic("*", operator.mul),
    "/": _arithmetic("/", operator.truediv),
    "//": _arithmetic("//", operator.floordiv),
    "%": _arithmetic("%", operator.mod),
}
UNARY: Mapping[str, Callable[[Any], Any]] = {
    "-": lambda value: -numbers("-", value)[0],
    "+": lambda value: numbers("+", value)[0],
    "not": lambda value: not value,
}
COMPARISONS: Mapping[str, Callable[[Any, Any, Budget], bool]] = {
    "eq": equal,
    "ne": lambda left, right, budget: not equal(left, right, budget),
    "lt": _ordered("<", operator.lt),
    "lteq": _ordered("<=", operator.le),
    "gt": _ordered(">", operator.gt),
    "gteq": _ordered(">=", operator.ge),
    "in": lambda left, right, budget: contains(right, left, budget),
    "notin": lambda left, right, budget: not contains(right, left, budget),
}
