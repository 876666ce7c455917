"""Which levels decide a task's or trigger's worker group, and in which order.

From the strongest: forced plugin defaults from the outermost in, the task, plugin
defaults from the flow outwards, the flow, the nearest namespace …, the tenant.
`kernel.resolution.resolve` picks the first that says something, for the key and
the fallback apart. How long a task may wait for a worker is decided alike, except
that namespaces and tenants do not declare it.
"""

from collections.abc import Iterator, Sequence

from farhand.kernel.flow.declarations import FLOW, Declaration
from farhand.kernel.flow.defaults import matching
from farhand.kernel.flow.model import Trigger
from farhand.kernel.flow.parts import WorkerGroupRef
from farhand.kernel.flow.tasks import Task
from farhand.kernel.resolution import Level


def levels(owner: Task | Trigger, declarations: Sequence[Declaration]) -> list[Level]:
    """The levels for `resolve`, the strongest first. `declarations`: the flow's, then those of `around`."""
    return [Level(name, group.key, group.fallback) for name, group in _groups(owner, declarations)] + [
        declaration.level for declaration in declarations
    ]


def wait_timeout(owner: Task | Trigger, declarations: Sequence[Declaration]) -> tuple[str, str] | None:
    """How long it may wait for a worker, as written, and the level that says so; None: for ever."""
    said = [(group.timeout, name) for name, group in _groups(owner, declarations)]
    said += [(declaration.timeout, declaration.name) for declaration in declarations]
    return next(((timeout, name) for timeout, name in said if timeout is not None), None)


def _groups(owner: Task | Trigger, declarations: Sequence[Declaration]) -> Iterator[tuple[str, WorkerGroupRef]]:
    for declaration in reversed(declarations):
        yield from _defaults(owner.type, declaration, forced=True)
    if owner.worker_group is not None:
        yield "task" if isinstance(owner, Task) else "trigger", owner.worker_group
    for declaration in declarations:
        yield from _defaults(owner.type, declaration, forced=False)


def _defaults(type_name: str, declaration: Declaration, *, forced: bool) -> Iterator[tuple[str, WorkerGroupRef]]:
    where = "the flow" if declaration.name == FLOW else declaration.name
    name = f"{'forced ' if forced else ''}plugin defaults of {where}"
    for default in matching(declaration, type_name, forced=forced):
        if default.values.worker_group is not None:
            yield name, default.values.worker_group
