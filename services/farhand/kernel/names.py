"""The rules for the names that users choose, and near-match hints for those they mistype."""

import difflib
import re
from collections.abc import Iterable

from farhand.kernel.errors import NotFound, Violation

DEFAULT_GROUP_ID = "_default"
DEFAULT_TENANT = "main"

_LONGEST_NAME = 200
_GROUP_KEY = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]*")
_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]*")
_NAMESPACE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]*(\.[a-zA-Z0-9][a-zA-Z0-9_-]*)*")
_WORKER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*")
_TASK_TYPE = re.compile(r"[a-zA-Z0-9._$-]+")


def _check(path: str, value: str, rule: re.Pattern[str], longest: int) -> list[Violation]:
    if not value:
        return [Violation(path, "must not be empty")]
    if len(value) > longest:
        return [Violation(path, f"has {len(value)} characters; at most {longest} are allowed")]
    if not rule.fullmatch(value):
        return [Violation(path, f"{shown(value)} does not match ^{rule.pattern}$")]
    return []


def check_group_key(path: str, value: str) -> list[Violation]:
    """A worker group's key, the default group's apart."""
    return _check(path, value, _GROUP_KEY, 100)


def check_tenant(path: str, value: str) -> list[Violation]:
    """A tenant's id."""
    return _check(path, value, _TENANT, 100)


def check_namespace(path: str, value: str) -> list[Violation]:
    """A namespace's dotted name."""
    return _check(path, value, _NAMESPACE, 150)


def check_worker_id(path: str, value: str) -> list[Violation]:
    """A worker's id."""
    return _check(path, value, _WORKER, 100)


def check_task_type(path: str, value: str) -> list[Violation]:
    """A task's type."""
    return _check(path, value, _TASK_TYPE, 200)


def check_text(path: str, value: str, longest: int = 1000) -> list[Violation]:
    """A text for people: bounded, and without NUL, which PostgreSQL can't keep."""
    if len(value) > longest:
        return [Violation(path, f"has {len(value)} characters; at most {longest} are allowed")]
    if "\0" in value:
        return [Violation(path, "must not hold a NUL character")]
    return []


def group_key(group_id: str) -> str:
    """The key for an id: "_default" is the default group, whose key is empty."""
    return "" if group_id == DEFAULT_GROUP_ID else group_id


def group_label(key: str) -> str:
    """The key as people see it: "_default" for the default group."""
    return key or DEFAULT_GROUP_ID


def ancestors(namespace: str) -> list[str]:
    """A namespace and those that it inherits from, nearest first: a.b.c, a.b, a."""
    parts = namespace.split(".")
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]


def shown(value: str, longest: int = 60) -> str:
    """A user's value, quoted and cut, safe to put into a message."""
    return ascii(value if len(value) <= longest else value[: longest - 1] + "…").replace("\\u2026", "…")


def near_matches(value: str, known: Iterable[str]) -> list[str]:
    """Up to three known names that look like the value, best first."""
    if len(value) > _LONGEST_NAME:  # no name looks like it, and comparing would take long
        return []
    by_folded = {name.casefold(): name for name in known if name}
    folded = difflib.get_close_matches(value.casefold(), by_folded, n=3, cutoff=0.6)
    return [by_folded[name] for name in folded]


def not_found(kind: str, value: str, known: Iterable[str] = (), hint: str = "") -> NotFound:
    """NOT_FOUND with near matches: `There is no worker group 'gpuu'. Did you mean 'gpu'?`"""
    near = near_matches(value, known)
    message = f"There is no {kind} {shown(value)}."
    if near:
        message += f" Did you mean {' or '.join(shown(name) for name in near)}?"
    if hint:
        message += f" {hint}"
    return NotFound(message, metadata={"near": ", ".join(near)} if near else {})
