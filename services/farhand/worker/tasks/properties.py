"""Checks of a task's properties that every type shares. Each returns what is wrong, so that all is told at once."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Any

from farhand.kernel.durations import parse_duration
from farhand.kernel.errors import Violation
from farhand.kernel.kinds import kind
from farhand.kernel.names import near_matches, shown
from farhand.worker.tasks.base import Outcome, failed

INVALID_PROPERTIES = "INVALID_PROPERTIES"


def invalid(violations: Sequence[Violation]) -> Outcome:
    """The outcome of a task whose properties are wrong."""
    return failed(INVALID_PROPERTIES, "; ".join(f"{v.path}: {v.description}" for v in violations))


def unknown_properties(task_type: str, properties: Mapping[str, Any], known: Collection[str]) -> list[Violation]:
    """Properties that the type doesn't have, with near matches."""
    violations = []
    for name in properties:
        if name in known:
            continue
        near = near_matches(name, known)
        if near:
            hint = f" Did you mean {' or '.join(near)}?"
        elif known:
            hint = f" It has {', '.join(sorted(known))}."
        else:
            hint = " It has none."
        violations.append(Violation(shown(name).strip("'"), f"is no property of {task_type}.{hint}"))
    return violations


def structured(value: Any) -> Any:
    """A list or map, also where an expression made the JSON text of one. Anything else stays what it is."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def strings(path: str, value: Any, *, required: bool = False) -> list[Violation]:
    """A list of strings; a required one is not empty."""
    value = structured(value)
    if value is None:
        return [Violation(path, "is required")] if required else []
    if not isinstance(value, list):
        return [Violation(path, f"must be a list of strings, not {kind(value)}")]
    if required and not value:
        return [Violation(path, "must not be empty")]
    return [
        Violation(f"{path}[{index}]", f"must be a string, not {kind(item)}")
        for index, item in enumerate(value)
        if not isinstance(item, str)
    ]


def string(path: str, value: Any, *, required: bool = False) -> list[Violation]:
    """A string; a required one is not empty."""
    if value is None:
        return [Violation(path, "is required")] if required else []
    if not isinstance(value, str):
        return [Violation(path, f"must be a string, not {kind(value)}")]
    return [Violation(path, "must not be empty")] if required and not value else []


def scalar(path: str, value: Any, *, required: bool = False) -> list[Violation]:
    """A string, or what is written like one: a number or a boolean."""
    if value is None:
        return [Violation(path, "is required")] if required else []
    return [] if isinstance(value, str | int | float) else [Violation(path, f"must be a string, not {kind(value)}")]


def one_of(path: str, value: Any, choices: type[StrEnum]) -> list[Violation]:
    """One of some words, in any case, or absent."""
    if value is None or (isinstance(value, str) and value.upper() in choices.__members__):
        return []
    found = shown(value) if isinstance(value, str) else kind(value)
    return [Violation(path, f"must be one of {', '.join(choices)}, not {found}")]


def duration(path: str, value: Any, *, required: bool = False) -> list[Violation]:
    """A duration that is written out."""
    if violations := string(path, value, required=required):
        return violations
    try:
        if value is not None and not math.isfinite(parse_duration(value)):
            return [Violation(path, "is too long")]
    except ValueError:
        return [Violation(path, f"{shown(value)} is not a duration; write 90s, 2m30s, 1h or ISO-8601 such as PT1M30S")]
    return []


def boolean(path: str, value: Any) -> list[Violation]:
    """True or false, or absent; also as text, since expressions make texts."""
    if value is None or isinstance(value, bool) or value in ("true", "false"):
        return []
    return [Violation(path, f"must be true or false, not {kind(value)}")]


def truth(value: Any, otherwise: bool) -> bool:
    """What a boolean says; `otherwise` where it is absent."""
    return otherwise if value is None else value in (True, "true")


def environment(path: str, value: Any) -> list[Violation]:
    """A map of variables to strings, numbers or booleans."""
    value = structured(value)
    if value is None:
        return []
    if not isinstance(value, dict):
        return [Violation(path, f"must be a map of names to values, not {kind(value)}")]
    violations = []
    for name, item in value.items():
        if not name or "=" in name or "\0" in name:
            violations.append(Violation(path, f"{shown(name)} can't be the name of an environment variable"))
        elif not isinstance(item, str | int | float | bool):
            violations.append(Violation(f"{path}.{name}", f"must be a string, not {kind(item)}"))
    return violations


def variable(value: str | int | float | bool) -> str:
    """The text of a variable's value: numbers and booleans as YAML and JSON write them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)
