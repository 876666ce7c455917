"""Transactions, and what the database's errors mean to a caller.

Stores never begin or commit: whoever serves a request opens one of these and hands
its connection to each store that the request needs, so that all of it happens or
nothing does.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import sqlalchemy
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from farhand.kernel.errors import FarhandError, Unavailable
from farhand.runtime.database import database_error

# A replica that stopped in the middle of a change holds the lock; better to say so than to wait with it.
_LOCK_TIMEOUT = "10s"


class Transactions:
    """Opens transactions on one database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that reads: everything in it is of one moment."""
        async with self._engine.connect() as plain:
            connection = await plain.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            async with connection.begin():
                yield connection

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes: commits at the end of the block, rolls back when it raises.

        Each statement sees what was committed before it began, so that what is read
        after the lock (`changes.lock`) is current.
        """
        async with self._engine.begin() as connection:
            await connection.execute(sqlalchemy.text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
            yield connection


def meaning(error: BaseException) -> FarhandError | None:
    """Unavailable where an error means that the database can't serve now; None where it means nothing to users."""
    if known := database_error(error):
        return known
    busy = isinstance(error, sqlalchemy.exc.TimeoutError)  # no connection of the pool got free
    if isinstance(error, DBAPIError) and error.orig is not None:
        busy = isinstance(error.orig.__cause__, asyncpg.LockNotAvailableError)
    return Unavailable("The database is too busy now. Try again.", retry_delay=1.0) if busy else None


def trouble(error: BaseException) -> FarhandError | None:
    """The same for a loop that tries again for ever: whatever the database says is a reason to do so."""
    if known := meaning(error):
        return known
    if isinstance(error, (asyncpg.PostgresError, asyncpg.InterfaceError, DBAPIError)):
        return Unavailable("The database does not serve now. Try again.", retry_delay=1.0)
    return None
