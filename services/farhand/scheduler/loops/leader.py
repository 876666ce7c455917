"""One replica leads: it alone runs the loops that need no company (reports, deletions, upkeep).

Leadership is a session-level advisory lock on a connection of its own, so it ends
with that connection, whatever becomes of this process. When the connection is lost
the work is cancelled at once. A moment is left in which the database knows of the
loss and this replica does not, so what leaders do is harmless when two do it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from asyncpg import Connection, PostgresError

from farhand.runtime.database import database_error
from farhand.scheduler.loops.waiting import Waiting

log = logging.getLogger(__name__)

LOCK = int.from_bytes(b"leader")  # its key among the database's advisory locks
LOOK = 1.0  # seconds between two tries, and between two checks
ANSWER = 3.0  # seconds that the database has to answer a check

_KEEPALIVE = "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"
_STILL_HELD = """
SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted
               AND objsubid = 1 AND (classid::bigint << 32 | objid::bigint) = $1)
"""


class Leader:
    """See the module. `connect` gives a connection that nobody else uses."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._connect = connect
        self._leads = asyncio.Event()
        self._database = Waiting(log, "the database, to see who leads")

    @property
    def leads(self) -> bool:
        """Whether this replica leads, as far as it knows."""
        return self._leads.is_set()

    async def run_while_leading(self, work: Callable[[], Awaitable[None]]) -> None:
        """Become leader whenever that is possible, for ever, and do the work while it lasts. An error of the
        work is raised, but for one of the database; the work is begun anew with each leadership."""
        while True:
            try:
                await self.once(work)
            except Exception as error:
                if not _is_database_s(error):
                    raise
                self._database.still(_reason(error))
            await asyncio.sleep(LOOK)

    async def once(self, work: Callable[[], Awaitable[None]]) -> None:
        """One leadership: wait for it, do the work until it is lost or the work is done. Raises what asyncpg
        raises where the database can't be reached."""
        connection = await self._connect()
        try:
            self._database.over()
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _: lost.set())
            await connection.execute(_KEEPALIVE)  # the server, too, notices soon that we are gone
            while not await self._asked(connection, "SELECT pg_try_advisory_lock($1)"):
                await _set_within(lost, LOOK)
                if lost.is_set():
                    return
            log.info("this replica leads")
            self._leads.set()
            await self._work_until_lost(work, connection, lost)
        finally:
            connection.terminate()

    async def _work_until_lost(
        self, work: Callable[[], Awaitable[None]], connection: Connection, lost: asyncio.Event
    ) -> None:
        working = asyncio.ensure_future(work())
        checking = asyncio.create_task(self._check(connection, lost))
        try:
            await asyncio.wait({working, checking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._leads.clear()
            for task in (working, checking):
                task.cancel()
            await asyncio.wait({working, checking})
            log.info("this replica leads no more")
        for task in (checking, working):
            if not task.cancelled():
                task.result()

    async def _check(self, connection: Connection, lost: asyncio.Event) -> None:
        """Returns when leadership is lost."""
        while not lost.is_set():
            await _set_within(lost, LOOK)
            if lost.is_set() or not await self._asked(connection, _STILL_HELD):
                return

    async def _asked(self, connection: Connection, question: str) -> bool:
        """The database's yes; a database that does not answer says no."""
        try:
            return bool(await connection.fetchval(question, LOCK, timeout=ANSWER))
        except Exception as error:
            if database_error(error) is None:
                raise
            return False


def _is_database_s(error: BaseException) -> bool:
    """Whether the database is away, or refused something, which it may take later (a full disk)."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_database_s(part) for part in error.exceptions)
    return database_error(error) is not None or isinstance(error, PostgresError)


def _reason(error: BaseException) -> str:
    """What it says, or the first of its parts: the work may be a group of loops."""
    if isinstance(error, BaseExceptionGroup):
        return _reason(error.exceptions[0])
    return str(error) or type(error).__name__


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    """Wait until the event is set, this long at most."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
