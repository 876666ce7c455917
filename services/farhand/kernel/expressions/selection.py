"""The part of a scope that expressions name: what a task needs to take along, and nothing more."""

from collections.abc import Iterable, Mapping
from typing import Any

from farhand.kernel.expressions.errors import MOST_SHOWN


def select(scope: Mapping[str, Any], names: Iterable[tuple[str, ...]]) -> dict[str, Any]:
    """The scope with what the paths name. Maps along a path hold what is named of them alone.

    Where a path leads nowhere, the names that are there instead come along without their
    values, so that the error, wherever it is made, can list them.
    """
    selected: dict[str, Any] = {}
    for path in sorted(set(names)):  # a whole map comes before its parts
        _take(scope, path, selected)
    return selected


def _take(there: Mapping[str, Any], path: tuple[str, ...], into: dict[str, Any]) -> None:
    for depth, name in enumerate(path):
        if name not in there:
            for other in sorted(there)[:MOST_SHOWN] if depth else ():
                into.setdefault(other, None)
            return
        value = there[name]
        if depth == len(path) - 1 or not isinstance(value, Mapping):
            into[name] = value
            return
        below = into.get(name)
        if below is value:
            return  # all of it is there already
        if not isinstance(below, dict):
            into[name] = below = {}
        there, into = value, below
