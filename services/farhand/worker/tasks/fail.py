"""io.kestra.plugin.core.execution.Fail: fails, on purpose."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from farhand.kernel.errors import Violation
from farhand.worker.tasks import properties as check
from farhand.worker.tasks.base import Level, Outcome, TaskContext, failed

USUAL_MESSAGE = "Task failure"


class Fail:
    """Fails with `errorMessage`."""

    type: ClassVar[str] = "io.kestra.plugin.core.execution.Fail"

    def validate(self, properties: Mapping[str, Any]) -> Sequence[Violation]:
        """`errorMessage` is a text, or absent."""
        violations = check.unknown_properties(self.type, properties, ("errorMessage",))
        return [*violations, *check.scalar("errorMessage", properties.get("errorMessage"))]

    async def run(self, context: TaskContext) -> Outcome:
        """FAILED."""
        given = context.properties.get("errorMessage")
        message = USUAL_MESSAGE if given in (None, "") else check.variable(given)
        context.log(message, Level.ERROR)
        return failed("FAIL_TASK", message)
