"""Watches of executions: as it is, then what changed, until it has ended.

News of the execution and of its jobs wake a watch at once; a poll is the guarantee.
Changes that follow each other closely are told as one: a flow of many short tasks
must not cost its watchers more than itself.
"""

import asyncio
from collections.abc import AsyncIterator

from farhand.api.scheduler.v1.execution_pb2 import Execution
from farhand.runtime.security import Identity
from farhand.scheduler.core import task_run
from farhand.scheduler.core.execution_record import TaskRunRecord
from farhand.scheduler.loops.changes import Changes
from farhand.scheduler.rpc.execution_wire import execution_message, task_run_message
from farhand.scheduler.rpc.visible_executions import VisibleExecutions
from farhand.scheduler.rpc.watching import Poll

GATHER_SECONDS = 0.05  # at least between two looks


class ExecutionWatching:
    """Watches for callers."""

    def __init__(self, executions: VisibleExecutions, changes: Changes, poll: Poll) -> None:
        self._executions = executions
        self._changes = changes
        self._poll = poll

    async def watch(self, id: str, caller: Identity) -> AsyncIterator[Execution]:
        """The execution with all its task runs, then with those that changed. Raises NotFound, Unavailable."""
        record = await self._executions.find(id, caller)
        places = await self._executions.places(record)
        sent: dict[int, TaskRunRecord] = {}
        last: object = None
        now = asyncio.get_running_loop().time
        with self._changes.watch_execution(record.key) as watch:
            while True:
                looked = now()
                record, runs = await self._executions.with_task_runs(record.key)
                changed = [run for run in runs if sent.get(run.key) != run]
                sent.update((run.key, run) for run in changed)
                if changed or last != record:
                    last = record
                    message = execution_message(record)
                    message.task_runs.extend(task_run_message(run, places) for run in changed)
                    yield message
                if record.ended:
                    return
                if not watch.only(jobs_that_move(runs)):
                    await watch.changed(self._poll.pause())
                await asyncio.sleep(max(0.0, looked + GATHER_SECONDS - now()))


def jobs_that_move(runs: list[TaskRunRecord]) -> list[int]:
    """The jobs of task runs that have not ended."""
    return [run.job_key for run in runs if run.job_key is not None and run.state not in task_run.FINAL]
