"""How much rendering may make, and do: what an expression can't exceed, whatever it says.

Everything that grows asks first, so neither `'a' * 10**9` nor a hundred replaces
in a row ever get the memory. The work is counted in characters and elements that
were looked at, so a rendering has an end in time as well.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from farhand.kernel.expressions.errors import ExpressionError, VariablesTooDeep

Seen = Callable[[frozenset[tuple[str, ...]], str], None]
"""Hears the paths that an expression names, and the text that it came to."""

LIMIT = 256 * 1024  # characters of one value, bytes of one rendered text
WORK = 16 * 1024 * 1024  # what one rendering may look at; a second or less
STEP = 20  # what any step costs, in the same unit
MOST_BITS = 256  # of a whole number
MOST_VARIABLES = 10  # that name one another in a row


class Budget:
    """What is left for one rendering, which may be of many texts."""

    def __init__(self, limit: int = LIMIT, work: int = WORK, seen: Seen | None = None) -> None:
        """`seen` hears what each expression came to, those of variables, too."""
        self.limit = limit
        self.seen = seen
        self._work = work
        self._variables = 0

    def work(self, units: int) -> None:
        """Pay for looking at so much."""
        self._work -= units
        if self._work < 0:
            raise ExpressionError("the expressions do too much work: make them simpler, or let a script do it")

    @contextmanager
    def variable(self, name: str) -> Iterator[None]:
        """Render a variable, which another one may have named."""
        self._variables += 1
        try:
            if self._variables > MOST_VARIABLES:
                raise VariablesTooDeep(
                    f"variables name one another more than {MOST_VARIABLES} deep, or in a circle: `{name}` is one"
                )
            yield
        finally:
            self._variables -= 1

    def room(self, size: int) -> None:
        """Ask for a value of so many characters or elements, before it is made."""
        if size > self.limit:
            raise ExpressionError(f"the value grows over the limit of {self.limit} characters")
        self.work(size)

    def measure(self, value: Any) -> int:
        """The size of a value, about that of its JSON; paid for. Raises ExpressionError beyond the limit."""
        total = 0
        left = [value]
        while left:
            item = left.pop()
            if isinstance(item, str):
                total += len(item) + 2
            elif isinstance(item, dict):
                total += 2 + sum(len(key) + 4 for key in item)
                left.extend(item.values())
            elif isinstance(item, list):
                total += 2 + len(item)
                left.extend(item)
            else:
                total += 8
            if total > 8 * self.limit:  # what is big and only looked into may be larger than what is made of it
                raise ExpressionError(f"the value is larger than {8 * self.limit} characters")
        self.work(total)
        return total


def whole(number: int) -> int:
    """A whole number that stays in bounds."""
    if number.bit_length() > MOST_BITS:
        raise ExpressionError("the number is too large")
    return number
