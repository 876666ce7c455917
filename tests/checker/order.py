"""First in, first out, judged from outside (P5).

A fence is drawn inside of the transaction that assigns, under the group's lock, so
within a group fences follow the order in which assignments committed. Jobs that one
transaction assigned together have the same time of assignment, to the microsecond, and
no order among them.

A waits from its acknowledgement on, and nobody may be assigned B, whose submit began
later, before A is, if the worker that got B might have run A. From its first assignment
on A no longer waits until that is lost; then it waits again, in its old place. When a
loss committed is known only roughly (the database notes when the transaction began), so
a margin is left after it, longer than anybody stood still.

Where a quota binds A's tenant it may be passed by jobs of others while its tenant runs all
that it may, which nobody outside can tell; by another of its own tenant it may not.

The job of a task run comes into the queue at a time that no client knows, but surely
after the creation of its execution began. So it may be B, and never A.
"""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from tests.checker.events import Assignment, Line
from tests.checker.findings import Finding, Verdict
from tests.checker.history import History, Job, Request


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job in a group's order."""

    job: Job
    request: Request
    assignments: tuple[Assignment, ...]  # by fence

    @property
    def acked(self) -> float:
        return math.inf if self.request.acked is None else self.request.acked

    @property
    def first(self) -> Assignment:
        return self.assignments[0]

    def proof(self) -> Iterator[Line]:
        yield min(self.request.submits, key=lambda submit: submit.at).line
        if self.request.acks:
            yield min(self.request.acks, key=lambda ack: ack.at).line
        yield from (run.first.line for run in self.job.runs.values())
        yield self.job.finals[0].line


def out_of_order(history: History, margin: float) -> Iterator[Finding]:
    """margin: seconds after the loss of an assignment before it counts."""
    groups: dict[str, list[Waiting]] = defaultdict(list)
    for job in history.jobs.values():
        request = history.request_of(job)
        # Only who saw its end was told of all its assignments: what never started stands nowhere else.
        if request is not None and job.finals:
            known = sorted(job.assignments().values(), key=lambda assignment: assignment.fence)
            groups[request.submits[0].group].append(Waiting(job, request, tuple(known)))
    for jobs in groups.values():
        jobs.sort(key=lambda waiting: waiting.acked)
        yield from _overtaken_before_the_first(history, jobs)
        yield from _overtaken_by_the_killed(history, jobs)
        yield from _overtaken_after_a_loss(history, jobs, round(margin * 1_000_000))


def _overtaken_before_the_first(history: History, jobs: list[Waiting]) -> Iterator[Finding]:
    """B's first fence is below A's first."""
    for tenant in {job.request.submits[0].tenant for job in jobs}:
        before = [a for a in jobs if a.assignments and a.request.submits[0].tenant == tenant]
        acked = [a.acked for a in before]
        latest: list[Waiting] = []  # of those up to here, the one whose first fence is highest
        for a in before:
            latest.append(a if not latest or a.first.fence > latest[-1].first.fence else latest[-1])
        for b in jobs:
            if not b.assignments or not _admits(history, b.first.worker, tenant) or _may_pass(history, b, tenant):
                continue
            index = bisect_left(acked, b.request.began) - 1
            if index >= 0 and latest[index].first.fence > b.first.fence and not _together(latest[index], b):
                yield _finding(latest[index], b, b.first)


def _overtaken_by_the_killed(history: History, jobs: list[Waiting]) -> Iterator[Finding]:
    """A was killed in the queue; B started earlier than anybody asked for that."""
    for a in jobs:
        # Only an end without any assignment shows that A waited all the time.
        if a.assignments or not a.job.kills or not any(final.fence == 0 for final in a.job.finals):
            continue
        asked = min(kill.at for kill in a.job.kills)
        for b in jobs:
            if b.request.began <= a.acked or not b.job.runs or _may_pass(history, b, a.request.submits[0].tenant):
                continue
            run = b.job.runs[min(b.job.runs)]
            if run.first.at < asked and _admits(history, run.first.worker, a.request.submits[0].tenant):
                yield _finding(a, b, Assignment(run.fence, run.first.worker))


def _overtaken_after_a_loss(history: History, jobs: list[Waiting], margin: int) -> Iterator[Finding]:
    """B was assigned long after A's assignment was lost, and before A's next."""
    assigned = sorted(
        ((each.assigned, each, b) for b in jobs for each in b.assignments if each.assigned is not None),
        key=lambda entry: (entry[0], entry[1].fence),
    )
    times = [entry[0] for entry in assigned]
    for a in jobs:
        for lost, following in pairwise(a.assignments):
            if lost.lost is None or following.assigned is None:
                continue
            for _, each, b in assigned[bisect_left(times, lost.lost + margin) :]:
                if each.fence >= following.fence or each.assigned == following.assigned:
                    break
                if _may_pass(history, b, a.request.submits[0].tenant):
                    continue
                if b.request.began > a.acked and _admits(history, each.worker, a.request.submits[0].tenant):
                    yield _finding(a, b, each)
                    break


def _admits(history: History, worker: str, tenant: str) -> bool:
    """Whether the worker may run jobs of the tenant; nothing can be proven with a worker that nobody knows."""
    known = history.workers.get(worker)
    return known is not None and (known.tenants is None or tenant in known.tenants)


def _may_pass(history: History, b: Waiting, tenant: str) -> bool:
    """Whether B may be assigned before an older job of this tenant, which a quota may hold back."""
    submit = b.request.submits[0]
    return submit.tenant != tenant and (submit.group, tenant) in history.quotas


def _together(a: Waiting, b: Waiting) -> bool:
    return a.first.assigned is not None and a.first.assigned == b.first.assigned


def _finding(a: Waiting, b: Waiting, overtaker: Assignment) -> Finding:
    fences = ", ".join(str(assignment.fence) for assignment in a.assignments) or "none"
    return Finding(
        Verdict.OUT_OF_ORDER,
        f"job {b.job.id}, whose submit began at {b.request.began:.3f}, was assigned to {overtaker.worker} under fence "
        f"{overtaker.fence}, before job {a.job.id} (fences: {fences}), acknowledged at {a.acked:.3f}, which waited",
        (*a.proof(), *b.proof()),
    )
