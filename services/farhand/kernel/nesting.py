"""How deep properties and outputs may be nested.

They travel as google.protobuf.Struct, inside of requests, frames and answers, and
readers of protobuf refuse what is more than 100 messages deep. A level of JSON is
up to three of them. What could be read when it was submitted must be readable in
the deepest frame that will ever carry it; so both ends keep to a limit well below.
"""

from collections.abc import Mapping
from typing import Any

MOST_LEVELS = 30  # 90 of protobuf's 100, and room for what is around


def too_deep(value: Any, levels: int = MOST_LEVELS) -> bool:
    """Whether maps and lists are nested more than so many levels deep; the value itself is the first."""
    if isinstance(value, Mapping):
        return levels == 0 or any(too_deep(item, levels - 1) for item in value.values())
    if isinstance(value, list | tuple):
        return levels == 0 or any(too_deep(item, levels - 1) for item in value)
    return False
