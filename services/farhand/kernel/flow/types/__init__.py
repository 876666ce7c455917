"""Task types: which there are, and what each takes.

The built-in ones have a model of their properties each, one file per family. Types
that workers brought along are known by name; what they take only they know.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KnownTypes:
    """The built-in types and those that workers of the roll ever told."""

    told: frozenset[str] = frozenset()
