"""The same request twice (AIP-155): a request_id, and a digest of what was asked for.

The digest is of the request as it was understood, so output-only fields, which
are ignored, and another encoding of the same message make no difference.
"""

import hashlib
from dataclasses import fields

from farhand.kernel import names
from farhand.kernel.errors import RequestIdReused, Violation
from farhand.registry.core.change import Resource

_LONGEST = 100


def check(request_id: str) -> list[Violation]:
    """At most 100 characters."""
    return names.check_text("request_id", request_id, _LONGEST)


def digest(asked: Resource) -> bytes:
    """Of the resource that a create asks for.

    A field with its default value is left out, so that a replica of a later release,
    which knows more fields, finds the same digest.
    """
    said = [(field.name, getattr(asked, field.name)) for field in fields(asked)]
    telling = [pair for pair, field in zip(said, fields(asked), strict=True) if pair[1] != field.default]
    return hashlib.sha256(repr((type(asked).__name__, telling)).encode()).digest()


def check_same(request_id: str, remembered: bytes, asked: bytes) -> None:
    """Raises RequestIdReused when the id came with another body before."""
    if remembered != asked:
        raise RequestIdReused(
            f"The request_id {names.shown(request_id)} was used with another request in the last 24 hours. "
            "Use a new id for a new request."
        )
