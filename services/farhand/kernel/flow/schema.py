"""The JSON Schema of the flow language, for editors."""

from typing import Any

from farhand.kernel.flow.model import Flow
from farhand.kernel.flow.types import KnownTypes


def json_schema(known: KnownTypes) -> dict[str, Any]:
    """JSON Schema 2020-12."""
    return Flow.model_json_schema()
