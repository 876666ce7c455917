"""The JSON Schema of the flow language, for editors: completion, descriptions, red lines under what is wrong.

It is made from the models. It is laxer than read_flow where only the server knows:
it asks for no property that plugin defaults may bring, and knows no groups.
"""

from collections.abc import Collection, Mapping
from typing import Any

from farhand.kernel.flow.model import Flow, Trigger
from farhand.kernel.flow.parts import Part
from farhand.kernel.flow.tasks import CONTROL, Task
from farhand.kernel.flow.types import BUILT_IN, TRIGGERS, KnownTypes
from farhand.kernel.flow.types.runners import RUNNERS, AnyRunner

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_ANY_TASK = {"$ref": "#/$defs/AnyTask"}
_FOREIGN = {"additionalProperties": True, "description": "A type of your workers."}


def json_schema(known: KnownTypes) -> dict[str, Any]:
    """JSON Schema 2020-12. Types that workers brought along are named, with free properties."""
    schema = Flow.model_json_schema()
    parts: dict[str, Any] = schema.pop("$defs")
    leaf = parts.pop("Task")
    by_type = {name: parts.pop(model.__name__) for name, model in CONTROL.items()}
    for name, model in BUILT_IN.items():
        own = model.model_json_schema()
        parts |= own.pop("$defs", {})
        by_type[name] = _of_type(leaf, name, own)
    for name in sorted(known.told - by_type.keys()):
        by_type[name] = _of_type(leaf, name, _FOREIGN)
    parts["AnyTask"] = _any_of(by_type, Task)
    trigger = parts["Trigger"]
    triggers: dict[str, dict[str, Any]] = {}
    for name, model in TRIGGERS.items():
        own = model.model_json_schema()
        parts |= own.pop("$defs", {})
        triggers[name] = _of_type(trigger, name, own)
    for name in sorted(known.triggers - triggers.keys()):
        triggers[name] = _of_type(trigger, name, _FOREIGN)
    parts["Trigger"] = _any_of(triggers, Trigger)
    runners: dict[str, dict[str, Any]] = {}
    for name, runner in RUNNERS.items():
        own = runner.model_json_schema()
        parts |= own.pop("$defs", {})
        own["properties"] = {**own.get("properties", {}), "type": {"const": name}}
        runners[name] = own
    # Workers tell the types of other packages' runners among their tasks'.
    parts["AnyRunner"] = _any_of(runners, AnyRunner, also=known.told)
    parts |= by_type | triggers | runners
    schema["$defs"] = dict(sorted(parts.items()))
    return {"$schema": _DRAFT, "title": "A Farhand flow", **_tidy(schema)}


def _any_of(by_type: Mapping[str, Any], owner: type[Part], *, also: Collection[str] = ()) -> dict[str, Any]:
    """What is of one of the types, each of which has a definition under its name; of `also` nothing is known."""
    return {
        "type": "object",
        "required": [name for name in ("id", "type") if name in owner.model_fields],
        "properties": {
            "type": {"enum": sorted({*by_type, *also}), "description": owner.model_fields["type"].description}
        },
        "allOf": [
            {
                "if": {"required": ["type"], "properties": {"type": {"const": name}}},
                "then": {"$ref": f"#/$defs/{name}"},
            }
            for name in sorted(by_type)
        ],
    }


def _of_type(leaf: Mapping[str, Any], name: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """What is common to all tasks, or to all triggers, and the type's own."""
    return {
        "type": "object",
        "description": own["description"],
        "required": ["id", "type"],
        "properties": {**leaf["properties"], **own.get("properties", {}), "type": {"const": name}},
        "additionalProperties": own.get("additionalProperties", False),
    }


def _tidy(value: Any) -> Any:
    """Without pydantic's titles and null defaults, and with every list of tasks told in one way."""
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "oneOf" in value:  # the union of all tasks
        return dict(_ANY_TASK)
    # A title beside a type is a keyword; `title` among properties has a map.
    noise = {name for name in ("title", "default") if name in value and not isinstance(value[name], dict)}
    return {name: _tidy(item) for name, item in value.items() if name not in noise}
