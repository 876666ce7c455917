"""A runner whose program is a client: `python -m farhand.worker.runners.host`, in a process of its own.

Strangers' code and big libraries stay out of the worker, and a client ends when the
warden says so, like any command (decisions/0016). It finds what to do in a file of
the run's private folder, where no task sees it, and leaves how the command ended in
another:

    command.json  the fields of Task, and the object that is the client
    end.json      {"exit_code": number or null, "reason": text, "why": text}; see CommandEnd

Standard library and nothing heavy: both sides import this.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farhand.kernel.errors import Violation
from farhand.worker.environment import for_jobs
from farhand.worker.process_control import Undo
from farhand.worker.runners import Command, CommandEnd, Program

COMMAND_FILE = "command.json"
END_FILE = "end.json"


@dataclass(frozen=True, slots=True)
class Task:
    """What a client is given. `properties` are the task's `taskRunner`, rendered; `settings` the worker's for this
    runner, and what HostedRunner.plan added. The rest is as in Command."""

    run_id: str
    argv: Sequence[str]
    env: Mapping[str, str]
    folder: str
    image: str
    output_files: Sequence[str]
    properties: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)


class HostedRunner:
    """Runs commands by the client `module:Class`. Farhand's own runners are subclasses that check and undo."""

    local = False

    def __init__(
        self, type: str, client: str, environment: Mapping[str, str], settings: Mapping[str, Any] | None = None
    ) -> None:
        """`environment` is the worker's own: the client's, and not the command's. `settings` must be JSON."""
        self.type = type
        self._client = client
        self._environment = for_jobs(environment)
        self._settings = settings or {}

    def validate(self, properties: Mapping[str, Any], image: str) -> Sequence[Violation]:
        """Nothing: the client checks them itself, over there."""
        return ()

    def plan(self, command: Command) -> tuple[Mapping[str, Any], Undo | None]:
        """Settings that are this command's own, and what is to be sent when its client has ended."""
        return {}, None

    def program(self, command: Command, properties: Mapping[str, Any]) -> Program:
        """See TaskRunner.program."""
        own, undo = self.plan(command)
        task = {
            "client": self._client,
            "run_id": command.run_id,
            "argv": list(command.argv),
            "env": dict(command.env),
            "folder": str(command.folder),
            "image": command.image,
            "output_files": list(command.output_files),
            "properties": dict(properties),
            "settings": {**self._settings, **own},
        }
        # -P: a file of the working folder that is called like a module can't get in the way.
        argv = (sys.executable, "-P", "-m", "farhand.worker.runners.host", str(command.private))
        return Program(
            argv,
            self._environment,
            files={COMMAND_FILE: json.dumps(task)},
            ending=command.private / END_FILE,
            undo=undo,
        )


def read_end(path: Path, exit_code: int, *, killed: bool) -> CommandEnd:
    """What the client left; where it left nothing, it died itself, by `exit_code`. `killed`: as it should."""
    try:
        said = json.loads(path.read_text())
        return CommandEnd(said["exit_code"], str(said["reason"]), str(said["why"]))
    except (OSError, ValueError, KeyError, TypeError):
        if killed:
            return CommandEnd(exit_code)
        how = f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
        return CommandEnd(
            None, "RUNNER_FAILED", f"the task runner's own program ended with {how}; what became of the command is lost"
        )


def write_end(path: Path, end: CommandEnd) -> None:
    """What the client leaves, whole or not at all."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"exit_code": end.exit_code, "reason": end.reason, "why": end.why}))
    fresh.replace(path)
