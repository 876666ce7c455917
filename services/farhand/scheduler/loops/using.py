"""How the slow loops use their connection: for one piece of work at a time, and never a broken one twice."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from asyncpg import Connection

from farhand.runtime.database import database_error
from farhand.scheduler.loops.group_commit import HotConnection


@contextlib.asynccontextmanager
async def using(connection: HotConnection) -> AsyncIterator[Connection]:
    """The connection; if it breaks, or is left in the middle of something, it is dropped. Raises Unavailable."""
    try:
        yield await connection.get()
    except asyncio.CancelledError:
        connection.drop()
        raise
    except Exception as error:
        lost = database_error(error)
        if lost is None:
            raise
        connection.drop()
        raise lost from error
