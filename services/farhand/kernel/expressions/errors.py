"""What is wrong with an expression, said to the person who wrote it. Values are never shown: one may be a secret."""

from collections.abc import Iterable

from farhand.kernel.names import near_matches, shown

MOST_SHOWN = 20  # names that a message lists


class ExpressionError(Exception):
    """An expression that can't be read, or can't be rendered.

    `line`: where in its text the expression begins, from 1.
    """

    def __init__(self, message: str, line: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


class UndefinedName(ExpressionError):
    """A name that is not there: `default`, `??` and `is defined` are for these."""


class VariablesTooDeep(ExpressionError):
    """Variables name one another too deep, or in a circle."""


def undefined(path: str, parent: str, name: object, there: Iterable[object]) -> UndefinedName:
    """`inputs.nmae` is not defined; inputs has name, size. Did you mean `inputs.name`?"""
    names = sorted(each for each in there if isinstance(each, str))
    if not names:
        has = f"{parent} has nothing" if parent else "nothing is"
    else:
        listed = ", ".join(shown_name(each) for each in names[:MOST_SHOWN])
        more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
        has = f"{parent} has {listed}{more}" if parent else f"there are {listed}{more}"
    message = f"`{path}` is not defined; {has}"
    if not parent and name == "trigger":
        return UndefinedName(f"{message}. Executions that a trigger started have it; for others, give it a `default`")
    # outputs.my-task is read as a difference: the name that was meant begins with what was found missing.
    dashed = [each for each in names if isinstance(name, str) and each.startswith(f"{name}-")]
    near = dashed[:1] or (near_matches(name, names)[:1] if isinstance(name, str) else [])
    return UndefinedName(f"{message}. Did you mean `{joined(parent, near[0])}`?" if near else message)


def joined(parent: str, key: object) -> str:
    """How an item of something is written: outputs.a, outputs['my-task'], outputs.list[0]."""
    if not isinstance(key, str):
        return f"{parent}[{str(key)[:20]}]"
    if not parent:
        return shown_name(key)
    return f"{parent}.{key}" if _plain(key) else f"{parent}[{shown(key)}]"


def shown_name(name: str) -> str:
    """A name as a message lists it: quoted where it needs brackets."""
    return name if _plain(name) else shown(name)


def _plain(name: str) -> bool:
    return name.isidentifier() and name.isascii() and len(name) <= 100
