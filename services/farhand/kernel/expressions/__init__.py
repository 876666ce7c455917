"""Expressions: `{{ … }}` inside of a flow's texts, in the syntax that users of Jinja and Pebble expect.

Jinja reads them and does no more: what it read becomes steps of our own
(compiling.py), which know values, operators and filters, and nothing else. No
attribute of a Python object is ever looked at and nothing is ever called, so
there is nothing to escape to; and all that may grow is measured (budget.py).
Jinja is imported when the first expression is read, never before.

Scope names: inputs, outputs.<taskId>.<name>, vars, labels, flow, execution, task,
taskrun, trigger, envs (spec: semantics.md, 5). Dates in it are ISO-8601 strings.
"""

from farhand.kernel.expressions.budget import LIMIT, Budget
from farhand.kernel.expressions.deep import render_deep, templates_of
from farhand.kernel.expressions.errors import ExpressionError, UndefinedName
from farhand.kernel.expressions.selection import select
from farhand.kernel.expressions.template import Template, is_template, parse, render
from farhand.kernel.expressions.values import truthy

__all__ = [
    "LIMIT",
    "Budget",
    "ExpressionError",
    "Template",
    "UndefinedName",
    "is_template",
    "parse",
    "render",
    "render_deep",
    "select",
    "templates_of",
    "truthy",
]
