"""A connection for reads: one snapshot per statement, and Unavailable while the database is away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from farhand.kernel.errors import FarhandError
from farhand.runtime.database import database_error


class Reading:
    """Lends connections of a pool, for reads alone: `async with reading.connection() as connection`.

    They run in autocommit, which spares each read two round trips; whoever needs one moment for several facts
    reads them with one statement."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """A connection. Raises Unavailable where the database can't be reached, then or in the middle."""
        try:
            async with self._engine.connect() as connection:
                yield connection
        except FarhandError:
            raise
        except Exception as error:
            lost = database_error(error)
            if lost is None:
                raise
            raise lost from error
