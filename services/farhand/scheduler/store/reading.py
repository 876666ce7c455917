"""A connection for reads: one snapshot per statement, and Unavailable while the database is away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import event
from sqlalchemy.engine import AdaptedConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry

from farhand.kernel.errors import FarhandError
from farhand.runtime.database import database_error

# Every read here finds its rows by key, group or lane. The plan for that is always the same nested loop over
# indexes: planning it anew takes ten times as long as running it, and a plan that is kept must not be one that
# was made while the tables were small.
_SETTINGS = """
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
"""


class Reading:
    """Lends connections of a pool, for reads alone: `async with reading.connection() as connection`.

    They run in autocommit, which spares each read two round trips; whoever needs one moment for several facts
    reads them with one statement."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        event.listen(engine.sync_engine, "connect", _fix_plans)

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


def _fix_plans(connection: AdaptedConnection, _: ConnectionPoolEntry) -> None:
    connection.run_async(lambda raw: raw.execute(_SETTINGS))
