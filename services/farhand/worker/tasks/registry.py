"""Which types this worker can run, of tasks and of triggers: its own, and those of other packages.

Another package adds a type by an entry point in the group `farhand.tasks` or
`farhand.triggers`, whose name is the type's and whose object is the class (see
base.TaskType, triggers.base.TriggerType):

    [project.entry-points."farhand.tasks"]
    "org.example.Greet" = "example.greet:Greet"

    [project.entry-points."farhand.triggers"]
    "org.example.Visitors" = "example.visitors:Visitors"

Its code is never imported here, only in a process of its own for each run
(foreign.py); a package that can't be loaded fails its own jobs and nothing else.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any

from farhand.kernel.errors import Violation
from farhand.kernel.names import check_task_type
from farhand.worker.runners.registry import TaskRunners
from farhand.worker.tasks.base import InstantTaskType, Outcome, TaskContext, TaskType
from farhand.worker.tasks.fail import Fail
from farhand.worker.tasks.foreign import TASKS, TRIGGERS, ForeignTask
from farhand.worker.tasks.http_request import HttpRequest
from farhand.worker.tasks.log import Log
from farhand.worker.tasks.noop import Noop
from farhand.worker.tasks.python_commands import PythonCommands
from farhand.worker.tasks.python_script import PythonScript
from farhand.worker.tasks.return_value import Return
from farhand.worker.tasks.shell_commands import ShellCommands
from farhand.worker.tasks.shell_script import ShellScript
from farhand.worker.tasks.sleep import Sleep
from farhand.worker.triggers.base import Evaluated
from farhand.worker.triggers.http import HttpTrigger
from farhand.worker.triggers.local_files import LocalFiles

log = logging.getLogger(__name__)

MOST_TYPES = 1_000  # Hello.task_types


class TaskTypes:
    """The task types of one worker."""

    def __init__(self, types: Iterable[TaskType | InstantTaskType]) -> None:
        self.running: Mapping[str, TaskType]
        self.instant: Mapping[str, InstantTaskType]
        running: dict[str, TaskType] = {}
        instant: dict[str, InstantTaskType] = {}
        for each in types:
            if isinstance(each, InstantTaskType):
                instant[each.type] = each
            else:
                running[each.type] = each
        self.running = running
        self.instant = instant

    def get(self, name: str) -> TaskType | None:
        """The type as one that is run by itself; None where it is not known."""
        instant = self.instant.get(name)
        return self.running.get(name) if instant is None else Concluded(instant)

    @property
    def names(self) -> list[str]:
        """What hello tells, sorted."""
        return sorted([*self.running, *self.instant])[:MOST_TYPES]


class Concluded:
    """An instant type, run by itself because its properties had to be rendered first."""

    def __init__(self, instant: InstantTaskType) -> None:
        self.type = instant.type
        self._instant = instant

    def validate(self, properties: Mapping[str, Any]) -> Sequence[Violation]:
        """Nothing: it checks them itself."""
        return ()

    async def run(self, context: TaskContext) -> Outcome:
        """What the instant type makes of the properties."""
        return self._instant.conclude(context.properties)


def built_in(runners: TaskRunners) -> list[TaskType | InstantTaskType]:
    """The types that come with Farhand."""
    return [
        Noop(),
        Fail(),
        HttpRequest(),
        Log(),
        Return(),
        Sleep(),
        PythonCommands(runners),
        PythonScript(runners),
        ShellCommands(runners),
        ShellScript(runners),
        *(Evaluated(HttpTrigger(), HttpTrigger.later), Evaluated(LocalFiles())),
    ]


def load(runners: TaskRunners, entry_points: Iterable[metadata.EntryPoint] | None = None) -> TaskTypes:
    """All types of this installation; the built-in ones can't be replaced."""
    types = built_in(runners)
    taken = {each.type for each in types}
    if entry_points is None:
        entry_points = [each for group in (TASKS, TRIGGERS) for each in metadata.entry_points(group=group)]
    for entry in entry_points:
        if entry.name in taken:
            why = "the type is there already"
        elif violations := check_task_type("type", entry.name):
            why = violations[0].description
        else:
            taken.add(entry.name)
            types.append(ForeignTask(entry.name, entry.value, entry.group))
            continue
        log.error("type left out", extra={"type": entry.name, "entry_point": entry.value, "why": why})
    return TaskTypes(types)
