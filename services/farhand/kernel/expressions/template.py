"""A text with expressions in it: taken apart at `{{ … }}`, put together again with their values.

`{% raw %} … {% endraw %}` keeps its inside as it is; other statements are
refused. `{#` is text, for a shell's `${#name}`: YAML has comments of its own.
`{{-` and `-}}` take the blanks before and after with them, as Jinja's do.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from farhand.kernel.expressions.budget import LIMIT, Budget
from farhand.kernel.expressions.errors import ExpressionError
from farhand.kernel.expressions.values import text_of

if TYPE_CHECKING:
    from farhand.kernel.expressions.compiling import Expression

LONGEST_EXPRESSION = 10_000  # characters
MOST_EXPRESSIONS = 1_000  # of one text
MOST_BRACKETS = 30  # one in the other

_OPENING = re.compile(r"\{\{-?|\{%[-+]?\s*(?P<word>[A-Za-z_]\w*)[^\n%]{0,200}%\}")
_RAW_END = {word: re.compile(r"\{%-?\s*end" + word + r"\s*-?%\}") for word in ("raw", "verbatim")}
_STRING = r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|[\[({'"]"""
_OUTSIDE = re.compile(_STRING + r"|-?\}\}", re.DOTALL)  # of brackets
_IN_BRACKETS = re.compile(_STRING + r"|[\])}]", re.DOTALL)
_LITERALLY = "to have it in the text write {% raw %} … {% endraw %} around it"


@dataclass(frozen=True, slots=True)
class Template:
    """A text that was read. `names`: the static paths of all that it names, e.g. ("outputs", "a", "value").

    A path ends where it is chosen by a value: ("outputs",) may mean any of them.
    """

    parts: Sequence["str | Expression"]
    names: frozenset[tuple[str, ...]]

    def render(self, scope: Mapping[str, Any], budget: Budget) -> str:
        """The text with its values. Raises ExpressionError."""
        made: list[str] = []
        size = 0
        for part in self.parts:
            made.append(part if isinstance(part, str) else text_of(part.value(scope, budget), budget))
            if budget.seen is not None and not isinstance(part, str):
                budget.seen(part.names, made[-1])
            size += len(made[-1])
            if size > budget.limit:
                break
        budget.work(size)
        text = "".join(made)
        try:
            if size > budget.limit or len(text.encode()) > budget.limit:
                raise ExpressionError(f"the rendered text is longer than {budget.limit} bytes")
        except UnicodeEncodeError:
            raise ExpressionError("the rendered text holds half a character (a lone surrogate)") from None
        if "\0" in text:
            raise ExpressionError("the rendered text holds a NUL character")
        return text


def is_template(text: str) -> bool:
    """Whether there may be something to render. False: the text renders to itself."""
    return "{{" in text or "{%" in text


def parse(text: str) -> Template:
    """Read a text. Raises ExpressionError, with the line, where an expression or a statement is wrong."""
    if not is_template(text):
        return Template((text,), frozenset())
    from farhand.kernel.expressions.compiling import expression  # brings Jinja

    parts: list[str | Expression] = []
    names: set[tuple[str, ...]] = set()
    position = 0
    strip = False  # the expression before ended in -}}
    while True:
        opening = _OPENING.search(text, position)
        literal = text[position : opening.start() if opening else len(text)]
        literal = literal.lstrip() if strip else literal
        if opening is None:
            parts.append(literal)
            break
        if opening["word"] is None:
            parts.append(literal.rstrip() if opening[0].endswith("-") else literal)
            try:
                source, position, strip = _inside(text, opening.end())
                part = expression(source)
            except ExpressionError as error:
                error.line = text.count("\n", 0, opening.start()) + 1
                raise
            parts.append(part)
            names |= part.names
            if len(parts) > 2 * MOST_EXPRESSIONS:
                raise ExpressionError(f"a text may hold {MOST_EXPRESSIONS} expressions, not more")
        else:
            parts.append(literal)
            inside, position = _raw(text, opening)
            parts.append(inside)
            strip = False
    return Template(tuple(parts), frozenset(names))


def render(text: str, scope: Mapping[str, Any], *, limit: int = LIMIT, budget: Budget | None = None) -> str:
    """The text with the values of the scope, at most `limit` bytes. Raises ExpressionError.

    A text without expressions comes back as it is, whatever its size.
    """
    if not is_template(text):
        return text
    template = parse(text)
    try:
        return template.render(scope, budget or Budget(limit))
    except RecursionError:
        raise ExpressionError("the expression is nested too deeply") from None


def _inside(text: str, begin: int) -> tuple[str, int, bool]:
    """An expression from behind its `{{` on: its source, the position behind its `}}`, and whether that was `-}}`."""
    brackets = 0
    position = begin
    end = min(len(text), begin + LONGEST_EXPRESSION)
    while token := (_IN_BRACKETS if brackets else _OUTSIDE).search(text, position, end):
        said = token[0]
        position = token.end()
        if said in ("'", '"'):
            raise ExpressionError(f"`{{{{` is followed by a {said} that is not closed; {_LITERALLY}")
        if said.endswith("}}"):
            return text[begin : token.start()], position, said.startswith("-")
        if said in ("[", "(", "{"):
            brackets += 1
            if brackets > MOST_BRACKETS:
                raise ExpressionError(f"brackets may be nested {MOST_BRACKETS} deep, not deeper")
        elif said in ("]", ")", "}"):
            brackets -= 1
    if len(text) - begin > LONGEST_EXPRESSION:
        raise ExpressionError(f"`{{{{` has no `}}}}` within {LONGEST_EXPRESSION} characters; {_LITERALLY}")
    raise ExpressionError(f"`{{{{` has no `}}}}`; {_LITERALLY}")


def _raw(text: str, opening: re.Match[str]) -> tuple[str, int]:
    """What stands between {% raw %} and its end, and the position behind that."""
    word = opening["word"]
    line = text.count("\n", 0, opening.start()) + 1
    if word not in _RAW_END:
        raise ExpressionError(
            f"{{% {word[:30]} %}} is a statement, and there are none: use a task such as If, or a script; {_LITERALLY}",
            line,
        )
    end = _RAW_END[word].search(text, opening.end())
    if end is None:
        raise ExpressionError(f"{{% {word} %}} has no {{% end{word} %}}", line)
    return text[opening.end() : end.start()], end.end()
