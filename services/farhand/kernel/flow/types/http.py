"""HTTP requests from the worker."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from farhand.kernel.flow.types.properties import OR_TEMPLATE, Properties, Variable


class Method(StrEnum):
    """What is asked of the server."""

    GET = "GET"
    HEAD = "HEAD"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"
    OPTIONS = "OPTIONS"


class Request(Properties):
    """One request; `outputs.<id>` has code, headers and body. Its time is bounded by the task's timeout."""

    uri: str = Field(description="Where to, e.g. https://example.com/data.", min_length=1)
    method: Annotated[Method, Field(strict=False), OR_TEMPLATE] = Field(Method.GET, description="GET, POST, …")
    headers: dict[str, Variable] = Field({}, description="Names and values.")
    body: str | None = Field(None, description="What is sent.")
