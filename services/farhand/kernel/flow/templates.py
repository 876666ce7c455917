"""Expressions, looked at when a flow is saved: whether they can be read, and whether what they name can be there.

What can't be read stops the save, and so does a secret where the scheduler renders,
since it keeps and shows what comes of it. A name that nothing will ever define is a
warning, since `default` may stand behind it.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from farhand.kernel.expressions import ExpressionError, parse
from farhand.kernel.flow.model import InputType
from farhand.kernel.flow.problem import Severity
from farhand.kernel.flow.source import path_text
from farhand.kernel.flow.tasks import CONTROL, FOR_EACH
from farhand.kernel.names import near_matches
from farhand.kernel.secrets import names_secret, variables_with

_OPEN = frozenset({"labels", "trigger", "envs", "parent", "parents"})  # what they hold is known when they are rendered
_FIXED: Mapping[str, Collection[str]] = {
    "flow": ("id", "namespace", "revision", "tenantId"),
    "execution": ("id", "startDate", "state"),
    "task": ("id", "type"),
    "taskrun": ("id", "startDate", "attemptsCount", "value", "iteration"),
}


class TemplateCheck:
    """Knows what some of a flow's expressions can name."""

    def __init__(
        self,
        there: Mapping[str, Collection[str]],
        open: Collection[str],
        secrets: Collection[str] = (),
        variables: Collection[str] = (),
    ) -> None:
        """`there`: names and what is below them; `open`: those of which that is not known; `secrets`: inputs that are
        secret; `variables`: those that name them."""
        self._there = there
        self._open = open
        self._secrets = secrets
        self._variables = variables

    @classmethod
    def of_tasks(cls, data: Mapping[str, Any], task_ids: Collection[str]) -> "TemplateCheck":
        """For what is rendered for an execution's tasks."""
        inputs = data.get("inputs")
        ids = [
            item["id"]
            for item in (inputs if isinstance(inputs, list) else [])
            if isinstance(item, dict) and isinstance(item.get("id"), str)
        ]
        secrets, variables = _secrets(data), data.get("variables")
        reaching = variables_with(variables, secrets) if secrets and isinstance(variables, dict) else ()
        there = {**_FIXED, "inputs": ids, "vars": _variables(data), "outputs": task_ids}
        return cls(there, _OPEN, secrets, reaching)

    @classmethod
    def of_trigger(cls, data: Mapping[str, Any], *also: str) -> "TemplateCheck":
        """For what is rendered for a trigger, before there is an execution."""
        return cls({"flow": _FIXED["flow"], "vars": _variables(data)}, ("labels", "envs", *also))

    def of(
        self, text: str, *, names: bool, at_scheduler: bool, around: Collection[str] = CONTROL
    ) -> Iterator[tuple[str, Severity]]:
        """What is wrong with a template: whether it can be read, and, if `names`, whether what it names is there.

        `at_scheduler`: it is rendered there, where no worker's `envs` are. `around`: the types of the flow control
        that the task stands in.
        """
        try:
            named = parse(text).names
        except ExpressionError as error:
            yield error.message, Severity.ERROR
            return
        if at_scheduler:
            yield from ((message, Severity.ERROR) for message in self._secrets_among(named))
        for name in sorted(named if names else ()):
            if why := self._why_not(name, at_scheduler) or _why_not_there(name, around):
                yield why, Severity.WARNING

    def secrets_in(self, text: str) -> list[str]:
        """What is wrong with a text that is kept and shown and names secrets, whether or not it is ever rendered."""
        try:
            return self._secrets_among(parse(text).names)
        except ExpressionError:
            return []

    def _secrets_among(self, names: Collection[tuple[str, ...]]) -> list[str]:
        found = {name[:2] for name in names if len(name) > 1 and names_secret(name, self._secrets, self._variables)}
        return [
            f"`{path_text(name)}` {'is' if name[0] == 'inputs' else 'holds'} a secret, and what is made of this is "
            "kept and shown; only the properties of tasks that run on workers may name it"
            for name in sorted(found)
        ]

    def _why_not(self, name: tuple[str, ...], at_scheduler: bool) -> str:
        root = name[0]
        if root == "envs" and at_scheduler:
            return "`envs` are a worker's; the scheduler renders this before a worker is chosen"
        if root in self._open:
            return ""
        if root not in self._there:
            return f"`{path_text([root])}` is not defined" + _hint(root, [*self._there, *self._open])
        if len(name) > 1 and name[1] not in self._there[root]:
            return f"`{path_text(name[:2])}` is not defined" + _hint(name[1], self._there[root])
        return ""


def _why_not_there(name: tuple[str, ...], around: Collection[str]) -> str:
    """What is there only inside of flow control."""
    if name[0] in ("parent", "parents") and not around:
        return f"`{name[0]}` is there only inside of flow control"
    if name[:2] in (("taskrun", "value"), ("taskrun", "iteration")) and FOR_EACH not in around:
        return f"`{path_text(name[:2])}` is there only inside of a ForEach"
    return ""


def _variables(data: Mapping[str, Any]) -> list[str]:
    variables = data.get("variables")
    return list(variables) if isinstance(variables, dict) else []


def _secrets(data: Mapping[str, Any]) -> frozenset[str]:
    """The ids of a flow's SECRET inputs."""
    inputs = data.get("inputs")
    return frozenset(
        item["id"]
        for item in (inputs if isinstance(inputs, list) else [])
        if isinstance(item, dict) and item.get("type") == InputType.SECRET and isinstance(item.get("id"), str)
    )


def _hint(name: str, there: Collection[str]) -> str:
    near = near_matches(name, there)
    return f". Did you mean {' or '.join(f'`{each}`' for each in near)}?" if near else ""


def circle_of(names: Mapping[str, Collection[str]]) -> list[str]:
    """Names of which each names the next, and the last is the first again; empty: there are none. The first that is
    found in the order of the source, so that a flow is always told the same."""
    done: set[str] = set()
    for first in names:
        path: list[str] = []
        waiting = [(first, 0)]
        while waiting:
            name, depth = waiting.pop()
            del path[depth:]
            if name in path:
                return [*path[path.index(name) :], name]
            if name not in done and name in names:
                path.append(name)
                waiting += [(each, depth + 1) for each in sorted(names[name])]
            done.add(name)
    return []
