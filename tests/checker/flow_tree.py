"""A flow as the checker sees it: which tasks stand in it, where, and how each is to end.

A `flow` line holds it as `tasks` and `errors`. A task that runs on a worker has a
`group`; `codes`, the exit code of each attempt (the last stands for those behind it);
how many `attempts` it may have; whether it may fail (`allow`); its `fallback`; and whose
outputs it is given (`got`). Flow control has a `kind`, `parallel` or `if`, and its tasks
by `branches`: of an If `then` and `else`. A flow of which `most` executions may run at a
time says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Leaf:
    """A task that runs on a worker."""

    id: str
    group: str
    codes: tuple[int, ...] = (0,)
    attempts: int = 1
    allow: bool = False
    fallback: str = "WAIT"
    got: tuple[str, ...] = ()

    def code(self, attempt: int) -> int:
        """With which an attempt is to exit."""
        return self.codes[min(attempt, len(self.codes)) - 1]


@dataclass(frozen=True, slots=True)
class Control:
    """Flow control."""

    id: str
    kind: str  # parallel, if
    allow: bool
    branches: Mapping[str, tuple["Node", ...]]


Node = Leaf | Control


@dataclass(frozen=True, slots=True)
class Tree:
    """A flow."""

    tasks: tuple[Node, ...]
    errors: tuple[Node, ...]
    most: int | None = None  # executions at a time
    leaves: Mapping[str, Leaf] = field(init=False)
    before: Mapping[str, frozenset[str]] = field(init=False)  # by leaf: those that must be over when it starts

    def __post_init__(self) -> None:
        object.__setattr__(self, "leaves", {leaf.id: leaf for leaf in _leaves((*self.tasks, *self.errors))})
        before = dict(_before(self.tasks, frozenset()))
        before |= _before(self.errors, frozenset(leaf.id for leaf in _leaves(self.tasks)))
        object.__setattr__(self, "before", before)

    @property
    def cancels(self) -> bool:
        """Whether a fallback may kill all of it."""
        return any(leaf.fallback == "CANCEL" for leaf in self.leaves.values())


def read_tree(raw: Mapping[str, Any]) -> Tree:
    """From JSON. KeyError, TypeError or ValueError where it is none."""
    return Tree(_nodes(raw["tasks"]), _nodes(raw.get("errors", ())), raw.get("most"))


def inside(node: Node) -> Iterator[str]:
    """The ids of a task and of all that stands in it."""
    yield node.id
    if isinstance(node, Control):
        for child in (child for branch in node.branches.values() for child in branch):
            yield from inside(child)


def _nodes(raw: Sequence[Mapping[str, Any]]) -> tuple[Node, ...]:
    return tuple(map(_node, raw))


def _node(raw: Mapping[str, Any]) -> Node:
    if "kind" in raw:
        branches = {str(name): _nodes(tasks) for name, tasks in raw["branches"].items()}
        return Control(str(raw["id"]), str(raw["kind"]), bool(raw.get("allow", False)), branches)
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}
    return Leaf(**fields)


def _leaves(nodes: Sequence[Node]) -> Iterator[Leaf]:
    for node in nodes:
        if isinstance(node, Leaf):
            yield node
        else:
            for branch in node.branches.values():
                yield from _leaves(branch)


def _before(nodes: Sequence[Node], earlier: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    """Of a sequence, behind what is earlier."""
    for node in nodes:
        if isinstance(node, Leaf):
            yield node.id, earlier
        elif node.kind == "parallel":
            for child in node.branches["tasks"]:
                yield from _before((child,), earlier)
        else:
            for branch in node.branches.values():
                yield from _before(branch, earlier)
        earlier |= {leaf.id for leaf in _leaves((node,))}
