"""Group commit: one writer per transition, and what waits rides together.

While a transaction is in flight, items gather; they all ride in the next one. The
write function gets a connection of its own and a batch, and answers one result per
item, or an exception in an item's place. A batch that fails for its data is halved
until the bad item stands alone, so one bad row harms no other. A lost connection
fails what was in flight with `Unavailable`: nobody knows whether it committed, so
callers try again where trying twice is harmless.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import asyncpg

from farhand.kernel.errors import ShuttingDown, Unavailable
from farhand.runtime.database import connect, database_error

log = logging.getLogger(__name__)

DEADLOCKS = 5  # that a batch may meet before its callers are told

T = TypeVar("T")
R = TypeVar("R")

Write = Callable[[asyncpg.Connection, Sequence[T]], Awaitable[Sequence[R | Exception]]]


class HotConnection:
    """A raw connection that is dialled when it is needed and dropped when it breaks."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: asyncpg.Connection | None = None

    async def get(self) -> asyncpg.Connection:
        """The connection. Raises Unavailable."""
        if self._connection is None or self._connection.is_closed():
            try:
                self._connection = await connect(self._url, hot=True)
            except Exception as error:
                raise database_error(error) or error from error
        return self._connection

    def drop(self) -> None:
        """Forget a connection that broke, or that may be in the middle of something."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def close(self) -> None:
        """End it; the next `get` would dial anew."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            try:
                await connection.close(timeout=1.0)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                connection.terminate()


class GroupCommit(Generic[T, R]):
    """See the module. `weigh` tells how many rows an item has; a batch holds about `limit` rows."""

    def __init__(
        self,
        name: str,
        connection: HotConnection,
        write: Write[T, R],
        *,
        limit: int = 2000,
        weigh: Callable[[T], int] = lambda _: 1,
        gather: float = 0.0,
    ) -> None:
        self._name = name
        self._connection = connection
        self._write = write
        self._limit = limit
        self._weigh = weigh
        self._gather = gather  # seconds to wait for company; 0: none
        self._items: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._wake = asyncio.Event()
        self._closed = False

    def put(self, item: T) -> "asyncio.Future[R]":
        """Add an item; the future is its result once it is committed."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        if self._closed:
            future.set_exception(ShuttingDown("This scheduler is stopping; try again, another will answer."))
            return future
        self._items.append((item, future))
        self._wake.set()
        return future

    async def run(self) -> None:
        """Write until cancelled; what is left then is refused."""
        try:
            while True:
                await self._wake.wait()
                if self._gather:
                    await asyncio.sleep(self._gather)
                self._wake.clear()
                while self._items:
                    await self.once()
        finally:
            self._closed = True
            while self._items:
                _, future = self._items.popleft()
                _fail(future, ShuttingDown("This scheduler is stopping; try again, another will answer."))

    async def once(self) -> None:
        """Write one batch."""
        batch: list[tuple[T, asyncio.Future[R]]] = []
        weight = 0
        while self._items and (not batch or weight + self._weigh(self._items[0][0]) <= self._limit):
            weight += self._weigh(self._items[0][0])
            batch.append(self._items.popleft())
        try:
            await self._commit(batch)
        except asyncio.CancelledError:
            for _, future in batch:
                _fail(future, Unavailable("The scheduler stopped in the middle of this; try again."))
            self._connection.drop()
            raise

    async def _commit(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        batch = [entry for entry in batch if not entry[1].cancelled()]
        if not batch:
            return
        try:
            results = await self._patiently([item for item, _ in batch])
        except Exception as error:
            lost = error if isinstance(error, Unavailable) else database_error(error)
            if lost is not None:
                self._connection.drop()
                log.warning(
                    "a batch was lost with the database connection", extra={"loop": self._name, "rows": len(batch)}
                )
                for _, future in batch:
                    _fail(future, lost)
            elif len(batch) == 1:
                if isinstance(error, asyncpg.PostgresError):
                    log.exception("a row was refused by the database", extra={"loop": self._name})
                _fail(batch[0][1], error)
            else:
                half = len(batch) // 2
                await self._commit(batch[:half])
                await self._commit(batch[half:])
            return
        for (_, future), result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                _fail(future, result)
            elif not future.done():
                future.set_result(result)

    async def _patiently(self, items: list[T]) -> Sequence[R | Exception]:
        """A deadlock with another writer changed nothing, so the batch is simply written again."""
        for _ in range(DEADLOCKS):
            try:
                return await self._write(await self._connection.get(), items)
            except asyncpg.DeadlockDetectedError:
                log.info("a batch met another writer", extra={"loop": self._name})
        return await self._write(await self._connection.get(), items)


def _fail(future: "asyncio.Future[R]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # whoever still wants it gets it; nobody is told that nobody looked
