"""From a source to a flow, with all that is wrong told at once.

The shape is pydantic's to check (model.py, tasks.py, parts.py), its words ours
(wording.py). What one part says about another is checked on the plain data, part by
part, so that a flow with a wrong shape is still told what else is wrong: checks.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pydantic import ValidationError

from farhand.kernel.errors import Violation
from farhand.kernel.flow import checks
from farhand.kernel.flow.declarations import Declaration
from farhand.kernel.flow.model import Flow, PluginDefault
from farhand.kernel.flow.problem import Problem, Severity
from farhand.kernel.flow.source import MOST_PROBLEMS, Source, path_text
from farhand.kernel.flow.types import KnownTypes
from farhand.kernel.flow.wording import told
from farhand.kernel.kinds import kind


@dataclass(frozen=True, slots=True)
class Reading:
    """A flow, or None where errors stop it from being one; problems in the order of the source."""

    flow: Flow | None
    problems: Sequence[Problem]

    @property
    def errors(self) -> list[Problem]:
        """The problems that stop it from being saved."""
        return [problem for problem in self.problems if problem.severity is Severity.ERROR]


def _any_group(key: str) -> str:
    return ""


def read_flow(
    source: Source,
    known: KnownTypes,
    declarations: Sequence[Declaration] = (),
    check_group: Callable[[str], str] = _any_group,
) -> Reading:
    """Read a flow and tell all that is wrong with it.

    `declarations` are those of `around` for `source.namespace`: what a task inherits counts when it is asked
    whether it has what its type needs. `check_group` answers for each literal key ("" is the default group)
    why the flow may not name it, with near matches; empty: it may.

    At most 100 problems are told, and then that there are more.
    """
    data = source.data
    problems = list(source.problems)
    flow = None
    if isinstance(data, dict):
        if too_many := checks.too_many_tasks(source):
            problems.append(too_many)
        else:
            try:
                flow = Flow.model_validate(data)
            except ValidationError as error:
                problems += [
                    source.problem(path, message, key=is_name)
                    for path, message, is_name in islice(told(error, data, Flow, "a flow"), MOST_PROBLEMS + 1)
                ]
            problems += checks.Checks(source, known, declarations, check_group).problems()
    elif not problems:
        problems.append(source.problem((), f"a flow is a map with id, namespace and tasks, not {kind(data)}"))
    reading = Reading(flow, _ordered(problems))
    return Reading(None, reading.problems) if reading.errors else reading


def read_plugin_defaults(
    values: Sequence[Mapping[str, Any]], path: str, check_group: Callable[[str], str] = _any_group
) -> tuple[tuple[PluginDefault, ...], list[Violation]]:
    """The plugin defaults of a namespace or tenant, `{"type": …, "forced": …, "values": {…}}` each.

    Paths of violations begin with `path`. `check_group` is that of read_flow.
    """
    defaults: list[PluginDefault] = []
    violations: list[Violation] = []
    for index, value in enumerate(values):
        where = f"{path}[{index}]"
        try:
            default = PluginDefault.model_validate(value)
        except ValidationError as error:
            violations += [
                Violation(f"{where}.{path_text(inside)}" if inside else where, message)
                for inside, message, _ in told(error, value, PluginDefault, "plugin defaults")
            ]
            continue
        defaults.append(default)
        group = default.values.worker_group
        if group is not None and (why := checks.why_no_group(group.key, check_group)):
            violations.append(Violation(f"{where}.values.workerGroup.key", why))
    return tuple(defaults), violations


def _ordered(problems: Sequence[Problem]) -> list[Problem]:
    """By their places, one for each value. Errors come before warnings, and are told first if there are too many."""
    by_place: dict[tuple[int, int, str], Problem] = {}
    for problem in problems:
        by_place.setdefault((problem.line, problem.column, problem.path), problem)
    every = list(by_place.values())
    first, rest = every[:MOST_PROBLEMS], every[MOST_PROBLEMS:]
    ordered = sorted(first, key=lambda problem: (problem.line, problem.column))
    if rest:
        ordered.append(Problem(0, 0, "", "there are more problems, not told here", rest[0].severity))
    return ordered
