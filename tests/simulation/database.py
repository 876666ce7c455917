"""The simulated PostgreSQL server: connections that take time, break, and lose answers.

A transaction, or a statement by itself, is one step in the middle of two delays. The
server can be away; then nothing gets in, and of what was on its way some had committed
and some had not, and nobody is told which. NOTIFY reaches who listens, later.
"""

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.simulation.clockwork import Process, World
from tests.simulation.memory_store import EPOCH, MemoryStore, Row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

POOL_SIZE = 6


class Server:
    """The server, its clock and its listeners."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.away = False
        self.slow = 0.0  # the share of journeys to it, and back, that take long
        self.late = 0.0  # seconds that the next answer to a commit takes longer
        self.loses = 0.0  # the share of transactions whose connection breaks
        self.ahead = timedelta(0)  # of its wall clock, which may be set
        self.store = MemoryStore(self.clock)
        self.connections: dict[Connection, None] = {}
        self.lost_before = 0  # transactions that broke and had not committed
        self.lost_after = 0  # and that had, without an answer

    def clock(self) -> datetime:
        """now()."""
        return EPOCH + timedelta(seconds=self.world.now) + self.ahead

    def set_clock(self, seconds: float) -> None:
        """Its wall clock jumps."""
        self.ahead += timedelta(seconds=seconds)

    def stop(self) -> None:
        """The server is away from now on; every connection breaks."""
        self.away = True
        for connection in list(self.connections):
            connection.break_off()

    def start(self) -> None:
        """It is back."""
        self.away = False

    async def connect(self, process: Process) -> "Connection":
        """A new connection of a process. Raises ConnectionRefusedError."""
        await asyncio.sleep(self.world.random.uniform(0.001, 0.01))
        if self.away:
            raise ConnectionRefusedError("the database is away")
        return Connection(self, process)

    def notify(self, payload: str) -> None:
        """Tell all who listen; each hears it after a while of its own."""
        for connection in list(self.connections):
            connection.hear(payload)


class Connection:
    """A connection as the scheduler uses it. Hashed by number, so that a seed plays the same each time."""

    def __init__(self, server: Server, process: Process) -> None:
        self._server = server
        self._random = server.world.random
        self._process = process
        self._inside = False
        self._closed = False
        self._listeners: list[Callable[[object, int, str, object], None]] = []
        self._on_end: list[Callable[[object], None]] = []
        server.connections[self] = None
        process.on_death.append(self.terminate)

    # ── as asyncpg's ──

    async def fetch(self, text: str, *arguments: Any) -> list[Row]:
        """All rows."""
        if self._inside:
            return self._server.store.run(text, arguments)
        async with self.transaction():
            return self._server.store.run(text, arguments)

    async def fetchrow(self, text: str, *arguments: Any) -> Row | None:
        """The first row."""
        rows = await self.fetch(text, *arguments)
        return rows[0] if rows else None

    async def fetchval(self, text: str, *arguments: Any) -> Any:
        """The first value of the first row."""
        row = await self.fetchrow(text, *arguments)
        return None if row is None else next(iter(row.values()))

    async def execute(self, text: str, *arguments: Any) -> str:
        """No rows; or a NOTIFY."""
        if text.startswith("SELECT pg_notify"):
            await self._travel()
            self._server.notify(arguments[1])
        else:
            await self.fetch(text, *arguments)
        return ""

    @asynccontextmanager
    async def transaction(self) -> "AsyncIterator[None]":
        """All that happens inside of it is one step."""
        await self._travel()
        store = self._server.store
        store.begin()
        self._inside = True
        try:
            yield
        except BaseException:
            self._inside = False
            store.rollback()
            raise
        self._inside = False
        breaks = self._random.random() < self._server.loses
        if breaks and self._random.random() < 0.5:
            store.rollback()
            self._server.lost_before += 1
            self._server.world.say(self._process.name, "the connection breaks before a commit")
            self.break_off()
        else:
            store.commit()
        wrote = bool(store.journal)
        if wrote:
            self._server.world.effect("a commit")
        late, self._server.late = self._server.late, 0.0
        if late:
            await asyncio.sleep(late)
        try:
            await self._travel(breaks)
        except ConnectionResetError:
            self._server.lost_after += wrote
            raise

    def is_closed(self) -> bool:
        """Whether it is over."""
        return self._closed

    async def add_listener(self, channel: str, heard: Callable[[object, int, str, object], None]) -> None:
        """LISTEN."""
        await self._travel()
        self._listeners.append(heard)

    def add_termination_listener(self, ended: Callable[[object], None]) -> None:
        """Called when the connection breaks."""
        self._on_end.append(ended)

    def terminate(self) -> None:
        """Hang up."""
        self._closed = True
        self._server.connections.pop(self, None)

    async def close(self, timeout: float | None = None) -> None:
        """Hang up in order."""
        self.terminate()

    # ── inside ──

    async def _travel(self, breaks: bool = False) -> None:
        """To the server, or back from it."""
        if self._closed:
            raise ConnectionResetError("the connection to the database is lost")
        slow = self._random.random() < self._server.slow
        await asyncio.sleep(self._random.uniform(0.0005, 0.5 if slow else 0.006))
        if breaks:
            self.break_off()
        if self._closed:
            raise ConnectionResetError("the connection to the database is lost")

    def break_off(self) -> None:
        """The connection breaks."""
        if not self._closed:
            self.terminate()
            for ended in self._on_end:
                self._process.after(0.001, lambda ended=ended: ended(self))  # type: ignore[misc]

    def hear(self, payload: str) -> None:
        """A NOTIFY arrives."""
        for heard in self._listeners:
            delay = self._random.uniform(0.001, 0.02)
            self._process.after(delay, lambda heard=heard: None if self._closed else heard(self, 0, "", payload))  # type: ignore[misc]


class Pool:
    """A pool of connections of one process."""

    def __init__(self, server: Server, process: Process) -> None:
        self._server = server
        self._process = process
        self._idle: list[Connection] = []
        self._room = asyncio.Semaphore(POOL_SIZE)

    def acquire(self) -> "_Lease":
        """`async with pool.acquire() as connection`."""
        return _Lease(self)

    async def take(self) -> Connection:
        """A connection that is not closed. Raises ConnectionRefusedError."""
        await self._room.acquire()
        try:
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_closed():
                    return connection
            return await self._server.connect(self._process)
        except BaseException:
            self._room.release()
            raise

    def give(self, connection: Connection, *, whole: bool) -> None:
        """Give it back; one whose user was cut off in the middle is closed."""
        self._room.release()
        if whole and not connection.is_closed():
            self._idle.append(connection)
        else:
            connection.terminate()

    async def fetch(self, text: str, *arguments: Any) -> list[Row]:
        """As a connection's."""
        async with self.acquire() as connection:
            return await connection.fetch(text, *arguments)

    async def fetchrow(self, text: str, *arguments: Any) -> Row | None:
        """As a connection's."""
        async with self.acquire() as connection:
            return await connection.fetchrow(text, *arguments)


class _Lease:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._connection: Connection | None = None

    async def __aenter__(self) -> Connection:
        self._connection = await self._pool.take()
        return self._connection

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        assert self._connection is not None
        self._pool.give(self._connection, whole=not isinstance(error, asyncio.CancelledError))
