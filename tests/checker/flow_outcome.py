"""What an execution should have come to, given its flow and how its tasks ended.

A second, plainer reading of the rules than the scheduler's own (semantics.md, 3 and 4):
a sequence stops at its first failure; what is parallel goes on; `errors` run once all
else has failed; a task that is KILLED ends all. Nothing may have run that the flow does
not come to, and nothing be missing that it does.
"""

from collections.abc import Iterator, Mapping, Sequence

from tests.checker.events import FINAL, Ended, TaskRun
from tests.checker.flow_tree import Control, Leaf, Node, Tree, inside

_GRAVITY = {"SUCCESS": 0, "WARNING": 1, "FAILED": 2, "KILLED": 3, "": 4}  # the last: it never came to an end


def wrong_ends(tree: Tree, end: Ended, *, branch: str, kill_asked: bool, kill_obeyed: bool) -> Iterator[str]:
    """What is wrong, in words. branch: that each If takes. kill_obeyed: somebody was told that it is being killed."""
    runs: dict[str, list[TaskRun]] = {}
    for run in sorted(end.runs, key=lambda run: run.attempt):
        runs.setdefault(run.task, []).append(run)
    reading = _Reading(runs, branch, killed=end.state == "KILLED")
    state = reading.sequence(tree.tasks)
    if state == "FAILED":
        if reading.sequence(tree.errors) == "KILLED":
            state = "KILLED"
    else:
        reading.nothing_ran(tree.errors, "the tasks did not fail")
    killed = any(run.state == "KILLED" for run in end.runs) or (kill_asked and end.state == "KILLED")
    if kill_obeyed or killed:
        state = "KILLED"
    reading.wrong += [f"task {run.task} is {run.state}" for run in end.runs if run.state not in FINAL]
    known = {id for node in (*tree.tasks, *tree.errors) for id in inside(node)}
    reading.wrong += [f"task {task} ran, and is not in its flow" for task in runs if task not in known]
    yield from reading.wrong
    if end.state != state:
        yield f"it ended {end.state}, and should have ended {state or 'only when all of it had run'}"
    if end.state == "KILLED" and not kill_asked and not tree.cancels:
        yield "it ended KILLED, and nobody asked for that"


class _Reading:
    """Walks over a flow and collects what is wrong."""

    def __init__(self, runs: Mapping[str, Sequence[TaskRun]], branch: str, *, killed: bool) -> None:
        self._runs = runs
        self._branch = branch
        self._killed = killed  # then the walk may have stopped anywhere
        self.wrong: list[str] = []

    def sequence(self, nodes: Sequence[Node]) -> str:
        """What it came to; empty: not to an end."""
        worst = "SUCCESS"
        for index, node in enumerate(nodes):
            state = self._node(node)
            if state not in ("SUCCESS", "WARNING"):
                self.nothing_ran(nodes[index + 1 :], f"{node.id} stands before it and ended {state or 'not at all'}")
                return state
            worst = max(worst, state, key=_GRAVITY.__getitem__)
        return worst

    def nothing_ran(self, nodes: Sequence[Node], why: str) -> None:
        """The flow does not come to these."""
        for id in (id for node in nodes for id in inside(node)):
            if id in self._runs:
                self.wrong.append(f"task {id} ran, though {why}")

    def _node(self, node: Node) -> str:
        return self._leaf(node) if isinstance(node, Leaf) else self._control(node)

    def _leaf(self, leaf: Leaf) -> str:
        runs = self._runs.get(leaf.id, ())
        if not runs:
            return ""
        if [run.attempt for run in runs] != list(range(1, len(runs) + 1)) or len(runs) > leaf.attempts:
            self.wrong.append(f"task {leaf.id} has attempts {[run.attempt for run in runs]}")
        for run in runs[:-1]:
            if run.state != "FAILED":
                self.wrong.append(f"task {leaf.id} was tried again after attempt {run.attempt} ended {run.state}")
        last = runs[-1]
        if last.state == "FAILED" and len(runs) < leaf.attempts and not self._killed:
            self.wrong.append(f"task {leaf.id} was tried {len(runs)} times, and may be {leaf.attempts} times")
        if (last.state == "FAILED" and leaf.allow) or (last.state == "WARNING" and not leaf.allow):
            self.wrong.append(f"task {leaf.id} ended {last.state}")
        return last.state if last.state in FINAL else ""

    def _control(self, node: Control) -> str:
        if node.id not in self._runs:
            self.nothing_ran([child for branch in node.branches.values() for child in branch], f"{node.id} did not")
            return ""
        if node.kind == "parallel":
            state = max(map(self._node, node.branches["tasks"]), key=_GRAVITY.__getitem__)
        else:
            others = [child for name, branch in node.branches.items() if name != self._branch for child in branch]
            self.nothing_ran(others, f"{node.id} was to go {self._branch!r}")
            state = self.sequence(node.branches.get(self._branch, ()))
        if state == "FAILED" and node.allow:
            state = "WARNING"
        said = self._runs[node.id][-1].state
        if said != state and not self._killed:
            self.wrong.append(f"{node.id} ended {said}, and should have ended {state or 'only with all in it'}")
        return said if said in FINAL else ""
