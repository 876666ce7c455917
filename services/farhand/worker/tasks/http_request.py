"""io.kestra.plugin.core.http.Request: one HTTP request from the worker.

A code of 400 or more fails the task, and its outputs are kept, unless
`options.allowFailed` is true.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from farhand.kernel.errors import Violation
from farhand.worker.tasks import http_call
from farhand.worker.tasks import properties as check
from farhand.worker.tasks.base import Level, Outcome, OutcomeState, TaskContext, failed

_KNOWN = http_call.KNOWN | {"timeout"}
_OPTIONS = frozenset({"allowFailed", "followRedirects"})


class HttpRequest:
    """Makes a request; outputs code, headers (each name's values, names in lower case) and body (a text)."""

    type: ClassVar[str] = "io.kestra.plugin.core.http.Request"

    def __init__(self) -> None:
        self._caller = http_call.HttpCaller()

    def validate(self, properties: Mapping[str, Any]) -> Sequence[Violation]:
        """All that is wrong, before anybody is called."""
        return [
            *check.unknown_properties(self.type, properties, _KNOWN),
            *http_call.violations_of(properties, _OPTIONS),
            *check.duration("timeout", properties.get("timeout")),
        ]

    async def run(self, context: TaskContext) -> Outcome:
        """SUCCESS with the answer; FAILED where there is none, or where it tells of a failure."""
        properties = context.properties
        options = check.structured(properties.get("options")) or {}
        try:
            answer = await self._caller.ask(properties)
        except http_call.NoAnswer as error:
            context.log(error.message, Level.ERROR)
            return failed(error.reason, error.message)
        if answer.code < 400 or check.truth(options.get("allowFailed"), False):
            return Outcome(OutcomeState.SUCCESS, outputs=answer.outputs)
        what = http_call.described(properties)
        message = f"{what}: the server answered {answer.code} {answer.phrase}".rstrip()
        context.log(message, Level.ERROR)
        return failed("RESPONSE_FAILED", message, outputs=answer.outputs)
