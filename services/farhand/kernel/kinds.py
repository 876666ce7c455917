"""What a value of JSON or YAML is called in messages."""

from collections.abc import Mapping
from typing import Any


def kind(value: Any) -> str:
    """The name of a value's type as people who write YAML know it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "a map" if isinstance(value, Mapping) else "a list"
