"""io.kestra.plugin.core.flow.Sleep: waits, and succeeds."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from farhand.kernel.durations import parse_duration
from farhand.kernel.errors import Violation
from farhand.worker.tasks import properties as check
from farhand.worker.tasks.base import SUCCESS, Outcome, TaskContext


class Sleep:
    """Waits for a while."""

    type: ClassVar[str] = "io.kestra.plugin.core.flow.Sleep"

    def validate(self, properties: Mapping[str, Any]) -> Sequence[Violation]:
        """`duration` is a duration; PT0S is one."""
        violations = check.unknown_properties(self.type, properties, ("duration",))
        return [*violations, *check.duration("duration", properties.get("duration"), required=True)]

    async def run(self, context: TaskContext) -> Outcome:
        """SUCCESS, after a while."""
        await asyncio.sleep(parse_duration(context.properties["duration"]))
        return SUCCESS
