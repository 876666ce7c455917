"""The pieces of which the types' models are made.

Every text may be a template; then what it comes to is checked on the worker, just
before the start. Descriptions end up in the JSON Schema that editors read.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from farhand.kernel.expressions import is_template
from farhand.kernel.flow.parts import Duration, Part
from farhand.kernel.kinds import kind
from farhand.kernel.names import shown


class _OrTemplate:
    """Takes a template where a value of another type, or of a stricter rule, belongs."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def check(value: Any, inner: core_schema.ValidatorFunctionWrapHandler) -> Any:
            return value if isinstance(value, str) and is_template(value) else inner(value)

        return core_schema.no_info_wrap_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [handler(schema), {"type": "string", "pattern": r"\{\{"}]}


OR_TEMPLATE = _OrTemplate()


class Properties(Part):
    """What a type takes, beside what is common to all tasks."""


def _variable_name(name: str) -> str:
    if not name or "=" in name or "\0" in name:
        raise ValueError(f"{shown(name)} can't be the name of an environment variable")
    return name


def _relative(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"{shown(path)} leaves the task's folder: it must be a relative path without ..")
    return path


def _variable(value: Any) -> Any:
    if not isinstance(value, str | int | float | bool):
        raise ValueError(f"must be a string, a number or a boolean, not {kind(value)}")
    return value


def _texts(value: Any) -> Any:
    items = value if isinstance(value, list | tuple) else [value]
    for item in items:
        if not isinstance(item, str):
            raise ValueError(f"must be a string or a list of strings, not {kind(value if item is value else item)}")
    if not items:
        raise ValueError("must not be empty")
    return value


Texts = Annotated[
    Any,
    AfterValidator(_texts),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]
Variable = Annotated[Any, AfterValidator(_variable), WithJsonSchema({"type": ["string", "number", "boolean"]})]
Boolean = Annotated[bool, OR_TEMPLATE]
TemplatedDuration = Annotated[Duration, OR_TEMPLATE]
RelativePath = Annotated[str, AfterValidator(_relative), OR_TEMPLATE]
Environment = dict[Annotated[str, AfterValidator(_variable_name)], Variable]
SomeStrings = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
