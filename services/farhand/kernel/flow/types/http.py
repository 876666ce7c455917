"""HTTP requests from the worker."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from farhand.kernel.flow.types.properties import OR_TEMPLATE, Boolean, Properties, Variable


class Method(StrEnum):
    """What is asked of the server."""

    GET = "GET"
    HEAD = "HEAD"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"
    OPTIONS = "OPTIONS"


class Options(Properties):
    """How the answer is taken."""

    allow_failed: Boolean = Field(False, description="Codes from 400 on are no failure.")
    follow_redirects: Boolean = Field(True, description="Go where a redirect leads, ten times at most.")


class Request(Properties):
    """One request; `outputs.<id>` has code, headers and body. Its time is bounded by the task's timeout."""

    uri: str = Field(description="Where to, e.g. https://example.com/data.", min_length=1)
    method: Annotated[Method, Field(strict=False), OR_TEMPLATE] = Field(Method.GET, description="GET, POST, …")
    headers: dict[str, Variable] = Field({}, description="Names and values.")
    body: Any = Field(None, description="What is sent: a text, or a map or list that is sent as JSON.")
    content_type: str | None = Field(None, description="The body's type, where no header says it.")
    options: Annotated[Options | None, OR_TEMPLATE] = Field(None, description="How the answer is taken.")
