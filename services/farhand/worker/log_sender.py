"""Sends the logs of runs to the scheduler, apart from their results (design.md, rule 12).

Short AppendLogs calls, one at a time: what was written while a call was under
way rides in the next, for all jobs together. A call that fails is made again from
the offsets that were acknowledged; the scheduler skips what it has. A log's file
goes once all of it is stored, or once the scheduler says that nobody wants it.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import grpc

from farhand.api.worker.v1 import worker_service_pb2
from farhand.runtime.crash_points import reach
from farhand.runtime.grpc_channel import remote_error
from farhand.worker.core.redial import bound
from farhand.worker.core.slots import JobKey
from farhand.worker.masking import NOTHING, Mask
from farhand.worker.run_log import RunLog, file_name, key_of

if TYPE_CHECKING:
    from farhand.api.worker.v1 import worker_service_pb2_grpc

log = logging.getLogger(__name__)

CHUNK = 512 * 1024  # bytes of one log in one message
CALL_LIMIT = 4 << 20  # bytes in one call; the last chunk may pass it
CALL_LOGS = 500  # in one call: each is a file to read
CALL_SECONDS = 30.0
PAUSE_SECONDS = 0.1  # between calls, so that a chatty job is not a call per line

LOG_GAP = "LOG_GAP"


class Connected(Protocol):
    """Waits until there is a session, and gives the stub to call."""

    def __call__(self) -> "Awaitable[worker_service_pb2_grpc.WorkerServiceAsyncStub]": ...


class LogSender:
    """All logs of this data folder that are not wholly with the scheduler."""

    def __init__(self, folder: Path, limit: int, connected: Connected, jitter: Callable[[], float] = random.random):
        """`folder` exists; `limit` is how many bytes of output one log keeps."""
        self._folder = folder
        self._limit = limit
        self._connected = connected
        self._jitter = jitter
        self._logs: dict[JobKey, RunLog] = {}
        self._work = asyncio.Event()
        self._urgent = asyncio.Event()
        self._progress = asyncio.Event()
        self._alone = False  # after a refused call: one log per call, to find the one that is refused
        for path in sorted(folder.iterdir()):
            key = key_of(path.name)
            if key is None:
                continue
            left = RunLog.left_behind(key, path, self._changed)
            self._logs[key] = left
            self._changed(left)

    def open(self, key: JobKey, mask: Mask = NOTHING) -> RunLog:
        """A log for a new run, into which nothing of the mask's comes. Its file is made with its first record."""
        run_log = RunLog(key, self._folder / file_name(key), self._limit, self._changed, mask)
        self._logs[key] = run_log
        return run_log

    def _changed(self, run_log: RunLog) -> None:
        if run_log.done:
            self._forget(run_log)
        elif run_log.unsent:
            self._work.set()
            if run_log.closed:
                self._urgent.set()

    def _forget(self, run_log: RunLog) -> None:
        if self._logs.get(run_log.key) is run_log:
            del self._logs[run_log.key]
        run_log.remove()
        self._progress.set()

    @property
    def unsent(self) -> int:
        """How many logs have records that the scheduler has not stored."""
        return sum(run_log.unsent for run_log in self._logs.values())

    async def flushed(self) -> None:
        """Wait until all that was written is stored."""
        while self.unsent:
            self._progress.clear()
            await self._progress.wait()

    async def run(self) -> None:
        """Send for ever."""
        failures = 0
        while True:
            await self._work.wait()
            stub = await self._connected()
            try:
                await self.once(stub)
            except (grpc.aio.AioRpcError, OSError) as error:
                if failures == 0:
                    log.warning("logs not sent; they are kept and sent again", extra={"why": _why(error)})
                await asyncio.sleep(self._jitter() * bound(failures, None))
                failures += 1
                continue
            failures = 0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_SECONDS):
                    await self._urgent.wait()

    async def once(self, stub: "worker_service_pb2_grpc.WorkerServiceAsyncStub") -> None:
        """One call with what is at hand. Raises AioRpcError where it should be made again."""
        self._work.clear()
        self._urgent.clear()
        batch = self._gather()
        if not batch:
            return
        self._work.set()  # until an empty gathering says otherwise
        try:
            answer = await _append(stub, batch)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            self._refused(batch, error)
            return
        self._alone = False
        before = [(run_log, run_log.acked) for run_log, _ in batch]
        for ack in answer.acks:
            found = self._logs.get((ack.job_id, ack.fence))
            if found is None:
                continue
            if ack.refused:
                found.refuse()
            else:
                found.stored(ack.offset)
                reach("logs acknowledged")
            self._changed(found)
        self._progress.set()
        if any(run_log.closed and run_log.unsent for run_log in self._logs.values()):
            self._urgent.set()
        if not any(run_log.refused or run_log.acked > acked for run_log, acked in before):
            raise OSError("the scheduler stored nothing of a call")

    def _gather(self) -> list[tuple[RunLog, worker_service_pb2.AppendLogsRequest]]:
        batch: list[tuple[RunLog, worker_service_pb2.AppendLogsRequest]] = []
        room = CALL_LIMIT
        for key, run_log in list(self._logs.items()):
            if not run_log.unsent:
                continue
            records = run_log.read(CHUNK)
            if not records:
                log.error("a log's file is gone or damaged; the rest of it is lost", extra={"job": key[0]})
                run_log.refuse()
                continue
            request = worker_service_pb2.AppendLogsRequest(
                job_id=key[0], fence=key[1], offset=run_log.acked, records=records
            )
            batch.append((run_log, request))
            self._logs[key] = self._logs.pop(key)  # to the end: the others come first next time
            room -= request.ByteSize()
            if self._alone or room <= 0 or len(batch) >= CALL_LOGS:
                break
        return batch

    def _refused(
        self,
        batch: Sequence[tuple[RunLog, worker_service_pb2.AppendLogsRequest]],
        error: grpc.aio.AioRpcError,
    ) -> None:
        """A call that will never be accepted: find the log that it is due to, and send that anew or drop it."""
        if len(batch) > 1:
            self._alone = True
            return
        run_log = batch[0][0]
        if remote_error(error).reason == LOG_GAP and run_log.acked > 0:
            run_log.rewind()
            return
        log.error(
            "the scheduler refuses a log; the rest of it is dropped",
            extra={"job": run_log.key[0], "fence": run_log.key[1], "why": error.details()},
        )
        run_log.refuse()


async def _append(
    stub: "worker_service_pb2_grpc.WorkerServiceAsyncStub",
    batch: Sequence[tuple[RunLog, worker_service_pb2.AppendLogsRequest]],
) -> worker_service_pb2.AppendLogsResponse:
    """One call. Raises AioRpcError, and ConnectionError where the session's channel was closed under it."""
    try:
        return await stub.AppendLogs(_requests(batch), timeout=CALL_SECONDS)
    except grpc.aio.UsageError as error:
        raise ConnectionError(str(error)) from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ConnectionError("the session ended") from None


async def _requests(
    batch: Sequence[tuple[RunLog, worker_service_pb2.AppendLogsRequest]],
) -> AsyncIterator[worker_service_pb2.AppendLogsRequest]:
    for _, request in batch:
        yield request


def _why(error: Exception) -> str:
    return f"{error.code().name}: {error.details()}" if isinstance(error, grpc.aio.AioRpcError) else str(error)
