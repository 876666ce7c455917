"""Rendering of a task's properties, just before its start (semantics.md, 5).

It is done in a thread: the first expression brings Jinja, and a large task may
take a second, while heartbeats must go on. How much can be made and done is
bounded (kernel/expressions/budget.py), so such a thread has an end, also when the
run was killed meanwhile.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any

from farhand.kernel.expressions import render_deep, templates_of


def has_templates(properties: Mapping[str, Any]) -> bool:
    """Whether there is anything to render."""
    return next(templates_of(properties), None) is not None


async def rendered(
    properties: Mapping[str, Any],
    scope: Mapping[str, Any],
    seen: Callable[[frozenset[tuple[str, ...]], str], None],
    later: Collection[str] = (),
) -> Mapping[str, Any]:
    """The properties with what their templates name in the scope; those whose names are in `later` stay as they are.
    `seen` hears what each expression came to.

    Raises ExpressionError, which says where and what.
    """
    now = {name: value for name, value in properties.items() if name not in later}
    if not has_templates(now):
        return properties
    value: Mapping[str, Any] = await asyncio.to_thread(render_deep, now, scope, seen=seen)
    return {**properties, **value}
