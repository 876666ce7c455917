"""Expressions, looked at when a flow is saved: whether they can be read, and whether what they name can be there.

What can't be read stops the save. A name that nothing will ever define is a
warning, since `default` may stand behind it.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from farhand.kernel.expressions import ExpressionError, parse
from farhand.kernel.flow.problem import Severity
from farhand.kernel.flow.source import path_text
from farhand.kernel.names import near_matches

_OPEN = frozenset({"labels", "trigger", "envs"})  # what they hold is known when they are rendered
_FIXED: Mapping[str, Collection[str]] = {
    "flow": ("id", "namespace", "revision", "tenantId"),
    "execution": ("id", "startDate", "state"),
    "task": ("id", "type"),
    "taskrun": ("id", "startDate", "attemptsCount"),
}


class TemplateCheck:
    """Knows what the expressions of one flow can name."""

    def __init__(self, data: Mapping[str, Any], task_ids: Collection[str]) -> None:
        inputs, variables = data.get("inputs"), data.get("variables")
        self._there: Mapping[str, Collection[str]] = {
            **_FIXED,
            "inputs": [
                item["id"]
                for item in (inputs if isinstance(inputs, list) else [])
                if isinstance(item, dict) and isinstance(item.get("id"), str)
            ],
            "vars": list(variables) if isinstance(variables, dict) else [],
            "outputs": task_ids,
        }

    def of(self, text: str, *, names: bool, at_scheduler: bool) -> Iterator[tuple[str, Severity]]:
        """What is wrong with a template: whether it can be read, and, if `names`, whether what it names is there.

        `at_scheduler`: it is rendered there, where no worker's `envs` are.
        """
        try:
            named = parse(text).names
        except ExpressionError as error:
            yield error.message, Severity.ERROR
            return
        for name in sorted(named if names else ()):
            if why := self._why_not(name, at_scheduler):
                yield why, Severity.WARNING

    def _why_not(self, name: tuple[str, ...], at_scheduler: bool) -> str:
        root = name[0]
        if root == "envs" and at_scheduler:
            return "`envs` are a worker's; the scheduler renders this before a worker is chosen"
        if root in _OPEN:
            return ""
        if root not in self._there:
            return f"`{path_text([root])}` is not defined" + _hint(root, [*self._there, *_OPEN])
        if len(name) > 1 and name[1] not in self._there[root]:
            return f"`{path_text(name[:2])}` is not defined" + _hint(name[1], self._there[root])
        return ""


def _hint(name: str, there: Collection[str]) -> str:
    near = near_matches(name, there)
    return f". Did you mean {' or '.join(f'`{each}`' for each in near)}?" if near else ""
