"""A task or trigger type of another package: each run is a process of its own under the warden.

Strangers' code in the worker's own process could outlive the lease (a thread, a
call that never returns) and take every other job along when it crashes. As a
process it ends when the warden says so, like any command (design.md, rule 7).

host.py is the other side. It finds what to do in one file of the run's folder,
and leaves the outcome in another.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from farhand.kernel.errors import Violation
from farhand.worker.process_control import ProcessStartError
from farhand.worker.tasks.base import Level, Outcome, OutcomeState, TaskContext, failed

TASKS = "farhand.tasks"
TRIGGERS = "farhand.triggers"
"""The groups of entry points."""

FOLDER = ".farhand"
TASK_FILE = "task.json"  # {"object": "module:Class", "group": …, "properties": {…}, "env": {…}, "scope": {…}}
OUTCOME_FILE = "outcome.json"  # {"state": …, "exit_code": …, "outputs": {…}, "reason": …, "message": …}
LONGEST_OUTCOME = 1 << 19  # bytes


class ForeignTask:
    """Runs `module:Class` of another package."""

    def __init__(self, type: str, object_name: str, group: str = TASKS) -> None:
        self.type = type
        self._object_name = object_name
        self._group = group

    def validate(self, properties: Mapping[str, Any]) -> Sequence[Violation]:
        """Nothing: the class checks them itself, over there."""
        return ()

    async def run(self, context: TaskContext) -> Outcome:
        """Start the host, and read the outcome that it leaves."""
        folder = context.folder() / FOLDER
        folder.mkdir(mode=0o700)
        task = {
            "object": self._object_name,
            "group": self._group,
            "properties": dict(context.properties),
            "env": dict(context.env),
            "scope": dict(context.scope) if self._group == TRIGGERS else {},
        }
        (folder / TASK_FILE).write_text(json.dumps(task))
        # -P: a file of the run's folder that is called like a module can't get in the way.
        argv = [sys.executable, "-P", "-m", "farhand.worker.tasks.host", str(folder)]
        try:
            exit_code = await context.run_process(argv, env=context.env)
        except ProcessStartError as error:
            context.log(error.message, Level.ERROR)
            return failed("START_FAILED", error.message)
        if exit_code != 0:
            how = f"exit code {exit_code}" if exit_code > 0 else f"signal {-exit_code}"
            return failed("INTERNAL", f"the task's process ended with {how}; its log tells more", exit_code=exit_code)
        try:
            return read_outcome(folder / OUTCOME_FILE)
        except (OSError, ValueError, KeyError, TypeError) as error:
            return failed("INTERNAL", f"the task's process left no outcome that can be read: {error}")


def read_outcome(path: Path) -> Outcome:
    """What the host left. Raises OSError, ValueError, KeyError or TypeError."""
    if path.stat().st_size > LONGEST_OUTCOME:
        return failed("OUTPUT_TOO_LARGE", f"the outcome has more than {LONGEST_OUTCOME} bytes")
    said = json.loads(path.read_text())
    exit_code = said["exit_code"]
    return Outcome(
        OutcomeState(said["state"]),
        None if exit_code is None else int(exit_code),
        dict(said["outputs"]),
        str(said["reason"]),
        str(said["message"]),
    )


def write_outcome(path: Path, outcome: Outcome) -> None:
    """What the host leaves, whole or not at all. Raises TypeError or ValueError where the outputs are no JSON."""
    text = json.dumps(
        {
            "state": outcome.state.value,
            "exit_code": outcome.exit_code,
            "outputs": dict(outcome.outputs),
            "reason": outcome.reason,
            "message": outcome.message,
        },
        allow_nan=False,
    )
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)
