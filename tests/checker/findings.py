"""What the checker may find, and how it is shown."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from tests.checker.events import Line

_SHOWN = 12  # lines of proof of one finding


class Verdict(StrEnum):
    """What is wrong. P1 to P13 are README.md's guarantees."""

    # Of triggers also: a tick or file that started no execution, or two.
    LOST = "lost"  # acknowledged and never seen to end, or ended well without having run to its end (P2)
    DUPLICATED = "duplicated"  # two jobs for one request, two ends, two runs under one fence (P3, P6)
    OVERLAPPING = "overlapping"  # two runs of one job at the same time (P1)
    OUT_OF_ORDER = "out of order"  # a later job of the group was assigned first (P5)
    WRONG_GROUP = "wrong group"  # it ran on a worker of another group (P10)
    WRONG_TENANT = "wrong tenant"  # it ran for a tenant not its own, or where that is not admitted (P10)
    TOO_MANY = "more at once than the tenant's quota allows"  # (P13)
    TOO_MANY_EXECUTIONS = "more executions at once than their flow allows"  # its concurrency
    STARTED_AFTER_KILL = "started after its kill was acknowledged"  # (P9)
    TOO_EARLY = "before its predecessor ended"  # a task of an execution (semantics.md, 4)
    WRONG_OUTPUT = "given an output that nobody recorded"  # what a task got of its predecessors
    WRONG_END = "a wrong end"  # an execution's, or flow control's, given how its tasks ended
    FENCE_DID_NOT_GROW = "a fence that does not grow"  # (P4)
    UNEXPECTED = "unexpected"  # nobody asked for it, or it ended as nobody wished


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, with the lines that prove it."""

    verdict: Verdict
    what: str
    proof: tuple[Line, ...]

    def __str__(self) -> str:
        lines = [f"{self.verdict.upper()}: {self.what}", *(f"    {line}" for line in self.proof[:_SHOWN])]
        if len(self.proof) > _SHOWN:
            lines.append(f"    and {len(self.proof) - _SHOWN} lines more")
        return "\n".join(lines)


def report(findings: Iterable[Finding]) -> str:
    """All of them, for people."""
    return "\n\n".join(map(str, findings))
