"""From a source to a flow, with all that is wrong told at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from farhand.kernel.flow.declarations import Declaration
from farhand.kernel.flow.model import Flow
from farhand.kernel.flow.problem import Problem, Severity
from farhand.kernel.flow.source import Source
from farhand.kernel.flow.types import KnownTypes


@dataclass(frozen=True, slots=True)
class Reading:
    """A flow, or None where errors stop it from being one; problems in the order of the source."""

    flow: Flow | None
    problems: Sequence[Problem]

    @property
    def errors(self) -> list[Problem]:
        """The problems that stop it from being saved."""
        return [problem for problem in self.problems if problem.severity is Severity.ERROR]


def read_flow(
    source: Source,
    known: KnownTypes,
    declarations: Sequence[Declaration] = (),
    check_group: Callable[[str], str] = lambda key: "",
) -> Reading:
    """Read a flow and tell all that is wrong with it.

    `declarations` are those of `around` for `source.namespace`: what a task inherits counts when it is asked
    whether it has what its type needs. `check_group` answers for each literal key ("" is the default group)
    why the flow may not name it, with near matches; empty: it may.
    """
    try:
        return Reading(Flow.model_validate(source.data), [])
    except ValidationError as error:
        return Reading(None, [Problem(0, 0, ".".join(map(str, each["loc"])), each["msg"]) for each in error.errors()])
