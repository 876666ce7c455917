"""Rendering of a task's properties, just before its start (semantics.md, 5).

It is done in a thread: the first expression brings Jinja, and a large task may
take a second, while heartbeats must go on. How much can be made and done is
bounded (kernel/expressions/budget.py), so such a thread has an end, also when the
run was killed meanwhile.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from farhand.kernel.expressions import render_deep, templates_of


def has_templates(properties: Mapping[str, Any]) -> bool:
    """Whether there is anything to render."""
    return next(templates_of(properties), None) is not None


async def rendered(
    properties: Mapping[str, Any], context: Mapping[str, Any], envs: Mapping[str, str]
) -> Mapping[str, Any]:
    """The properties with what their templates name. `envs` is the worker's environment.

    Raises ExpressionError, which says where and what.
    """
    if not has_templates(properties):
        return properties
    value: Mapping[str, Any] = await asyncio.to_thread(render_deep, properties, {**context, "envs": envs})
    return value
