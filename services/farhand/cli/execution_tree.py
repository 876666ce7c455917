"""The tree of an execution's task runs, with the rounds of its loops: some of them, where there are many."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farhand.cli.fields import enum_name

if TYPE_CHECKING:
    from farhand.api.scheduler.v1.execution_pb2 import Execution, TaskRun

MOST_ROUNDS = 5  # of a loop that are shown

RUN_ENDED = ("SUCCESS", "WARNING", "FAILED", "KILLED", "SKIPPED")
_FIRST = ("FAILED", "KILLED", "", "WARNING", "SUCCESS")  # which rounds are shown rather than others; "": it runs


@dataclass(frozen=True)
class Branch:
    """A line of the tree; `depth` counts the flow control that it stands in."""

    depth: int
    run: "TaskRun"
    rounds: str = ""  # of a loop: how many there are, and how they went
    tenths: int = 0  # of a loop with many rounds: how many tenths of them have ended
    hidden: int = 0  # not the run's own line, but one for so many rounds of it that are not shown


def run_state(state: int) -> str:
    """CREATED, RUNNING, … of a task run."""
    from farhand.api.scheduler.v1 import execution_pb2

    return enum_name(execution_pb2.TaskRunState, state, "TASK_RUN_STATE_")


def run_name(task_id: str, iteration: str, attempt: int = 1) -> str:
    """What a task run is called: train, in a loop train[3], its second attempt train[3]#2."""
    return task_id + (f"[{iteration}]" if iteration else "") + (f"#{attempt}" if attempt > 1 else "")


def tree(execution: "Execution") -> list[Branch]:
    """The newest attempt of each task, children behind their parent, in the order in which they began; in a loop
    round after round. Of many rounds those are shown that failed, then those that run."""
    newest = _newest(execution.task_runs)
    children = _children(newest.values())
    lines: list[Branch] = []

    def add(runs: Sequence["TaskRun"], depth: int) -> None:
        for run in runs:
            inside = children.pop((run.task_id, run.iteration), [])
            if not run.HasField("rounds"):
                lines.append(Branch(depth, run))
                add(inside, depth + 1)
                continue
            rounds = _rounds(inside)
            shown = sorted(rounds, key=lambda number: (_FIRST.index(rounds[number]), -number))[:MOST_ROUNDS]
            ended = sum(1 for state in rounds.values() if state)
            tenths = 10 * ended // run.rounds if run.rounds > MOST_ROUNDS else 0
            lines.append(Branch(depth, run, _told(run, rounds), tenths))
            add(sorted((each for each in inside if _round(each) in shown), key=_round), depth + 1)
            if hidden := len(rounds) - len(shown):
                lines.append(Branch(depth + 1, run, hidden=hidden))

    add(children.pop(("", ""), []), 0)
    for parent, orphans in list(children.items()):
        if parent not in newest:  # not known here, which no one should see
            lines += [Branch(0, run) for run in orphans]
    return lines


def crowded(execution: "Execution") -> frozenset[str]:
    """The ids of the task runs that stand in loops with more rounds than are shown."""
    newest = _newest(execution.task_runs)
    loops = {run.task_id for run in newest.values() if run.HasField("rounds")}
    many = {key for key, run in newest.items() if run.rounds > MOST_ROUNDS}
    found: set[str] = set()
    for run in execution.task_runs if many else ():
        parent, iteration = run.parent_task_id, run.iteration
        while parent:
            iteration = iteration.rpartition("/")[0] if parent in loops else iteration
            if (parent, iteration) in many:
                found.add(run.id)
                break
            above = newest.get((parent, iteration))
            parent = above.parent_task_id if above is not None else ""
    return frozenset(found)


def _newest(runs: Iterable["TaskRun"]) -> dict[tuple[str, str], "TaskRun"]:
    newest: dict[tuple[str, str], TaskRun] = {}
    for run in runs:
        key = (run.task_id, run.iteration)
        if key not in newest or newest[key].attempt < run.attempt:
            newest[key] = run
    return newest


def _children(runs: Iterable["TaskRun"]) -> dict[tuple[str, str], list["TaskRun"]]:
    """By the task and iteration of the flow control that they stand in."""
    known = list(runs)
    loops = {run.task_id for run in known if run.HasField("rounds")}
    children: dict[tuple[str, str], list[TaskRun]] = {}
    for run in known:
        outside = run.iteration.rpartition("/")[0] if run.parent_task_id in loops else run.iteration
        children.setdefault((run.parent_task_id, outside if run.parent_task_id else ""), []).append(run)
    return children


def _round(run: "TaskRun") -> int:
    """The number of the innermost round that it is in."""
    return int(run.iteration.rpartition("/")[2])


def _rounds(inside: Iterable["TaskRun"]) -> dict[int, str]:
    """What each round that has begun came to; empty: it runs."""
    states: dict[int, set[str]] = {}
    for run in inside:
        states.setdefault(_round(run), set()).add(run_state(run.state))
    return {
        number: next((bad for bad in ("FAILED", "KILLED", "WARNING") if bad in found), "SUCCESS")
        if found <= set(RUN_ENDED)
        else ""
        for number, found in states.items()
    }


def _told(run: "TaskRun", rounds: dict[int, str]) -> str:
    ended = [state for state in rounds.values() if state]
    number = f"{len(ended)} of {run.rounds}" if len(ended) < run.rounds else str(run.rounds)
    bad = [f"{ended.count(state)} {state.lower()}" for state in ("FAILED", "KILLED", "WARNING") if state in ended]
    return ", ".join([f"{number} round{'' if run.rounds == 1 else 's'}", *bad])
