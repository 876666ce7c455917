"""What a polling trigger is, and how an evaluation of one becomes a job's outcome.

An evaluation is an ordinary job of the trigger's type. Its outputs say what was seen:

    {"fired": true, "variables": {"files": […]}, "state": {…}, "message": "3 files"}

`variables` is `trigger` in the expressions of the execution. `state` is handed to the
next evaluation. The scheduler keeps both in the one transaction that creates the
execution: an evaluation whose outcome did not count leaves no trace, and the next one
starts from the same state. So an evaluation must bear to be done again, and does what
can't be taken back (moves or deletes a file) for what an earlier one's state says
only.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from farhand.kernel.errors import Violation
from farhand.kernel.expressions import render
from farhand.worker.tasks.base import Outcome, OutcomeState, TaskContext


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was seen. `variables` and `state` must be JSON; 64 KiB and 128 KiB at most."""

    fired: bool
    variables: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""  # a few words for people, e.g. "3 files"


class TriggerType(Protocol):
    """One type of polling trigger, made without arguments; as with tasks, one of another package is made for each
    evaluation, in a process of its own."""

    @property
    def type(self) -> str:
        """Its dotted name; a class attribute does."""
        ...

    def validate(self, properties: Mapping[str, Any]) -> Sequence[Violation]:
        """What is wrong with the properties; paths are relative to them."""
        ...

    async def evaluate(self, context: TaskContext) -> Evaluation | Outcome:
        """Look. An Outcome tells why that was not possible; so does whatever is raised."""
        ...


def remembered(context: TaskContext) -> Mapping[str, Any]:
    """The state that the last evaluation which counted left; empty: there was none."""
    trigger = context.scope.get("trigger")
    state = trigger.get("state") if isinstance(trigger, Mapping) else None
    return state if isinstance(state, Mapping) else {}


async def render_with(context: TaskContext, text: str, more: Mapping[str, Any]) -> str:
    """A text whose expressions see `more` beside what a trigger's expressions see. Raises ExpressionError."""
    return await asyncio.to_thread(render, text, {**context.scope, **more})


class Evaluated:
    """A trigger type as a task type."""

    def __init__(self, trigger: TriggerType, later: frozenset[str] = frozenset()) -> None:
        """`later`: properties that the type renders itself."""
        self.type = trigger.type
        self.later = later
        self._trigger = trigger

    def validate(self, properties: Mapping[str, Any]) -> Sequence[Violation]:
        """As the trigger type says."""
        return self._trigger.validate(properties)

    async def run(self, context: TaskContext) -> Outcome:
        """Evaluate it once."""
        seen = await self._trigger.evaluate(context)
        if isinstance(seen, Outcome):
            return seen
        outputs: dict[str, Any] = {"fired": bool(seen.fired), "state": dict(seen.state)}
        if seen.fired:
            outputs["variables"] = dict(seen.variables)
        if seen.message:
            outputs["message"] = seen.message
        return Outcome(OutcomeState.SUCCESS, outputs=outputs)
