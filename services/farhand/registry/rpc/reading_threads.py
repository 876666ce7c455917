"""Where flows are read: threads beside the event loop, so that a large one delays nobody else's call.

Reading is pure Python, of which one thread runs at a time; more threads would only
take turns. There are two: a flow of usual size never waits behind large ones. So
many may wait for each; who comes then is told to come again.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from farhand.kernel.errors import Overloaded

T = TypeVar("T")

LARGE = 64 * 1024  # characters


class ReadingThreads:
    """See the module."""

    def __init__(self, waiting: int = 32) -> None:
        """waiting: how many flows each thread has taken or lets wait, at most."""
        self._usual = _Lane("flows", waiting)
        self._large = _Lane("large-flows", waiting)

    async def run(self, source: str | bytes, work: Callable[[], T]) -> T:
        """Do it in a thread; ``source`` is what it is about. Raises Overloaded, and what the work raises.

        Work whose caller went away is not begun.
        """
        return await self._lane(source).run(work)

    def taken(self, source: str | bytes) -> int:
        """How many flows like this one are read or wait."""
        return self._lane(source).taken()

    def close(self) -> None:
        """Begin nothing more, and wait for what runs."""
        for lane in (self._usual, self._large):
            lane.executor.shutdown(cancel_futures=True)

    def _lane(self, source: str | bytes) -> "_Lane":
        return self._large if len(source) > LARGE else self._usual


class _Lane:
    def __init__(self, name: str, most: int) -> None:
        self.executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._most = most
        self._jobs: set[Future[object]] = set()

    def taken(self) -> int:
        # Jobs leave by themselves, also those whose callers went away.
        self._jobs = {job for job in self._jobs if not job.done()}
        return len(self._jobs)

    async def run(self, work: Callable[[], T]) -> T:
        if self.taken() >= self._most:
            raise Overloaded("Too many flows wait to be read. Try again in a moment.", retry_delay=1.0)
        job = self.executor.submit(work)
        self._jobs.add(job)  # type: ignore[arg-type]  # a Future is covariant in what we ask of it
        return await asyncio.wrap_future(job)
