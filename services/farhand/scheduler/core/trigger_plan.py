"""What a trigger's definition means to the scheduler: read once from the row that holds it, and kept.

The row holds the trigger as its flow has it, with all that it inherits, as JSON. What
does not change from look to look is made of it here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from farhand.kernel.expressions import templates_of
from farhand.kernel.flow import Trigger
from farhand.kernel.flow.cron import Cron
from farhand.kernel.flow.types import SCHEDULE
from farhand.kernel.flow.types.schedule import Missed, Schedule

KEPT = 20_000  # plans, a few KiB each


@dataclass(frozen=True)
class TriggerPlan:
    """A trigger with all that it inherits."""

    trigger: Trigger

    @classmethod
    def read(cls, plan: str) -> "TriggerPlan":
        """From the row. Raises ValueError."""
        return _read(plan)

    @cached_property
    def schedule(self) -> "SchedulePlan | None":
        """None: it is a polling trigger. Raises ValueError where what it inherits makes no Schedule of it."""
        if self.trigger.type != SCHEDULE:
            return None
        properties = Schedule.model_validate(dict(self.trigger.properties))
        return SchedulePlan(Cron.parse(properties.cron, properties.timezone), properties.recover_missed_schedules)

    def check(self) -> None:
        """Raises ValueError where what it inherits makes nothing of it that its type knows."""
        _ = self.schedule

    def schedule_is(self, other: "SchedulePlan") -> bool:
        """Whether it comes at the same times."""
        try:
            own = self.schedule
        except ValueError:
            return False
        return own is not None and own.cron == other.cron

    @property
    def written(self) -> str:
        """As the row holds it."""
        return json.dumps(self.trigger.written(), ensure_ascii=False)

    @cached_property
    def inputs_have_expressions(self) -> bool:
        """Whether each execution's inputs are its own."""
        return next(templates_of(dict(self.trigger.inputs)), None) is not None

    @property
    def inputs(self) -> Mapping[str, Any]:
        """As they were written."""
        return self.trigger.inputs


@dataclass(frozen=True, slots=True)
class SchedulePlan:
    """When a Schedule starts executions."""

    cron: Cron
    missed: Missed


@lru_cache(maxsize=KEPT)
def _read(plan: str) -> TriggerPlan:
    return TriggerPlan(Trigger.model_validate_json(plan))
