"""Which worker group and which fallback a job gets.

The first level that declares a value wins; key and fallback resolve apart, so a
task may set the key and inherit the fallback. Every place that resolves a group
uses `resolve` (spec: semantics.md, 2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Fallback(StrEnum):
    """What happens to a job whose group is not available."""

    WAIT = "WAIT"  # it stays in the queue
    FAIL = "FAIL"  # it ends FAILED at once
    CANCEL = "CANCEL"  # it ends KILLED at once, without an error


@dataclass(frozen=True, slots=True)
class Level:
    """What one level declares: None is "nothing", an empty key is the default group."""

    name: str
    key: str | None = None
    fallback: Fallback | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """The group's key and the fallback, each with the name of the level that it came from."""

    key: str
    key_level: str
    fallback: Fallback
    fallback_level: str


DEFAULTS = Level("default", "", Fallback.WAIT)


def resolve(levels: Sequence[Level]) -> Resolved:
    """Resolve over the levels, the strongest first; the defaults stand behind them all."""
    every = [*levels, DEFAULTS]
    key_level = next(level for level in every if level.key is not None)
    fallback_level = next(level for level in every if level.fallback is not None)
    assert key_level.key is not None and fallback_level.fallback is not None
    return Resolved(key_level.key, key_level.name, fallback_level.fallback, fallback_level.name)
