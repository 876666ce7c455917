"""What pydantic finds wrong, in the words of who writes flows, and at its place in the flow."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from farhand.kernel.flow import model, parts, tasks
from farhand.kernel.flow.source import Path
from farhand.kernel.flow.types import BUILT_IN, TRIGGERS, http, runners, script
from farhand.kernel.kinds import kind
from farhand.kernel.names import near_matches, shown

_PARTS: Mapping[str, type[BaseModel]] = {
    "inputs": model.Input,
    "pluginDefaults": model.PluginDefault,
    "workerGroup": parts.WorkerGroupRef,
    "retry": parts.Retry,
    "namespaceFiles": script.NamespaceFiles,
    "concurrency": model.Concurrency,
    "options": http.Options,
    "memory": runners.Memory,
    "cpu": runners.Cpu,
}
"""What the parts of a flow are, by the property that holds them or their list."""

_BOUNDS: Mapping[str, str] = {
    "string_too_long": "has {length} characters; at most {max_length} are allowed",
    "too_long": "holds {actual_length}; at most {max_length} are allowed",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}

_WANTED: Mapping[str, str] = {
    "string_type": "a string",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "dict_type": "a map",
    "model_type": "a map",
    "model_attributes_type": "a map",
    "tuple_type": "a list",
    "list_type": "a list",
}


def told(error: ValidationError, data: Any, root: type[BaseModel], whose: str) -> Iterator[tuple[Path, str, bool]]:
    """Each thing that is wrong: its path in the data, the sentence, and whether it is the name that is wrong.

    `root` is the model that the data was held against, and `whose` what it is called: "a flow", a type.
    """
    for each in error.errors(include_url=False):
        path = _path(each["loc"])
        message = _unknown(path, data, root, whose) if each["type"] == "extra_forbidden" else _message(each)
        if message:
            yield path, message, each["type"] == "extra_forbidden"


def known_names(owner: type[BaseModel]) -> list[str]:
    """The properties of a model as they are written."""
    return [field.alias or name for name, field in owner.model_fields.items()]


def at(data: Any, path: Path) -> Any:
    """What is there; None where nothing is."""
    for step in path:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _path(loc: tuple[int | str, ...]) -> Path:
    """Without what pydantic puts in: which member of a union was meant, and that a key is wrong."""
    steps = loc[:-1] if loc[-1:] == ("[key]",) else loc
    return tuple(
        step
        for before, step in zip((None, *steps), steps, strict=False)
        if not (isinstance(before, int) and (step == tasks.LEAF or step in tasks.CONTROL))
    )


def _message(error: ErrorDetails) -> str:
    """Empty: nothing that needs to be said, since something else says it."""
    value, sort = error["input"], error["type"]
    context: dict[str, Any] = error.get("ctx", {})
    if sort == "missing":
        return "is required"
    if sort in _WANTED:
        return _wrong_type(_WANTED[sort], value)
    if sort in ("enum", "literal_error"):
        return _no_member(context["expected"], value)
    if sort == "string_pattern_mismatch":
        return f"{shown(value)} does not match {context['pattern']}"
    if sort == "too_short" and value:  # items that are wrong themselves don't count for pydantic
        return ""
    if sort in ("string_too_short", "too_short"):
        return "must not be empty"
    if sort == "value_error":
        return str(context["error"])
    if sort in _BOUNDS:
        return _BOUNDS[sort].format(length=len(value) if isinstance(value, str) else 0, **context)
    return error["msg"]


def _wrong_type(wanted: str, value: Any) -> str:
    message = f"must be {wanted}, not {kind(value)}"
    if wanted == "a string" and isinstance(value, int | float):
        return message + ": quote it"
    if wanted == "true or false" and isinstance(value, str):
        return message + f": write it without quotes, and not {shown(value)}"
    return message


def _no_member(expected: str, value: Any) -> str:
    """`expected` is pydantic's list: 'WAIT', 'FAIL' or 'CANCEL'."""
    if not isinstance(value, str):
        return f"must be {expected}, not {kind(value)}"
    near = near_matches(value, expected.split("'")[1::2])
    return f"{shown(value)} is none of {expected}" + (f". Did you mean {near[0]}?" if near else "")


def _unknown(path: Path, data: Any, root: type[BaseModel], whose: str) -> str:
    """A property that is not there, with near matches or all that are."""
    name = str(path[-1])
    owner: type[BaseModel] = root
    if holder := next((step for step in reversed(path[:-1]) if isinstance(step, str)), None):
        type_name = str(at(data, path[:-1]).get("type"))
        in_case = "cases" in path[:-1] and path[path.index("cases") + 1] == holder  # whatever the case is called
        control = None if holder in _PARTS and not in_case else tasks.CONTROL.get(type_name)
        whose = holder if control is None else type_name
        owner = control or _PARTS.get(holder) or _inside(root, holder)
    if owner in tasks.CONTROL.values() and name in _LEAVES_ALONE:
        also = ", or on the flow" if name == "workerGroup" else ""
        return f"has no meaning here: flow control runs on no worker. Put it on the tasks inside{also}"
    known = known_names(owner)
    if whose in BUILT_IN:
        known += known_names(tasks.Task)
    elif whose in TRIGGERS:
        known += known_names(model.Trigger)
    near = near_matches(name, known)
    return f"is no property of {whose}. " + (
        f"Did you mean {' or '.join(near)}?" if near else f"It has {', '.join(known)}."
    )


def _inside(owner: type[BaseModel], name: str) -> type[BaseModel]:
    """The model of what a property of the owner holds."""
    waiting = [field.annotation for key, field in owner.model_fields.items() if (field.alias or key) == name]
    while waiting:
        each: Any = waiting.pop()
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
        waiting += get_args(each)
    raise AssertionError(f"{name} of {owner.__name__} is not told by a model")


_LEAVES_ALONE = ("timeout", "retry", "workerGroup", "onWorkerLost")
