"""io.kestra.plugin.core.log.Log: writes lines to the log."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from farhand.kernel.errors import Violation
from farhand.worker.tasks import properties as check
from farhand.worker.tasks.base import SUCCESS, Level, Outcome, TaskContext


class Log:
    """Writes `message`, a text or a list of them, at `level` (INFO)."""

    type: ClassVar[str] = "io.kestra.plugin.core.log.Log"

    def validate(self, properties: Mapping[str, Any]) -> Sequence[Violation]:
        """`message` is a text or a list of texts, `level` a level in any case."""
        violations = check.unknown_properties(self.type, properties, ("message", "level"))
        message = properties.get("message")
        if isinstance(message, list):
            violations += check.strings("message", message, required=True)
        else:
            violations += check.scalar("message", message, required=True)
        return [*violations, *check.one_of("level", properties.get("level"), Level)]

    async def run(self, context: TaskContext) -> Outcome:
        """SUCCESS, when the lines are written."""
        level = Level((context.properties.get("level") or Level.INFO).upper())
        message = context.properties["message"]
        for text in message if isinstance(message, list) else [message]:
            context.say(check.variable(text), level)
        return SUCCESS
