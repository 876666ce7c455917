"""Where each task of a flow stands: what a task run's id does not say of itself."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from farhand.kernel.flow import AnyTask, Flow


@dataclass(frozen=True, slots=True)
class Place:
    """A task's place."""

    task: AnyTask
    parent: str  # the id of the flow control that it stands in; empty: at the top
    branch: str  # the property of the parent that holds it: "tasks", "then", "else"; empty: at the top
    in_errors: bool


def outline(flow: Flow) -> dict[str, Place]:
    """Every task's place by its id, in the order of the source."""
    return {
        place.task.id: place
        for in_errors, tasks in ((False, flow.tasks), (True, flow.errors))
        for place in _places(tasks, "", "", in_errors)
    }


def _places(tasks: Sequence[AnyTask], parent: str, branch: str, in_errors: bool) -> Iterator[Place]:
    for task in tasks:
        yield Place(task, parent, branch, in_errors)
        for name, inside in task.children.items():
            yield from _places(inside, task.id, name, in_errors)
