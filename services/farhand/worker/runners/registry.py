"""Which task runners this worker has: Farhand's own, and those of other packages.

Another package adds a runner by an entry point in the group `farhand.task_runners`,
whose name is the runner's type and whose object is a class (see client.Client):

    [project.entry-points."farhand.task_runners"]
    "org.example.Ssh" = "example.ssh:Ssh"

Its code is never imported here, only in the client's process (host.py); a package
that can't be loaded fails its own jobs and nothing else.
"""

import logging
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

from farhand.kernel.errors import Violation
from farhand.kernel.kinds import kind
from farhand.kernel.names import check_task_type, near_matches, shown
from farhand.worker.runners import PROCESS, TaskRunner
from farhand.worker.runners.hosted import HostedRunner
from farhand.worker.runners.process import ProcessRunner

log = logging.getLogger(__name__)

ENTRY_POINT_GROUP = "farhand.task_runners"


class TaskRunners:
    """The runners of one worker. `foreign` are the types that other packages brought, sorted."""

    def __init__(self, process: ProcessRunner, others: Iterable[TaskRunner] = (), foreign: Iterable[str] = ()) -> None:
        self.process = process
        self.foreign = sorted(foreign)
        self._runners: Mapping[str, TaskRunner] = {each.type: each for each in (process, *others)}

    def chosen(self, task_runner: Mapping[str, Any] | None) -> TaskRunner:
        """The runner that a checked `taskRunner` names."""
        return self._runners[PROCESS if task_runner is None else task_runner["type"]]

    def violations(self, task_runner: Any, image: str) -> list[Violation]:
        """What is wrong with a task's `taskRunner`, and with its `containerImage` for that runner."""
        if task_runner is None:
            return []
        if not isinstance(task_runner, dict):
            return [Violation("taskRunner", f"must be a map with a type, not {kind(task_runner)}")]
        name = task_runner.get("type")
        if not isinstance(name, str):
            return [Violation("taskRunner.type", "is required, a text")]
        if name not in self._runners:
            near = near_matches(name, self._runners)
            hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(sorted(self._runners))}"
            return [Violation("taskRunner.type", f"this worker has no task runner {shown(name, 200)}; {hint}")]
        return [
            Violation(path[1:] if path.startswith("/") else f"taskRunner.{path}", each.description)
            for each in self._runners[name].validate(task_runner, image)
            for path in [each.path]
        ]


def load(
    environment: Mapping[str, str],
    own: Iterable[TaskRunner] = (),
    entry_points: Iterable[metadata.EntryPoint] | None = None,
) -> TaskRunners:
    """All runners of this installation; `own` are Farhand's beside Process, and can't be replaced."""
    runners: list[TaskRunner] = list(own)
    taken = {PROCESS, *(each.type for each in runners)}
    foreign: list[str] = []
    for entry in metadata.entry_points(group=ENTRY_POINT_GROUP) if entry_points is None else entry_points:
        if entry.name in taken:
            why = "the type is there already"
        elif violations := check_task_type("type", entry.name):
            why = violations[0].description
        else:
            taken.add(entry.name)
            foreign.append(entry.name)
            runners.append(HostedRunner(entry.name, entry.value, environment))
            continue
        log.error("task runner left out", extra={"type": entry.name, "entry_point": entry.value, "why": why})
    return TaskRunners(ProcessRunner(environment), runners, foreign)
