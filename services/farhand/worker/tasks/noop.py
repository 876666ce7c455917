"""farhand.core.Noop: does nothing and succeeds. For probes, and to measure everything but the work."""

from collections.abc import Mapping
from typing import Any, ClassVar

from farhand.worker.tasks.base import SUCCESS, Outcome
from farhand.worker.tasks.properties import invalid, unknown_properties


class Noop:
    """Nothing, done well."""

    type: ClassVar[str] = "farhand.core.Noop"

    def conclude(self, properties: Mapping[str, Any]) -> Outcome:
        """SUCCESS. `payload` may be anything: it gives the task a size."""
        if properties and (violations := unknown_properties(self.type, properties, ("payload",))):
            return invalid(violations)
        return SUCCESS
