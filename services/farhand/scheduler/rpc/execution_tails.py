"""The logs of an execution: those of its task runs, each in its own order, mixed as they come.

Every task run's job has a tail of its own (tails.py), from when a worker has it: a
thousand that wait must not cost a thousand tails. A task run that was refused before
it had a job has one line by the scheduler, which says why. What was taken over from
another execution has its log only where its task is asked for.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import nullcontext

from farhand.api.scheduler.v1.execution_service_pb2 import TailExecutionLogsResponse
from farhand.api.types.v1.log_record_pb2 import LOG_STREAM_SYSTEM, LogRecord
from farhand.kernel.errors import InvalidArgument, NotFound, Violation
from farhand.kernel.job_id import encode, task_run_id
from farhand.kernel.names import near_matches, shown
from farhand.runtime.security import Identity
from farhand.runtime.wire import timestamp
from farhand.scheduler.core import task_run
from farhand.scheduler.core.execution_record import ExecutionRecord, TaskRunRecord
from farhand.scheduler.core.task_run import RunState
from farhand.scheduler.loops.changes import Changes
from farhand.scheduler.rpc.execution_watching import GATHER_SECONDS, jobs_that_move
from farhand.scheduler.rpc.execution_wire import execution_message
from farhand.scheduler.rpc.tails import Tails
from farhand.scheduler.rpc.visible_executions import VisibleExecutions
from farhand.scheduler.rpc.watching import Poll

_AHEAD = 16  # answers that wait for a caller who reads slowly
_AT_ONCE = 4  # logs of task runs that have ended which one call reads at a time; others read from this database too


class ExecutionTails:
    """Reads logs for callers."""

    def __init__(self, executions: VisibleExecutions, tails: Tails, changes: Changes, poll: Poll) -> None:
        self._executions = executions
        self._tails = tails
        self._changes = changes
        self._poll = poll

    async def tail(
        self, id: str, task_id: str, caller: Identity, *, follow: bool
    ) -> AsyncIterator[TailExecutionLogsResponse]:
        """The logs, from the beginning. Raises NotFound, InvalidArgument for a task that the flow does not have,
        Unavailable."""
        record = await self._executions.find(id, caller)
        await self._check(record, task_id)
        if not follow:
            _, runs = await self._executions.with_task_runs(record.key)
            for run in runs:
                if _wanted(run, task_id):
                    async for answer in self._of_run(run, caller, follow=False):
                        yield answer
            return
        async for answer in self._follow(record, task_id, caller):
            yield answer
        record = await self._executions.again(record.key)
        yield TailExecutionLogsResponse(execution=execution_message(record))

    async def _check(self, record: ExecutionRecord, task_id: str) -> None:
        places = await self._executions.places(record)
        if task_id and task_id not in places:
            similar = ", ".join(near_matches(task_id, places))
            hint = f"; is it {similar}?" if similar else ""
            raise InvalidArgument.of(Violation("task_id", f"the flow has no task {shown(task_id)}{hint}"))

    async def _follow(
        self, record: ExecutionRecord, task_id: str, caller: Identity
    ) -> AsyncIterator[TailExecutionLogsResponse]:
        answers: asyncio.Queue[TailExecutionLogsResponse] = asyncio.Queue(_AHEAD)
        gathering = asyncio.create_task(self._gather(record, task_id, caller, answers))
        answer = asyncio.ensure_future(answers.get())
        try:
            while True:
                await asyncio.wait((gathering, answer), return_when=asyncio.FIRST_COMPLETED)
                if answer.done():
                    yield answer.result()
                    answer = asyncio.ensure_future(answers.get())
                elif gathering.done() and answers.empty():
                    gathering.result()
                    return
        finally:
            for waiting in (gathering, answer):
                waiting.cancel()
            await asyncio.wait((gathering, answer))

    async def _gather(
        self,
        record: ExecutionRecord,
        task_id: str,
        caller: Identity,
        answers: "asyncio.Queue[TailExecutionLogsResponse]",
    ) -> None:
        """Put the logs of all task runs, also of those that are yet to come, into the queue."""

        async def one(run: TaskRunRecord) -> None:
            async with places if run.state in task_run.FINAL else nullcontext():
                async for answer in self._of_run(run, caller, follow=True):
                    await answers.put(answer)

        places = asyncio.Semaphore(_AT_ONCE)
        now = asyncio.get_running_loop().time
        begun: set[int] = set()
        async with asyncio.TaskGroup() as tails:
            with self._changes.watch_execution(record.key) as watch:
                while True:
                    looked = now()
                    record, runs = await self._executions.with_task_runs(record.key)
                    for run in runs:
                        if _wanted(run, task_id) and run.key not in begun and _has_log(run):
                            begun.add(run.key)
                            tails.create_task(one(run))
                    if record.ended:
                        return
                    if not watch.only(jobs_that_move([run for run in runs if run.key not in begun])):
                        await watch.changed(self._poll.pause())
                    await asyncio.sleep(max(0.0, looked + GATHER_SECONDS - now()))

    async def _of_run(
        self, run: TaskRunRecord, caller: Identity, *, follow: bool
    ) -> AsyncIterator[TailExecutionLogsResponse]:
        if run.job_key is None:
            if _has_log(run):
                yield _answer(run, 0, [_line(run)])
            return
        try:
            async for answer in self._tails.tail(encode(run.job_key), caller, "", follow=follow):
                if answer.records:
                    yield _answer(run, answer.fence, answer.records)
        except NotFound:
            return  # it was cleared away meanwhile


def _wanted(run: TaskRunRecord, task_id: str) -> bool:
    return run.id.task_id == task_id if task_id else run.taken_from is None


def _has_log(run: TaskRunRecord) -> bool:
    """Whether there may be something to read: of a job that a worker has or had, or that ended without one; or why
    there never was a job."""
    if run.job_key is None:
        return run.state in task_run.FINAL and bool(run.reason and run.message)
    return run.state is not RunState.CREATED or run.lost > 0


def _line(run: TaskRunRecord) -> LogRecord:
    return LogRecord(time=timestamp(run.ended_at), stream=LOG_STREAM_SYSTEM, text=run.message)


def _answer(run: TaskRunRecord, fence: int, records: Iterable[LogRecord]) -> TailExecutionLogsResponse:
    return TailExecutionLogsResponse(
        task_run_id=task_run_id(run.key),
        task_id=run.id.task_id,
        attempt=run.id.attempt,
        records=records,
        fence=fence,
        iteration=run.id.iteration,
    )
