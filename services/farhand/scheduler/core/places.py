"""How many executions of a flow run at a time: its `concurrency`, as a rule.

An execution has a place of its flow from its beginning to its end, or waits in line
for one. Taken places are counted whenever it matters, never kept as a number. What the
newest known revision says counts for all executions of the flow, whatever their own.
"""

from dataclasses import dataclass
from enum import Enum

from farhand.kernel.flow import Behavior, Flow


class Entry(Enum):
    """What becomes of an execution that comes."""

    BEGINS = "begins"  # it has a place
    WAITS = "waits"  # in line, behind those that came before
    FAILS = "fails"  # it ends at once, FAILED
    CANCELLED = "cancelled"  # it ends at once, KILLED


@dataclass(frozen=True, slots=True)
class Limit:
    """What a revision of a flow says of all the flow's executions. `most` None: any number may run."""

    revision: int
    most: int | None
    behavior: Behavior = Behavior.QUEUE


_FULL = {Behavior.QUEUE: Entry.WAITS, Behavior.FAIL: Entry.FAILS, Behavior.CANCEL: Entry.CANCELLED}


def limit_of(flow: Flow, revision: int) -> Limit:
    """What a revision says."""
    if flow.concurrency is None:
        return Limit(revision, None)
    return Limit(revision, flow.concurrency.limit, flow.concurrency.behavior)


def enter(limit: Limit, *, taken: int, waits: bool) -> Entry:
    """What becomes of an execution that comes when so many places are taken. `waits`: others wait already."""
    if limit.most is None or (taken < limit.most and not waits):
        return Entry.BEGINS
    return _FULL[limit.behavior]


def why_not(limit: Limit, taken: int) -> str:
    """Why an execution ended before it began."""
    return f"{_allows(limit)}, {taken:,} {_run(taken)}, and its concurrency.behavior is {limit.behavior}."


def why_waiting(limit: Limit, before: int) -> str:
    """What an execution that waits says of itself; so many wait before it."""
    line = f"{before:,} {'waits' if before == 1 else 'wait'} before it" if before else "it is the next to begin"
    return f"It waits for its turn: {_allows(limit, 'its')}, and {line}."


def _allows(limit: Limit, its: str = "Its") -> str:
    if limit.most is None:
        return f"{its} flow allows any number of executions at a time"
    executions = "execution" if limit.most == 1 else "executions"
    return f"{its} flow allows {limit.most:,} {executions} at a time (concurrency.limit)"


def _run(count: int) -> str:
    return "runs" if count == 1 else "run"
