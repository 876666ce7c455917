"""What a client is: the program of a task runner that runs commands elsewhere (hosted.py, host.py)."""

import asyncio
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from farhand.kernel.errors import Violation
from farhand.worker.runners import CommandEnd
from farhand.worker.runners.hosted import Task


class NeverRan(Exception):
    """The command could not be started; the message is for people, with what to do."""


class Lost(Exception):
    """The command was started, and what becomes of it can't be known; the message is for people, with what to do."""


class Client(Protocol):
    """Has one command run. Made without arguments, once for each process."""

    async def run(self, task: Task, stop: asyncio.Event) -> CommandEnd:
        """Run it to its end, writing its output to sys.stdout and sys.stderr.

        What lies in `task.folder` is there for the command, and what of its own folder matches `task.output_files`
        is put there afterwards. When `stop` is set the command is asked to end, once, and its output files are not
        wanted any more; what still runs after the grace must be no more when this process is killed (see Undo).
        Raises NeverRan or Lost.
        """
        ...


@runtime_checkable
class ChecksItself(Protocol):
    """A client of another package that checks the properties first."""

    def validate(self, task: Task) -> Sequence[Violation]:
        """What is wrong with them."""
        ...
