"""Which task types this worker can run: its own, and those of other packages.

Another package adds a type by an entry point in the group `farhand.tasks`, whose
name is the type's and whose object is the class (see base.TaskType):

    [project.entry-points."farhand.tasks"]
    "org.example.Greet" = "example.greet:Greet"

Its code is never imported here, only in a process of its own for each run
(foreign.py); a package that can't be loaded fails its own jobs and nothing else.
"""

import logging
from collections.abc import Iterable, Mapping
from importlib import metadata

from farhand.kernel.names import check_task_type
from farhand.worker.tasks.base import InstantTaskType, TaskType
from farhand.worker.tasks.foreign import ForeignTask
from farhand.worker.tasks.noop import Noop
from farhand.worker.tasks.shell import ShellCommands

log = logging.getLogger(__name__)

ENTRY_POINT_GROUP = "farhand.tasks"
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

    @property
    def names(self) -> list[str]:
        """What hello tells, sorted."""
        return sorted([*self.running, *self.instant])[:MOST_TYPES]


def built_in() -> list[TaskType | InstantTaskType]:
    """The types that come with Farhand."""
    return [Noop(), ShellCommands()]


def load(entry_points: Iterable[metadata.EntryPoint] | None = None) -> TaskTypes:
    """All types of this installation; the built-in ones can't be replaced."""
    types = built_in()
    taken = {each.type for each in types}
    for entry in metadata.entry_points(group=ENTRY_POINT_GROUP) if entry_points is None else entry_points:
        if entry.name in taken:
            why = "the type is there already"
        elif violations := check_task_type("type", entry.name):
            why = violations[0].description
        else:
            taken.add(entry.name)
            types.append(ForeignTask(entry.name, entry.value))
            continue
        log.error("task type left out", extra={"type": entry.name, "entry_point": entry.value, "why": why})
    return TaskTypes(types)
