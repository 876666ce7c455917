"""io.kestra.plugin.core.http.Trigger: asks a server, and fires when the answer fulfils a condition.

The condition is an expression that sees `response.statusCode`, `.headers` and `.body`;
what a code means is its to say. No answer at all is a failure of the evaluation.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from farhand.kernel.errors import Violation
from farhand.kernel.expressions import ExpressionError, truthy
from farhand.worker.tasks import http_call
from farhand.worker.tasks import properties as check
from farhand.worker.tasks.base import Level, Outcome, TaskContext, failed
from farhand.worker.triggers.base import Evaluation, render_with

CONDITION = "responseCondition"
USUAL_CONDITION = "{{ response.statusCode < 400 }}"

_KNOWN = http_call.KNOWN | {CONDITION}
_OPTIONS = frozenset({"followRedirects"})


class HttpTrigger:
    """`trigger` has code, headers and body, as the outputs of a request."""

    type: ClassVar[str] = "io.kestra.plugin.core.http.Trigger"
    later: ClassVar[frozenset[str]] = frozenset({CONDITION})

    def __init__(self) -> None:
        self._caller = http_call.HttpCaller()

    def validate(self, properties: Mapping[str, Any]) -> Sequence[Violation]:
        """All that is wrong, before anybody is called."""
        return [
            *check.unknown_properties(self.type, properties, _KNOWN),
            *http_call.violations_of(properties, _OPTIONS),
            *check.scalar(CONDITION, properties.get(CONDITION)),
        ]

    async def evaluate(self, context: TaskContext) -> Evaluation | Outcome:
        """One request, one look at the answer."""
        try:
            answer = await self._caller.ask(context.properties)
        except http_call.NoAnswer as error:
            context.log(error.message, Level.ERROR)
            return failed(error.reason, error.message)
        response = {"statusCode": answer.code, "headers": answer.headers, "body": answer.body}
        condition = context.properties.get(CONDITION)
        try:
            text = check.variable(USUAL_CONDITION if condition is None else condition)
            fulfilled = truthy(await render_with(context, text, {"response": response}))
        except ExpressionError as error:
            message = f"{CONDITION}: {error.message}"
            context.log(message, Level.ERROR)
            return failed("EXPRESSION_FAILED", message)
        said = f"the server answered {answer.code} {answer.phrase}".rstrip()
        if fulfilled:
            return Evaluation(True, answer.outputs, message=said)
        return Evaluation(False, message=f"{said}, which does not fulfil the condition")
