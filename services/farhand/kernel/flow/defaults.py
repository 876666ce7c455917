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

from farhand.kernel.flow.declarations import Declaration
from farhand.kernel.flow.model import PluginDefault, Task


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


def effective(written: Mapping[str, Any], declarations: Sequence[Declaration]) -> dict[str, Any]:
    """A task's or trigger's mapping with all that it inherits.

    `declarations`: the flow's, then those of `around`. Nulls stay where nothing is inherited in
    their place.
    """
    return _applied(written, declarations)


def inherit(task: Task, declarations: Sequence[Declaration]) -> Task:
    """The task with all that it inherits. Raises ValueError where that is no task any more."""
    return Task.model_validate(effective(task.written(), declarations))


def _applied(written: Mapping[str, Any], declarations: Sequence[Declaration]) -> dict[str, Any]:
    layers = [written]  # the strongest first
    if isinstance(type_name := written.get("type"), str):
        for declaration in declarations:
            layers = [*_values(declaration, type_name, forced=True), *layers]
            layers += _values(declaration, type_name, forced=False)
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        merged = _merged(layer, merged)
    return {name: _inside(value, declarations) for name, value in merged.items()}


def _values(declaration: Declaration, type_name: str, *, forced: bool) -> list[dict[str, Any]]:
    return [default.values.written() for default in matching(declaration, type_name, forced=forced)]


def _inside(value: Any, declarations: Sequence[Declaration]) -> Any:
    if isinstance(value, Mapping):
        return _applied(value, declarations)
    if isinstance(value, list):
        return [_inside(item, declarations) for item in value]
    return value


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
