"""Reads of jobs by key, joined: what is asked while a read is in flight rides in the next one.

A unary submit, a wait and a watch each end in the read of a job, and a read has a
fixed price that is many times that of its rows. A read starts after it was asked
for, so it sees whatever was committed before that.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence

from farhand.kernel.errors import ShuttingDown
from farhand.scheduler.core.record import JobRecord
from farhand.scheduler.store.jobs import read_jobs
from farhand.scheduler.store.reading import Reading

Found = dict[int, JobRecord]
Asked = tuple[Sequence[int], asyncio.Future[Found]]


class JobReads:
    """`read` answers those of the jobs that are there. Run `run()` beside it."""

    def __init__(self, reading: Reading) -> None:
        self._brief = _Line(reading, full=False, limit=2000)
        self._full = _Line(reading, full=True, limit=256)  # with their tasks, of up to 256 KiB each

    async def read(self, keys: Sequence[int], *, full: bool = False) -> Found:
        """Those of the jobs that are there; `full` brings the task, the outputs and what else lists leave out.
        Raises Unavailable."""
        return await (self._full if full else self._brief).put(keys)

    async def run(self) -> None:
        """Read until cancelled; what is left then is refused."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._brief.run())
            group.create_task(self._full.run())


class _Line:
    def __init__(self, reading: Reading, *, full: bool, limit: int) -> None:
        self._reading = reading
        self._is_full = full
        self._limit = limit
        self._waiting: deque[Asked] = deque()
        self._wake = asyncio.Event()
        self._closed = False

    async def put(self, keys: Sequence[int]) -> Found:
        if self._closed:
            raise _stopping()
        future: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._waiting.append((keys, future))
        self._wake.set()
        return await future

    async def run(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    await self._once()
        finally:
            self._closed = True
            _fail(self._waiting, _stopping())

    async def _once(self) -> None:
        batch: list[Asked] = []
        keys: set[int] = set()
        while self._waiting and (not batch or len(keys) + len(self._waiting[0][0]) <= self._limit):
            batch.append(self._waiting.popleft())
            keys.update(batch[-1][0])
        try:
            async with self._reading.connection() as connection:
                found = await read_jobs(connection, sorted(keys), full=self._is_full)
        except asyncio.CancelledError:
            _fail(batch, _stopping())
            raise
        except Exception as error:
            _fail(batch, error)
            return
        for asked, future in batch:
            if not future.done():
                future.set_result({key: found[key] for key in asked if key in found})


def _fail(batch: Iterable[Asked], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
            future.exception()  # whoever still waits gets it; nobody is told that nobody looked


def _stopping() -> ShuttingDown:
    return ShuttingDown("This scheduler is stopping; try again, another will answer.")
