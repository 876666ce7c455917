"""Judges executions: what their flows say is to happen, and what the lines say happened instead.

The job of each task run is judged as a job (verdicts.py): that it was run once, in its
own group, and ended as it may. Here are the words between them: that no execution is
lost or made twice, that each task waits for its predecessors and gets what they gave,
that nothing starts behind a kill, and that the whole ends as its tasks did. Of a restart, that
it took over what had ended well, as it had ended, and ran none of it again.
"""

from collections.abc import Iterator, Sequence

from tests.checker.events import FINAL, Ended, Line, Restarted, RunLine, TaskRun, confirmed
from tests.checker.findings import Finding, Verdict
from tests.checker.flow_outcome import wrong_ends
from tests.checker.flow_tree import inside
from tests.checker.history import Execution, History

TICK = 0.01  # seconds that a process may be younger than its `spawned` says


def judge_executions(history: History) -> Iterator[Finding]:
    """All that is wrong with executions, beside what is wrong with the jobs of their task runs."""
    yield from _requests(history)
    yield from _places(history)
    for execution in history.executions.values():
        for judge in (_asked_for, _lost, _ends, _recorded, _order, _kills, _outcome, _outputs, _taken):
            yield from judge(history, execution)


def _requests(history: History) -> Iterator[Finding]:
    """A request id gives one execution (P6)."""
    executions: dict[str, list[Execution]] = {}
    for execution in history.executions.values():
        restarts = {f"restart {ack.request}" for ack in execution.acks if isinstance(ack, Restarted)}
        for name in restarts or execution.requests:
            executions.setdefault(name, []).append(execution)
    for name, found in executions.items():
        if len(found) > 1:
            proof = [line for execution in found for line in _naming(execution, name)]
            ids = ", ".join(execution.id for execution in found)
            yield Finding(Verdict.DUPLICATED, f"request {name} is executions {ids}", tuple(proof))


def _naming(execution: Execution, request: str) -> list[Line]:
    lines = [ack.line for ack in execution.acks if ack.request == request.removeprefix("restart ")][:1]
    return lines + [line.line for line in execution.lines if line.request == request and line.what == "start"][:1]


def _places(history: History) -> Iterator[Finding]:
    """No more executions of a flow run at a time than it allows. One runs for certain from its first start to its
    last."""
    bound: dict[tuple[str, str], list[list[RunLine]]] = {}
    for execution in history.executions.values():
        create, tree = history.create_of(execution), history.tree_of(execution)
        starts = sorted(_starting(execution.lines), key=lambda line: line.spawned)
        if create is not None and tree is not None and tree.most is not None and starts:
            bound.setdefault((create.tenant, create.flow), []).append(starts)
    for (tenant, flow), lives in bound.items():
        saved = history.flows[tenant, flow]
        for life in lives:
            at = life[0].spawned
            running = [other[0] for other in lives if other[0].spawned <= at <= other[-1].spawned]
            if len(running) > (saved.tree.most or 0):
                what = f"{len(running)} executions of flow {flow} of {tenant} ran at {at:.3f}, {saved.tree.most} may"
                yield Finding(Verdict.TOO_MANY_EXECUTIONS, what, (saved.line, *(line.line for line in running)))
                break


def _asked_for(history: History, execution: Execution) -> Iterator[Finding]:
    """It is of one request, which somebody made, of a flow that somebody saved."""
    if len(execution.requests) > 1:
        names = sorted(execution.requests)
        proof = tuple(line for name in names for line in _naming(execution, name))
        yield Finding(Verdict.DUPLICATED, f"execution {execution.id} is requests {', '.join(names)} at once", proof)
    if history.tree_of(execution) is None:
        known = (execution.acks, execution.kills, execution.killed, execution.ends, execution.lines)
        proof = tuple(line for events in known for line in [event.line for event in events][:1])
        yield Finding(Verdict.UNEXPECTED, f"nobody asked for execution {execution.id}", proof)


