"""Stories of executions, as tables that people can read: fallback.txt and executions.txt.

A story is a headline, a flow, and a table. Each line of the table is something that happens and, after the step that
follows it, the state of every task and of the execution. A task that was tried several times shows all its attempts.
A task inside of loops shows its rounds, `0:SUCCESS 1:RUNNING`, and its run in one of them is called `TASK[1]`,
`TASK[1/0]`. What may happen:

    create                       the execution is created
    TASK starts                  a worker takes the task's job and starts it
    TASK ends STATE [: why]      its result comes
    TASK is lost                 its worker is gone; the job is back in the queue, or KILLED if it was to be killed
    TASK's job is killed         somebody kills the job and not the execution
    GROUP gets a worker          the group is available from now on
    GROUP loses its workers      it is not; what waits there is swept as its fallback says
    kill                         somebody kills the execution
    DURATION passes              e.g. 30s
    nothing happens              another step, which changes nothing

Before the table, `no worker: GROUP …` names groups without one, and `false: TASK …` the Ifs whose condition is false.
A Switch takes the case that its value is written like. Conditions and values that say `broken` can't be rendered.
Behind it, `message:` is what the execution says of itself.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from farhand.kernel.durations import parse_duration
from farhand.kernel.flow import Flow, ForEach, If, Switch, Task
from farhand.kernel.names import group_label
from farhand.kernel.resolution import Fallback
from farhand.scheduler.core.job import JobState
from farhand.scheduler.core.task_run import JobView, Refused, RunId
from tests.fixtures.execution_play import Play, a_flow, as_written

HERE = Path(__file__).parent
BROKEN = Refused("EXPRESSION_FAILED", "`inputs.x` is not defined; inputs has nothing")


@dataclass
class Story:
    """One of a file."""

    title: str
    flow: Flow
    away: set[str] = field(default_factory=set)  # groups without a worker
    false: set[str] = field(default_factory=set)
    table: list[list[str]] = field(default_factory=list)  # with its header
    message: str = ""


def stories(name: str) -> Iterator[Story]:
    """All of a file."""
    for text in re.split(r"^## ", (HERE / name).read_text(), flags=re.MULTILINE)[1:]:
        title, _, body = text.partition("\n")
        story = Story(title.strip(), a_flow("".join(re.findall(r"^    .*\n", body, flags=re.MULTILINE))))
        for line in body.splitlines():
            if line.startswith("|-"):
                continue
            if line.startswith("|"):
                story.table.append([cell.strip() for cell in line.strip("|").split("|")])
            elif line.startswith("no worker:"):
                story.away = set(line.removeprefix("no worker:").split())
            elif line.startswith("false:"):
                story.false = set(line.removeprefix("false:").split())
            elif line.startswith("message:"):
                story.message = line.removeprefix("message:").strip()
            else:
                assert not line or line.startswith("    "), f"{title}: this line says nothing: {line}"
        yield story


ALL = [story for name in ("fallback.txt", "executions.txt") for story in stories(name)]


class Stage:
    """Where a story is played."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.play = Play(story.flow, self.queue, self.choose, self.count)
        self.waiting_in: dict[RunId, tuple[str, Fallback]] = {}

    def queue(self, id: RunId, task: Task, now: datetime) -> JobView | Refused | datetime:
        group = task.worker_group
        key = group_label((group.key if group else None) or "")
        if key == "unknown":
            return Refused("UNKNOWN_WORKER_GROUP", "there is no worker group 'unknown'")
        self.waiting_in[id] = key, (group.fallback if group else None) or Fallback.WAIT
        return self.fallen_back(id) if key in self.story.away else JobView(waiting_since=now)

    def fallen_back(self, id: RunId) -> JobView:
        key, fallback = self.waiting_in[id]
        states = {Fallback.WAIT: JobState.CREATED, Fallback.FAIL: JobState.FAILED, Fallback.CANCEL: JobState.KILLED}
        if fallback is Fallback.WAIT:
            return JobView(waiting_since=self.play.now)
        return JobView(states[fallback], "GROUP_NOT_AVAILABLE", f"no worker of group '{key}' is available")

    def choose(self, id: RunId, task: If | Switch) -> str | Refused:
        if "broken" in (task.condition if isinstance(task, If) else task.value):
            return BROKEN
        return "else" if task.id in self.story.false else as_written(id, task)

    def count(self, id: RunId, task: ForEach) -> int | Refused:
        return BROKEN if isinstance(task.values, str) else len(task.values)

    def happen(self, event: str) -> None:
        """Do as a line says."""
        verbs: list[tuple[str, Callable[..., None]]] = [
            (r"create|nothing happens", lambda: None),
            (r"kill", self.play.kill),
            (r"(\S+) starts", lambda task: self.play.start(self.newest(task))),
            (r"(\S+) ends (\w+)(?:: (.*))?", self.end),
            (r"(\S+) is lost", lambda task: self.play.lose(self.newest(task))),
            (r"(\S+)'s job is killed", self.kill_job),
            (r"(\S+) gets a worker", lambda group: self.story.away.discard(group)),
            (r"(\S+) loses its workers", self.sweep),
            (r"(\S+) passes", lambda text: self.play.advance(timedelta(seconds=parse_duration(text)))),
        ]
        for pattern, do in verbs:
            if match := re.fullmatch(pattern, event):
                return do(*match.groups())
        raise AssertionError(f"no story knows what this is: {event}")

    def newest(self, task: str) -> RunId:
        name, _, round = task.removesuffix("]").partition("[")
        run = self.play.newest(name, round)
        assert run is not None, f"{task} has not begun"
        return run.id

    def end(self, task: str, state: str, why: str | None) -> None:
        self.play.end(self.newest(task), JobState(state), "" if state == "SUCCESS" else "EXIT_CODE", why or "")

    def kill_job(self, task: str) -> None:
        id = self.newest(task)
        self.play.runs[id] = replace(self.play.runs[id], job=JobView(JobState.KILLED, "KILLED", "the job was killed"))

    def sweep(self, group: str) -> None:
        self.story.away.add(group)
        for id in self.play.live():
            run = self.play.runs[id]
            if self.waiting_in[id][0] == group and run.job and run.job.state is JobState.CREATED:
                self.play.runs[id] = replace(run, job=self.fallen_back(id))

    def row(self, event: str, tasks: list[str]) -> list[str]:
        """The line of the table as it is now."""
        return [event, *(self.cell(task) for task in tasks), self.play.execution.state.value]

    def cell(self, task: str) -> str:
        rounds: dict[str, list[str]] = {}
        for id, run in sorted(self.play.all_runs().items(), key=lambda item: (_numbers(item[0]), item[0].attempt)):
            if id.task_id == task:
                rounds.setdefault(id.iteration, []).append(self.play.state_of(run))
        if set(rounds) <= {""}:
            return ", ".join(rounds.get("", []))
        return " ".join(f"{iteration}:{','.join(states)}" for iteration, states in rounds.items())


def _numbers(id: RunId) -> list[int]:
    return [int(number) for number in id.iteration.split("/") if number]


@pytest.mark.parametrize("story", ALL, ids=[story.title for story in ALL])
def test_an_execution_goes_as_its_story_says(story: Story) -> None:
    header, *rows = story.table
    tasks = header[1:-1]
    stage = Stage(story)
    told = [header]
    for row in rows:
        stage.happen(row[0])
        effects = stage.play.step()
        told.append(stage.row(row[0], tasks))
        assert not (effects and row[0] == "nothing happens"), effects
        assert stage.play.at_rest()
    assert shown(told) == shown(story.table)
    assert stage.play.execution.message == story.message
    assert {run.id.task_id for run in stage.play.all_runs().values()} <= set(tasks), "a task is not in the table"


def shown(table: list[list[str]]) -> str:
    """The table, aligned."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return "\n".join("| " + " | ".join(f"{c:{w}}" for c, w in zip(row, widths, strict=True)) + " |" for row in table)
