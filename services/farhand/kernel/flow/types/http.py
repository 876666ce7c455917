"""HTTP requests from the worker: as a task, and as a trigger that looks at the answer."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from farhand.kernel.flow.parts import SCALAR_SCHEMA, as_text
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


class Redirects(Properties):
    """Where a request may be led."""

    follow_redirects: Boolean = Field(True, description="Go where a redirect leads, ten times at most.")


class Options(Redirects):
    """How the answer is taken."""

    allow_failed: Boolean = Field(False, description="Codes from 400 on are no failure.")


class Asking(Properties):
    """What is asked."""

    uri: str = Field(description="Where to, e.g. https://example.com/data.", min_length=1)
    method: Annotated[Method, Field(strict=False), OR_TEMPLATE] = Field(Method.GET, description="GET, POST, …")
    headers: dict[str, Variable] = Field({}, description="Names and values.")
    body: Any = Field(None, description="What is sent: a text, or a map or list that is sent as JSON.")
    content_type: str | None = Field(None, description="The body's type, where no header says it.")


class Request(Asking):
    """One request; `outputs.<id>` has code, headers and body. Its time is bounded by the task's timeout."""

    options: Annotated[Options | None, OR_TEMPLATE] = Field(None, description="How the answer is taken.")


class Trigger(Asking):
    """Asks a server every interval, and starts an execution when the answer fulfils the condition.

    `trigger` has code, headers and body. A server that can't be reached is an error on the trigger; what a
    code means is the condition's to say.
    """

    response_condition: Annotated[str, BeforeValidator(as_text), SCALAR_SCHEMA] = Field(
        "{{ response.statusCode < 400 }}",
        description="An expression over response.{statusCode, headers, body}; false are: empty, false, 0, null, none.",
    )
    options: Annotated[Redirects | None, OR_TEMPLATE] = Field(None, description="Where the request may be led.")