def _lost(_: History, execution: Execution) -> Iterator[Finding]:
    """What was acknowledged ends (P2)."""
    ended = execution.ends or any(answer.state in FINAL for answer in execution.killed)
    if execution.acks and not ended:
        proof = (execution.acks[0].line, *(line.line for line in execution.lines[-2:]))
        yield Finding(Verdict.LOST, f"execution {execution.id} was acknowledged and nobody saw it end", proof)


def _ends(_: History, execution: Execution) -> Iterator[Finding]:
    """There is one end, and nothing of it changes (P3); nothing starts behind it."""
    for other in execution.ends[1:]:
        first = execution.ends[0]
        if (first.state, first.runs) != (other.state, other.runs):
            what = f"execution {execution.id} ended {first.state} and {other.state}, or its task runs changed"
            yield Finding(Verdict.DUPLICATED, what, (first.line, other.line))
            break
    for answer in execution.killed:
        differing = next((end for end in execution.ends if end.state != answer.state), None)
        if answer.state in FINAL and differing is not None:
            what = f"execution {execution.id} had ended {answer.state} when it was to be killed, and ended "
            yield Finding(Verdict.DUPLICATED, what + differing.state, (answer.line, differing.line))
            break
    seen = min(execution.ends, key=lambda end: end.at, default=None)
    late = [] if seen is None else _starts_after(execution, seen.at)
    if seen is not None and late:
        what = f"task {late[0].task} of execution {execution.id} was started after that had ended"
        yield Finding(Verdict.DUPLICATED, what, (seen.line, *(line.line for line in late)))


def _recorded(_: History, execution: Execution) -> Iterator[Finding]:
    """What ran is among its task runs, under the job that ran it. Two jobs of one task run are verdicts.py's."""
    if not execution.ends:
        return
    end = execution.ends[0]
    known = {(run.task, run.attempt) for run in end.runs}
    for (task, attempt), lines in execution.lives().items():
        if (task, attempt) not in known:
            what = f"attempt {attempt} of task {task} ran, and is no task run of execution {execution.id}"
            yield Finding(Verdict.UNEXPECTED, what, (lines[0].line, end.line))


def _order(history: History, execution: Execution) -> Iterator[Finding]:
    """A task starts when all that stands before it is over, and an attempt when the one before it is."""
    tree = history.tree_of(execution)
    if tree is None:
        return
    lives = execution.lives()
    for (task, attempt), lines in lives.items():
        first = min(lines, key=lambda line: line.spawned)
        for (other, earlier), others in lives.items():
            precedes = other in tree.before.get(task, ()) or (other == task and earlier < attempt)
            if precedes and others[-1].at > first.spawned + TICK:
                what = f"attempt {attempt} of task {task} of execution {execution.id} started "
                what += f"{others[-1].at - first.spawned:.3f} s before attempt {earlier} of {other} was over"
                yield Finding(Verdict.TOO_EARLY, what, (first.line, others[-1].line))


def _kills(_: History, execution: Execution) -> Iterator[Finding]:
    """An acknowledged kill is followed by no start, unless a worker is cut off (P9)."""
    for answer in execution.killed:
        late = _starts_after(execution, answer.at)
        # Who was cut off may still start, once, what it was given before the kill.
        if late and (confirmed(answer) or len(late) > len({line.job for line in late})):
            what = f"task {late[-1].task} of execution {execution.id} started {late[-1].spawned - answer.at:.3f} s "
            what += f"after its kill was acknowledged as {answer.state}"
            yield Finding(Verdict.STARTED_AFTER_KILL, what, (answer.line, *(line.line for line in late)))
            break


def _starts_after(execution: Execution, at: float) -> list[RunLine]:
    return [line for line in execution.lines if line.what == "start" and line.spawned > at]


