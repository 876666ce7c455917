"""Where each task of a flow stands: what a task run's id does not say of itself."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from farhand.kernel.flow import AnyTask, Flow, ForEach


@dataclass(frozen=True, slots=True)
class Place:
    """A task's place."""

    task: AnyTask
    parent: str  # the id of the flow control that it stands in; empty: at the top
    branch: str  # which of the parent's `children` it is among: "tasks", "then", "cases.gpu"; empty: at the top
    in_errors: bool
    loops: tuple[str, ...] = ()  # the ids of the ForEach around it, the outermost first: one for each round it is in


def outline(flow: Flow) -> dict[str, Place]:
    """Every task's place by its id, in the order of the source."""
    return {
        place.task.id: place
        for in_errors, tasks in ((False, flow.tasks), (True, flow.errors))
        for place in _places(tasks, "", "", (), in_errors)
    }


def _places(
    tasks: Sequence[AnyTask], parent: str, branch: str, loops: tuple[str, ...], in_errors: bool
) -> Iterator[Place]:
    for task in tasks:
        yield Place(task, parent, branch, in_errors, loops)
        within = (*loops, task.id) if isinstance(task, ForEach) else loops
        for name, inside in task.children.items():
            yield from _places(inside, task.id, name, within, in_errors)
