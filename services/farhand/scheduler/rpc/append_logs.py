"""AppendLogs: stores the log records of jobs that the caller holds or held.

Records are known by job, fence and offset, so a call that failed is simply made
again. Several messages of a call are on their way at once, in their order; what
waits behind them is not read from the stream, which slows the worker down instead
of filling our memory.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from farhand.api.worker.v1.worker_service_pb2 import AppendLogsRequest, AppendLogsResponse, LogAck
from farhand.kernel.errors import InvalidArgument, LogGap, Violation
from farhand.kernel.job_id import decode
from farhand.runtime.security import Identity
from farhand.scheduler.core.log import Append, Stored
from farhand.scheduler.rpc.ports import LogSink

_MOST_BYTES = 1 << 20
_MOST_ON_THEIR_WAY = 4  # messages of one call
_LARGEST_OFFSET = 2**53

_Name = tuple[str, int]  # job id as it was sent, fence


class AppendLogs:
    """The method AppendLogs of WorkerService; the access table lets only workers call it."""

    def __init__(self, sink: LogSink) -> None:
        self._sink = sink

    async def append_logs(self, requests: AsyncIterator[AppendLogsRequest], caller: Identity) -> AppendLogsResponse:
        """Store what the stream brings; answers when all of it is durable. A log whose assignment is not the
        job's any more, or belongs to another credential, is answered as refused. Raises LogGap once the rest is
        stored, InvalidArgument, Unavailable."""
        acks: dict[_Name, Stored] = {}
        gaps: list[LogGap] = []
        on_their_way: deque[asyncio.Task[None]] = deque()
        async with asyncio.TaskGroup() as group:
            async for request in requests:
                name = (request.job_id, request.fence)
                append = _append(request, caller)
                if append is None:
                    acks[name] = Stored(0, refused=True)
                    continue
                if len(on_their_way) >= _MOST_ON_THEIR_WAY:
                    await on_their_way.popleft()
                on_their_way.append(group.create_task(self._store(name, append, acks, gaps)))
        if gaps:
            raise gaps[0]
        return AppendLogsResponse(
            acks=(
                LogAck(job_id=job_id, fence=fence, offset=stored.end, refused=stored.refused)
                for (job_id, fence), stored in acks.items()
            )
        )

    async def _store(self, name: _Name, append: Append, acks: dict[_Name, Stored], gaps: list[LogGap]) -> None:
        try:
            stored = await self._sink.append(append)
        except LogGap as gap:
            gaps.append(gap)
        else:
            before = acks.get(name)
            if before is None or stored.refused or stored.end > before.end:
                acks[name] = stored


def _append(request: AppendLogsRequest, caller: Identity) -> Append | None:
    """What is to be stored; None for a job that can't be one. Takes the request apart."""
    fence, offset, count = request.fence, request.offset, len(request.records)
    wrong: list[Violation] = []
    if fence <= 0:
        wrong.append(Violation("fence", "must be positive"))
    if not 0 <= offset <= _LARGEST_OFFSET:
        wrong.append(Violation("offset", f"must be between 0 and {_LARGEST_OFFSET}"))
    key = decode(request.job_id)
    request.ClearField("job_id")
    request.ClearField("fence")
    request.ClearField("offset")
    request.DiscardUnknownFields()  # what is left is records and nothing else
    records = request.SerializeToString()
    if len(records) > _MOST_BYTES:
        wrong.append(Violation("records", f"are {len(records):,} bytes; at most {_MOST_BYTES:,} are allowed"))
    if wrong:
        raise InvalidArgument.of(*wrong)
    return None if key is None else Append(key, fence, offset, records, count, caller.subject)
