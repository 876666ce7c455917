"""A secret: a text that an execution is given and that is shown to nobody but the tasks that name it.

What is shown, kept and told in its place is MASK. Servers check a secret here when an
execution is created; workers mask it in all that a task says (worker/masking.py).
"""

from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from farhand.kernel.expressions import ExpressionError, parse, templates_of
from farhand.kernel.kinds import kind

MASK = "***"
SHORTEST = 4  # characters beside blanks; what is shorter stands in every log by chance, and is not masked


def why_no_secret(value: Any) -> str:
    """Why a value can't be a secret; empty: it can. The value itself is never told."""
    if not isinstance(value, str):
        return f"must be a secret text, not {kind(value)}"
    if "\0" in value:
        return "must not hold a NUL character"
    if len(value.strip()) < SHORTEST:
        return (
            f"is too short for a secret: it needs {SHORTEST} characters or more beside blanks before and after. "
            "Shorter ones can't be told apart from the rest of a log, and so not be masked there"
        )
    return ""


def names_secret(name: tuple[str, ...], secrets: Collection[str], variables: Collection[str]) -> bool:
    """Whether a path of an expression may lead to one of these inputs, by itself or by one of these variables."""
    if name[0] == "inputs":
        return bool(secrets) if len(name) == 1 else name[1] in secrets
    if name[0] == "vars":
        return bool(variables) if len(name) == 1 else name[1] in variables
    return False


def variables_with(variables: Mapping[str, Any], secrets: Collection[str]) -> frozenset[str]:
    """Of a flow's variables those whose expressions name secret inputs, also by other variables."""
    named: dict[str, set[tuple[str, ...]]] = {}
    for variable, value in variables.items():
        with suppress(ExpressionError):
            named[variable] = {name for _, text in templates_of(value) for name in parse(text).names}
    found: set[str] = set()
    while fresh := {
        variable
        for variable, names in named.items()
        if variable not in found and any(names_secret(name, secrets, found) for name in names)
    }:
        found |= fresh
    return frozenset(found)