def _outcome(history: History, execution: Execution) -> Iterator[Finding]:
    """It ends as its tasks did, and they as their jobs; nothing ran that its flow does not come to."""
    create, tree = history.create_of(execution), history.tree_of(execution)
    if create is None or tree is None or not execution.ends:
        return
    end = execution.ends[0]
    proof = (create.line, *(answer.line for answer in execution.killed), end.line)
    obeyed = any(answer.state not in FINAL for answer in execution.killed)
    for what in wrong_ends(tree, end, branch=create.branch, kill_asked=bool(execution.kills), kill_obeyed=obeyed):
        yield Finding(Verdict.WRONG_END, f"execution {execution.id}: {what}", proof)
    for what, line in _against_jobs(history, end):
        yield Finding(Verdict.WRONG_END, f"execution {execution.id}: {what}", (end.line, line))


def _against_jobs(history: History, end: Ended) -> Iterator[tuple[str, Line]]:
    # A task's failure may be allowed, and an attempt that failed is KILLED where a kill came before the next one.
    may = {"FAILED": {"FAILED", "WARNING", "KILLED"}}
    for run in end.runs:
        job = history.jobs.get(run.job)
        for final in job.finals[:1] if job is not None else ():
            if run.state not in may.get(final.state, {final.state}):
                yield f"task {run.task} ended {run.state}, and its job {run.job} {final.state}", final.line


def _outputs(history: History, execution: Execution) -> Iterator[Finding]:
    """A task gets the outputs of the run whose result was recorded."""
    if not execution.ends:
        return
    recorded = {}
    for run in execution.ends[0].runs:  # in the order of attempts
        job = history.jobs.get(run.job)
        for final in job.finals[:1] if job is not None else ():
            recorded[run.task] = final
    seen: set[str] = set()
    for line in _starting(execution.lines):
        for task, fence in line.got.items():
            told = recorded.get(task)
            if told is not None and fence != str(told.fence) and f"{line.job}/{task}" not in seen:
                seen.add(f"{line.job}/{task}")
                what = f"task {line.task} of execution {execution.id} got the output of {task} under fence {fence!r}, "
                yield Finding(Verdict.WRONG_OUTPUT, what + f"not {told.fence}", (line.line, told.line))


def _taken(history: History, execution: Execution) -> Iterator[Finding]:
    """What a restart took over is as it was, and did not run again; and it took over all that had ended well."""
    old = history.executions.get(execution.restart_of)
    if old is None or not old.ends or not execution.ends:
        return
    was, end = old.ends[0], execution.ends[0]
    tree = history.tree_of(execution)
    before = {(run.task, run.attempt): run for run in was.runs}
    for run in end.runs:
        here = execution.lives().get((run.task, run.attempt), [])
        known = before.get((run.task, run.attempt))
        if run.taken and here:
            what = f"task {run.task} was taken over by execution {execution.id}, and ran in it"
            yield Finding(Verdict.DUPLICATED, what, (end.line, here[0].line))
        if run.taken and (known is None or _as_it_ended(known, old.id) != _as_it_ended(run, run.taken)):
            what = f"task {run.task} of execution {execution.id} is not what it was in {old.id}"
            yield Finding(Verdict.WRONG_END, what, (was.line, end.line))
    errors = set() if tree is None else {id for node in tree.errors for id in inside(node)}
    well = {run.task for run in was.runs if run.state in ("SUCCESS", "WARNING") and run.task not in errors}
    again = {run.task for run in end.runs if not run.taken and run.task in well}
    for task in sorted(again | (well - {run.task for run in end.runs})):
        what = f"task {task} had ended well in {old.id}, and was not taken over by its restart {execution.id}"
        yield Finding(Verdict.DUPLICATED, what, (was.line, end.line))


def _as_it_ended(run: TaskRun, execution: str) -> tuple[str, str, str]:
    return run.state, run.job, run.taken or execution


def _starting(lines: Sequence[RunLine]) -> list[RunLine]:
    return [line for line in lines if line.what == "start"]
