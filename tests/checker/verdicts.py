"""Judges a history: what was promised, and what the lines say happened instead.

`check` is the whole of it; what is said of executions is in execution_verdicts.py, and of
triggers in trigger_verdicts.py. Each
function below it looks for one kind of wrong, and knows what is legal beside it: a run
that was lost and came again under a higher fence, a submit that was repeated under its
request id, a run that finished while its worker was cut off and whose result came too
late, a kill of what had ended.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

from tests.checker.events import FINAL, Event, Final, Killed, Line, RunLine, confirmed
from tests.checker.execution_verdicts import judge_executions
from tests.checker.findings import Finding, Verdict
from tests.checker.history import History, Job, Run
from tests.checker.order import out_of_order
from tests.checker.trigger_verdicts import judge_triggers

# After the loss of an assignment, before its place in the queue counts; see order.py.
MARGIN = 30.0


def check(events: Sequence[Event], *, margin: float = MARGIN) -> list[Finding]:
    """All that is wrong, in the order of the verdicts. margin: seconds, longer than any pause of a scheduler."""
    history = History.of(events)
    found = list(out_of_order(history, margin))
    for look in (_requests, _ids, _too_many):
        found += look(history)
    for job in history.jobs.values():
        for judge in (_lost, _ends, _runs, _overlaps, _fences, _kills, _recorded, _places):
            found += judge(history, job)
    found += judge_executions(history)
    found += judge_triggers(history)
    order = list(Verdict)
    return sorted(found, key=lambda finding: order.index(finding.verdict))


def _requests(history: History) -> Iterator[Finding]:
    """A request id gives one job (P6)."""
    jobs: dict[str, list[Job]] = {}
    for job in history.jobs.values():
        for name in job.requests:
            jobs.setdefault(name, []).append(job)
    for name, found in jobs.items():
        if len(found) > 1:
            proof = [line for job in found for line in _naming(job, name)]
            yield Finding(
                Verdict.DUPLICATED, f"request {name} is jobs {', '.join(job.id for job in found)}", tuple(proof)
            )


def _ids(history: History) -> Iterator[Finding]:
    """A job is of one request, which somebody made."""
    for job in history.jobs.values():
        if len(job.requests) > 1:
            proof = tuple(line for name in sorted(job.requests) for line in _naming(job, name))
            yield Finding(
                Verdict.DUPLICATED, f"job {job.id} is requests {', '.join(sorted(job.requests))} at once", proof
            )
        if history.request_of(job) is None:
            proof = tuple(
                line
                for lines in (job.acks, job.kills, job.killed, job.finals, job.lines)
                for line in [event.line for event in lines][:1]
            )
            yield Finding(Verdict.UNEXPECTED, f"nobody asked for job {job.id}", proof)


def _too_many(history: History) -> Iterator[Finding]:
    """A tenant's jobs that run at once are no more than its quota in their group allows (P13). A job is with a worker
    from before its program starts until after that has ended."""
    bound: dict[tuple[str, str], list[Run]] = {}
    for job in history.jobs.values():
        for run in job.runs.values():
            if (place := (run.first.group, run.first.tenant)) in history.quotas:
                bound.setdefault(place, []).append(run)
    for place, runs in bound.items():
        quota = history.quotas[place]
        alive: list[Run] = []
        for run in sorted(runs, key=lambda run: run.first.spawned):
            alive = [other for other in alive if other.last is not None and other.last.at > run.first.spawned]
            alive.append(run)
            if len(alive) > quota.max_running:
                yield Finding(
                    Verdict.TOO_MANY,
                    f"{len(alive)} jobs of tenant {quota.tenant!r} ran in group {quota.group!r} at "
                    f"{run.first.spawned:.3f}, and its quota allows {quota.max_running}",
                    (quota.line, *(other.first.line for other in alive)),
                )
                break


def _naming(job: Job, request: str) -> list[Line]:
    lines = [ack.line for ack in job.acks if ack.request == request][:1]
    return lines + [line.line for line in job.lines if line.wish == request and line.what == "start"][:1]


def _lost(_: History, job: Job) -> Iterator[Finding]:
    """What was acknowledged ends (P2), and what ended well was run to its end."""
    if job.acks and not _ended(job):
        proof = (*(ack.line for ack in job.acks[:1]), *(line.line for line in job.lines[-2:]))
        yield Finding(Verdict.LOST, f"job {job.id} was acknowledged and nobody saw it end", proof)
    for final in job.finals[:1]:
        if final.state != "SUCCESS":
            continue
        run = job.runs.get(final.fence)
        if run is None or not run.ends:
            proof = (final.line, *(line.line for line in job.lines if line.what != "alive"))
            yield Finding(
                Verdict.LOST,
                f"job {job.id} ended SUCCESS under fence {final.fence}, which was never run to its end",
                proof,
            )


def _ends(_: History, job: Job) -> Iterator[Finding]:
    """There is one end, and nothing of it changes (P3); nothing starts behind it."""
    for other in job.finals[1:]:
        first = job.finals[0]
        if (first.state, first.fence) != (other.state, other.fence):
            yield Finding(
                Verdict.DUPLICATED,
                f"job {job.id} ended {first.state} under fence {first.fence} and {other.state} under {other.fence}",
                (first.line, other.line),
            )
            break
    for answer in job.killed:
        differing = next((final for final in job.finals if final.state != answer.state), None)
        if answer.state in FINAL and differing is not None:
            yield Finding(
                Verdict.DUPLICATED,
                f"job {job.id} had ended {answer.state} when it was to be killed, and ended {differing.state}",
                (answer.line, differing.line),
            )
            break
    seen = min(job.finals, key=lambda final: final.at, default=None)
    late = [run.first for run in job.runs.values() if seen is not None and run.first.spawned > seen.at]
    if seen is not None and late:
        yield Finding(
            Verdict.DUPLICATED,
            f"job {job.id} was started again under fence {late[0].fence} after it had ended",
            (seen.line, *(line.line for line in late)),
        )


def _runs(_: History, job: Job) -> Iterator[Finding]:
    """Under one fence it is run once."""
    for run in job.runs.values():
        if len(run.starts) > 1:
            proof = tuple(line.line for line in (*run.starts, *run.ends))
            yield Finding(
                Verdict.DUPLICATED, f"job {job.id} started {len(run.starts)} times under fence {run.fence}", proof
            )


def _overlaps(_: History, job: Job) -> Iterator[Finding]:
    """A run is over at its last sign of life, and only then may another start (P1)."""
    for earlier, later in combinations(sorted(job.runs.values(), key=lambda run: run.first.at), 2):
        if earlier.last is not None and later.first.at < earlier.last.at:
            yield Finding(
                Verdict.OVERLAPPING,
                f"job {job.id} started under fence {later.fence} while it ran under fence {earlier.fence}, "
                f"for {earlier.last.at - later.first.at:.3f} s",
                (earlier.first.line, later.first.line, earlier.last.line),
            )


def _fences(_: History, job: Job) -> Iterator[Finding]:
    """Fences grow from start to start (P4)."""
    runs = sorted(job.runs.values(), key=lambda run: run.first.at)
    for earlier, later in pairwise(runs):
        if later.fence < earlier.fence:
            yield Finding(
                Verdict.FENCE_DID_NOT_GROW,
                f"job {job.id} started under fence {earlier.fence}, and then under {later.fence}",
                (earlier.first.line, later.first.line),
            )


def _kills(history: History, job: Job) -> Iterator[Finding]:
    """An acknowledged kill is followed by no start, unless the worker is cut off, and by no end but KILLED (P9)."""
    for answer in job.killed:
        after = [run for run in job.runs.values() if run.first.spawned > answer.at]
        # Who was cut off may still start what it was given before the kill; nothing is assigned anew.
        if after and (confirmed(answer) or len(after) > 1):
            yield Finding(
                Verdict.STARTED_AFTER_KILL,
                f"job {job.id} started under fence {after[-1].fence}, {after[-1].first.spawned - answer.at:.3f} s "
                f"after its kill was acknowledged as {answer.state}",
                (answer.line, *(run.first.line for run in after)),
            )
            break
    for answer in job.killed:
        other = next((final for final in job.finals if final.state != "KILLED"), None)
        if answer.state not in FINAL and other is not None:
            yield Finding(
                Verdict.UNEXPECTED,
                f"job {job.id} ended {other.state} though its kill was acknowledged before",
                (answer.line, other.line),
            )
            break
    request = history.request_of(job)
    for final in job.finals[:1]:
        may = (request.submits[0].expects if request is not None else FINAL) | ({"KILLED"} if job.kills else set())
        if final.state not in may:
            proof = (final.line, *(line.line for line in job.lines if line.what != "alive"))
            yield Finding(
                Verdict.UNEXPECTED, f"job {job.id} ended {final.state}, not {' or '.join(sorted(may))}", proof
            )


def _recorded(_: History, job: Job) -> Iterator[Finding]:
    """A run is that of the end, or of an assignment that its job is known to have lost."""
    final = next((final for final in job.finals if final.assignments or final.fence), None)
    if final is None:
        return
    known = {assignment.fence for assignment in final.assignments} | {final.fence}
    for run in job.runs.values():
        if run.fence not in known:
            yield Finding(
                Verdict.UNEXPECTED,
                f"job {job.id} ran under fence {run.fence}, and is known to have had {sorted(known)} alone",
                (run.first.line, final.line),
            )


def _places(history: History, job: Job) -> Iterator[Finding]:
    """It runs in its own group, for its own tenant, on a worker that admits that (P10)."""
    request = history.request_of(job)
    if request is None:
        return
    wish = request.submits[0]
    for run in job.runs.values():
        line = run.first
        worker = history.workers.get(line.worker)
        proof = (wish.line, line.line) if worker is None else (wish.line, worker.line, line.line)
        if worker is None:
            yield Finding(Verdict.UNEXPECTED, f"job {job.id} ran on {line.worker}, which nobody set up", proof)
        if line.group != wish.group or (worker is not None and worker.group != wish.group):
            yield Finding(
                Verdict.WRONG_GROUP,
                f"job {job.id} of group {wish.group!r} ran on {_at(line)}",
                proof,
            )
        if line.tenant != wish.tenant:
            yield Finding(
                Verdict.WRONG_TENANT, f"job {job.id} of tenant {wish.tenant!r} ran for {line.tenant!r}", proof
            )
        elif worker is not None and worker.tenants is not None and wish.tenant not in worker.tenants:
            yield Finding(
                Verdict.WRONG_TENANT,
                f"job {job.id} of tenant {wish.tenant!r} ran on {_at(line)}, which admits {sorted(worker.tenants)}",
                proof,
            )


def _at(line: RunLine) -> str:
    return f"{line.worker} of group {line.group!r}"


def _ended(job: Job) -> Sequence[Final | Killed]:
    return [*job.finals, *(answer for answer in job.killed if answer.state in FINAL)]
