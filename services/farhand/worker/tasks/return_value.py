"""io.kestra.plugin.core.debug.Return: gives a text to the tasks after it."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from farhand.kernel.errors import Violation
from farhand.worker.tasks import properties as check
from farhand.worker.tasks.base import SUCCESS, Outcome, OutcomeState, TaskContext


class Return:
    """Gives `format`, rendered, as `outputs.value`."""

    type: ClassVar[str] = "io.kestra.plugin.core.debug.Return"

    def validate(self, properties: Mapping[str, Any]) -> Sequence[Violation]:
        """`format` is a text, a number or a boolean, or absent."""
        violations = check.unknown_properties(self.type, properties, ("format",))
        return [*violations, *check.scalar("format", properties.get("format"))]

    async def run(self, context: TaskContext) -> Outcome:
        """SUCCESS with the text; without a format there is no output."""
        value = context.properties.get("format")
        return SUCCESS if value is None else Outcome(OutcomeState.SUCCESS, outputs={"value": check.variable(value)})
