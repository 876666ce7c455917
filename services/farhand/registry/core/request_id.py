"""The same request twice (AIP-155): a request_id, and a digest of what was asked for.

The digest is of the request as it was understood, so output-only fields, which
are ignored, and another encoding of the same message make no difference.
"""

import hashlib
from dataclasses import fields
from typing import Any

from pydantic import BaseModel

from farhand.kernel import names
from farhand.kernel.errors import RequestIdReused, Violation
from farhand.registry.core.change import Resource
from farhand.registry.core.flow import FlowCreation

_LONGEST = 100


def check(request_id: str) -> list[Violation]:
    """At most 100 characters."""
    return names.check_text("request_id", request_id, _LONGEST)


def digest(asked: Resource | FlowCreation) -> bytes:
    """Of what a create asks for.

    A field with its default value is left out, so that a replica of a later release,
    which knows more fields, finds the same digest.
    """
    said = [(field, getattr(asked, field.name)) for field in fields(asked)]
    telling = [(field.name, _written(value)) for field, value in said if value != field.default]
    return hashlib.sha256(repr((type(asked).__name__, telling)).encode()).digest()


def check_same(request_id: str, remembered: bytes, asked: bytes) -> None:
    """Raises RequestIdReused when the id came with another body before."""
    if remembered != asked:
        raise RequestIdReused(
            f"The request_id {names.shown(request_id)} was used with another request in the last 24 hours. "
            "Use a new id for a new request."
        )


def _written(value: Any) -> Any:
    """Models as they were written: what a later release makes of the rest is its own affair."""
    if isinstance(value, tuple):
        return tuple(map(_written, value))
    return value.model_dump_json(by_alias=True, exclude_unset=True) if isinstance(value, BaseModel) else value
