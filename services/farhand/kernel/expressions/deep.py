"""Rendering of all that a task was given: every text in its maps and lists."""

from collections.abc import Iterator, Mapping
from typing import Any

from farhand.kernel.expressions.budget import LIMIT, Budget, Seen
from farhand.kernel.expressions.errors import ExpressionError
from farhand.kernel.expressions.template import is_template, render


def render_deep(value: Any, scope: Mapping[str, Any], *, limit: int = LIMIT, seen: Seen | None = None) -> Any:
    """The value with every text in it rendered; keys stay as they are, and so do texts without expressions.

    `limit`: bytes of one text; all together may have four times that, and share one budget of work. `seen` hears
    what each expression came to.
    Raises ExpressionError, which says where: `env.GREETING: …`.
    """
    budget = Budget(limit, seen=seen)
    left = 4 * limit

    def walk(value: Any, path: str) -> Any:
        nonlocal left
        if isinstance(value, str):
            if not is_template(value):
                return value
            try:
                text = render(value, scope, budget=budget)
                left -= len(text)
                if left < 0:
                    raise ExpressionError(f"the rendered texts are longer than {4 * limit} characters together")
            except ExpressionError as error:
                raise ExpressionError(f"{path}: {error.message}" if path else error.message, error.line) from None
            return text
        if isinstance(value, dict):
            return {key: walk(item, f"{path}.{key}" if path else key) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item, f"{path}[{index}]") for index, item in enumerate(value)]
        return value

    return walk(value, "")


def templates_of(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a value that may have expressions, with its path: ("commands[0]", "echo {{ inputs.a }}")."""
    if isinstance(value, str):
        if is_template(value):
            yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from templates_of(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from templates_of(item, f"{path}[{index}]")
