"""Plugin defaults: what a task inherits for its type.

A default matches a type by equality or by dotted prefix. Maps merge deeply, all
else is replaced; a null says nothing and is no value. From the strongest:

    forced      tenant > … > nearest namespace > flow
    the task    what it says itself
    not forced  flow > nearest namespace > … > tenant

Inside of one level the longer type wins, and of two that are equal the first.
The same holds for every map inside of the task that has a type: a task runner.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from farhand.kernel.flow.declarations import Declaration, of_flow
from farhand.kernel.flow.model import Flow, PluginDefault, Trigger
from farhand.kernel.flow.tasks import AnyTask, Task

TASKS_ALONE = frozenset({"allowFailure", "retry", "onWorkerLost"})
"""What plugin defaults may give to all tasks, and triggers have no use for."""


def matches(pattern: str, type_name: str) -> bool:
    """Whether a default of that type, or prefix of types, is for the type: whole parts between dots."""
    return type_name == pattern or type_name.startswith(pattern + ".")


def matching(declaration: Declaration, type_name: str, *, forced: bool) -> list[PluginDefault]:
    """One level's defaults for a type, the strongest first."""
    found = [
        default
        for default in declaration.plugin_defaults
        if default.forced is forced and matches(default.type, type_name)
    ]
    return sorted(found, key=lambda default: -len(default.type))


class Inheritance:
    """What is declared around a flow's tasks, ready to be merged into many of them.

    `declarations`: the flow's, then those of `around`.
    """

    def __init__(self, declarations: Sequence[Declaration]) -> None:
        self._declarations = declarations
        self._of_types: dict[str, tuple[Sequence[Mapping[str, Any]], Mapping[str, Any]]] = {}

    def effective(self, written: Mapping[str, Any]) -> dict[str, Any]:
        """A task's or trigger's mapping with all that it inherits. Nulls stay where nothing is inherited."""
        merged = dict(written)
        if isinstance(type_name := written.get("type"), str):
            forced, weak = self._of_type(type_name)
            merged = _merged(written, weak)
            for values in forced:
                merged = _merged(values, merged)
        return {name: self._inside(value) for name, value in merged.items()}

    def _inside(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return self.effective(value)
        if isinstance(value, list):
            return [self._inside(item) for item in value]
        return value

    def _of_type(self, type_name: str) -> tuple[Sequence[Mapping[str, Any]], Mapping[str, Any]]:
        """The forced values, the weakest first, and all others as one map."""
        if type_name not in self._of_types:
            forced: list[Mapping[str, Any]] = []
            weak: dict[str, Any] = {}
            for declaration in self._declarations:
                forced += [each.values.written for each in reversed(matching(declaration, type_name, forced=True))]
            for declaration in reversed(self._declarations):
                for default in reversed(matching(declaration, type_name, forced=False)):
                    weak = _merged(default.values.written, weak)
            self._of_types[type_name] = forced, weak
        return self._of_types[type_name]


def effective(written: Mapping[str, Any], declarations: Sequence[Declaration]) -> dict[str, Any]:
    """One task's mapping with all that it inherits; see Inheritance."""
    return Inheritance(declarations).effective(written)


def inherit(task: Task, declarations: Sequence[Declaration]) -> Task:
    """The task with all that it inherits. Raises ValueError where that is no task any more."""
    return Task.model_validate(effective(task.written(), declarations))


def inherit_trigger(trigger: Trigger, declarations: Sequence[Declaration]) -> Trigger:
    """The trigger with all that it inherits. Raises ValueError where that is no trigger any more."""
    own, merged = trigger.written(), effective(trigger.written(), declarations)
    return Trigger.model_validate(
        {name: value for name, value in merged.items() if name in own or name not in TASKS_ALONE}
    )


def inherit_all(flow: Flow, outer: Sequence[Declaration]) -> Flow:
    """The flow with every task as `inherit` has it; `outer` are the declarations of `around`.

    For what is asked of a task while it runs: timeout, retry, allowFailure, disabled, properties. Where it runs
    is asked of the task as written, or its levels would all be "task". Raises ValueError as `inherit` does.
    """
    inheritance = Inheritance([of_flow(flow), *outer])

    def inherited(tasks: Sequence[AnyTask]) -> tuple[AnyTask, ...]:
        return tuple(each(task) for task in tasks)

    def each(task: AnyTask) -> AnyTask:
        if isinstance(task, Task):
            return Task.model_validate(inheritance.effective(task.written()))
        return task.with_tasks(inherited)

    return flow.model_copy(update={"tasks": inherited(flow.tasks), "errors": inherited(flow.errors)})


def _merged(strong: Mapping[str, Any], weak: Mapping[str, Any]) -> dict[str, Any]:
    """Both, deeply; where both say something, the strong one's. The strong one's names come first."""
    merged = dict(strong)
    for name, value in weak.items():
        own = merged.get(name)
        if own is None:
            merged[name] = value
        elif isinstance(own, Mapping) and isinstance(value, Mapping):
            merged[name] = _merged(own, value)
    return merged
