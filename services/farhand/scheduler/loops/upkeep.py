"""The leader forgets what nobody needs any more, slowly and in small batches.

Requests go 24 hours after the end of all their jobs (P6); ended jobs with their
logs after the retention, those of an execution with it; sessions after that, once no job names them; and the
counts of schedulers that are gone are added up, so that figures stay cheap.
"""

import asyncio
import logging

from asyncpg import DeadlockDetectedError

from farhand.kernel.errors import Unavailable
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.loops.using import using
from farhand.scheduler.loops.waiting import Waiting
from farhand.scheduler.store.upkeep import (
    count_request_pages,
    fold_tallies,
    forget_execution,
    forget_flows,
    forget_jobs,
    forget_requests,
    forget_sessions,
    forget_task_runs,
    read_done_keys,
    read_ended_executions,
    read_ended_jobs,
    read_old_sessions,
    read_sessions_in_use,
)

log = logging.getLogger(__name__)

EVERY = 600.0  # seconds
REQUEST_MEMORY = 24 * 3600.0  # seconds (P6)
PAGES = 64  # of the requests' table, in one batch
JOBS = 200  # in one batch; each may have many megabytes of log
EXECUTIONS = 1000  # in one look
FLOWS = 1000  # in one batch
KEYS = 10_000  # of ended jobs, in one look for their sessions
SESSIONS = 10_000  # in one round
TALLIES = 1000  # in one batch
SWEEP_EVERY = 24 * 3600.0  # seconds; it reads every ended job


class Upkeep:
    """See the module. `retention`: seconds that ended jobs are kept, 24 hours or more, since a repeated request
    must find its jobs. `pause`: seconds between two batches."""

    def __init__(self, connection: HotConnection, *, replica: str, retention: float, pause: float = 0.05) -> None:
        if retention < REQUEST_MEMORY:
            raise ValueError(f"ended jobs are kept for 24 hours at least, not for {retention:.0f} seconds")
        self._connection = connection
        self._replica = replica
        self._retention = retention
        self._pause = pause
        self._swept: float | None = None  # when the sessions were, by the loop's clock
        self._database = Waiting(log, "the database, for upkeep")

    async def run(self) -> None:
        """Upkeep, for ever."""
        while True:
            try:
                await self.once()
                self._database.over()
            except Unavailable as error:
                self._database.still(error.message)
            except DeadlockDetectedError:
                log.info("upkeep met another writer and goes on later")
            await asyncio.sleep(EVERY)

    async def once(self) -> None:
        """One round over everything. Raises Unavailable."""
        await self._fold_tallies()
        await self._forget_requests()
        await self._forget_executions()
        await self._forget_jobs()
        now = asyncio.get_running_loop().time()
        if self._swept is None or now - self._swept >= SWEEP_EVERY:
            await self._forget_sessions()
            self._swept = now

    async def _fold_tallies(self) -> None:
        folded = TALLIES
        while folded == TALLIES:
            async with using(self._connection) as connection:
                folded = await fold_tallies(connection, replica=self._replica, limit=TALLIES)
            await asyncio.sleep(self._pause)

    async def _forget_requests(self) -> None:
        async with using(self._connection) as connection:
            pages = await count_request_pages(connection)
        forgotten = 0
        for first in range(0, pages, PAGES):
            async with using(self._connection) as connection:
                forgotten += await forget_requests(connection, first, PAGES, age=REQUEST_MEMORY)
            await asyncio.sleep(self._pause)
        if forgotten:
            log.info("requests are forgotten", extra={"requests": forgotten})

    async def _forget_executions(self) -> None:
        after = forgotten = 0
        enough = False
        while not enough:
            async with using(self._connection) as connection:
                ended = await read_ended_executions(connection, after=after, limit=EXECUTIONS, age=self._retention)
            for execution in ended.old:
                runs = JOBS
                while runs == JOBS:
                    async with using(self._connection) as connection:
                        runs = await forget_task_runs(connection, execution, limit=JOBS)
                        if runs < JOBS:
                            await forget_execution(connection, execution)
                    await asyncio.sleep(self._pause)
            after, enough = ended.last, ended.enough
            forgotten += len(ended.old)
            await asyncio.sleep(self._pause)
        looked_at: int | None = 0
        while looked_at is not None:
            async with using(self._connection) as connection:
                looked_at = await forget_flows(connection, after=looked_at, limit=FLOWS)
            await asyncio.sleep(self._pause)
        if forgotten:
            log.info("ended executions are forgotten", extra={"executions": forgotten})

    async def _forget_jobs(self) -> None:
        after = forgotten = 0
        enough = False
        while not enough:
            async with using(self._connection) as connection:
                ended = await read_ended_jobs(connection, after=after, limit=JOBS, age=self._retention)
                if ended.old:
                    await forget_jobs(connection, ended.old)
            after, enough = ended.last, ended.enough
            forgotten += len(ended.old)
            await asyncio.sleep(self._pause)
        if forgotten:
            log.info("ended jobs are forgotten", extra={"jobs": forgotten})

    async def _forget_sessions(self) -> None:
        """Those over for long are candidates; whatever an ended job names is none. No index tells, so the ended
        jobs are read through once, and a session that is over gets no new job while that lasts."""
        async with using(self._connection) as connection:
            candidates = await read_old_sessions(connection, limit=SESSIONS, age=self._retention)
            low, high = await read_done_keys(connection)
        first = low
        while candidates and first <= high:
            async with using(self._connection) as connection:
                candidates -= await read_sessions_in_use(connection, candidates, first=first, last=first + KEYS - 1)
            first += KEYS
            await asyncio.sleep(self._pause)
        if candidates:
            async with using(self._connection) as connection:
                forgotten = await forget_sessions(connection, candidates, age=self._retention)
            log.info("sessions are forgotten", extra={"sessions": forgotten})
