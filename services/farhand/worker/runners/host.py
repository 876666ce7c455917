"""`python -m farhand.worker.runners.host FOLDER`: the client of one command that runs elsewhere.

Started under the warden (hosted.py). What the command prints, the client prints;
SIGTERM means that the command is to be asked to end, and SIGKILL follows when the
grace is over. Its exit code is the command's, and `end.json` says more.
"""

import asyncio
import json
import signal
import sys
import traceback
from dataclasses import dataclass, fields
from importlib.metadata import EntryPoint
from pathlib import Path

from farhand.worker.runners import CommandEnd
from farhand.worker.runners.client import ChecksItself, Client, Lost, NeverRan
from farhand.worker.runners.hosted import COMMAND_FILE, END_FILE, Task, write_end


@dataclass(frozen=True, slots=True)
class _Order:
    client: str
    task: Task


def main(folder: Path) -> int:
    """Run what the folder says, and leave how it ended."""
    order = _read(folder / COMMAND_FILE)
    try:
        client = _load(order.client)
        if isinstance(client, ChecksItself) and (violations := client.validate(order.task)):
            end = CommandEnd(
                None, "INVALID_PROPERTIES", "; ".join(f"taskRunner.{v.path}: {v.description}" for v in violations)
            )
        else:
            end = asyncio.run(_run(client, order.task))
    except NeverRan as error:
        end = CommandEnd(None, "START_FAILED", str(error))
    except Lost as error:
        end = CommandEnd(None, "RUNNER_FAILED", str(error))
    except Exception as error:
        traceback.print_exc()
        end = CommandEnd(None, "RUNNER_FAILED", f"the task runner broke: {type(error).__name__}: {error}")
    write_end(folder / END_FILE, end)
    code = end.exit_code
    return 1 if code is None else code if code >= 0 else 128 - code


def _load(name: str) -> Client:
    try:
        client: Client = EntryPoint("client", name, "farhand.task_runners").load()()
    except ImportError as error:
        raise NeverRan(
            f"this worker's installation lacks what the task runner needs ({error}); for Farhand's own an extra "
            "brings it, such as pip install 'farhand[docker]'"
        ) from None
    return client


def _read(file: Path) -> _Order:
    said = json.loads(file.read_text())
    return _Order(said["client"], Task(**{each.name: said[each.name] for each in fields(Task)}))


async def _run(client: Client, task: Task) -> CommandEnd:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    return await client.run(task, stop)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
