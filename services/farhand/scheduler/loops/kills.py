"""Kills: persisted, then sent, then confirmed (P9).

A waiting job is killed in the queue. For one that a worker has, the kill is written
to its live row first; whoever holds the stream sends it, and sends it again until
the worker has confirmed that the job will not start.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import asyncpg

from farhand.runtime.crash_points import reach
from farhand.runtime.database import database_error
from farhand.scheduler.loops.changes import Changes, Watch
from farhand.scheduler.loops.frames import Cancels
from farhand.scheduler.loops.stream import Stream, Streams
from farhand.scheduler.store.groups import Ending, end_waiting
from farhand.scheduler.store.sql import SQL

KILLED = Ending("KILLED", "KILLED", "It was killed while it waited.", None, asked=True)
CONFIRM_SECONDS = 2.0
POLL_SECONDS = 0.25


class Listener(Protocol):
    """Who wants to know of kills."""

    def killed(self, key: int) -> None:
        """This job changed: it ended, or is to be ended; streams elsewhere may have to be told."""


class Kills:
    """See the module."""

    def __init__(
        self, pool: asyncpg.Pool, streams: Streams, changes: Changes, listener: Listener, *, writer: str
    ) -> None:
        self._pool = pool
        self._streams = streams
        self._changes = changes
        self._listener = listener
        self._writer = writer

    async def kill(self, key: int, grace_ms: int) -> None:
        """End a job wherever it is; returns when P9's acknowledgement may be given. Raises Unavailable."""
        with self._changes.watch([key]) as watch:
            try:
                if not await self._mark(key, grace_ms):
                    return
                await self._confirmed(key, watch)
            except Exception as error:
                raise database_error(error) or error from error

    async def _mark(self, key: int, grace_ms: int) -> bool:
        """Note the kill. Answers whether there is a worker to confirm it."""
        async with self._pool.acquire() as connection:
            # A job may move between the queue and a worker between these statements, never out of both but by its
            # end; one that was forgotten meanwhile is nowhere.
            while (lane := await connection.fetchval(SQL["job_place"], key)) is not None:
                if await end_waiting(connection, [(lane, key)], KILLED, self._writer):
                    reach("waiting job killed")
                    self._listener.killed(key)
                    return False
                row = await connection.fetchrow(SQL["mark_killing"], key, grace_ms)
                if row is not None:
                    reach("kill marked")
                    self._listener.killed(key)
                    stream = self._streams.get(row["session_id"])
                    if stream is not None:
                        stream.put(Cancels([(key, row["fence"], grace_ms)]))
                        reach("kill sent")
                    return not row["kill_acked"]
                if (await connection.fetchrow(SQL["kill_state"], key))["ended"]:
                    return False
        return False

    async def _confirmed(self, key: int, watch: Watch) -> None:
        try:
            async with asyncio.timeout(CONFIRM_SECONDS):
                while True:
                    row = await self._pool.fetchrow(SQL["kill_state"], key)
                    if row["ended"] or row["acked"] is not False:
                        return
                    await watch.changed(POLL_SECONDS)
        except TimeoutError:
            return  # the worker is cut off; whatever it still does, only KILLED can be recorded

    async def confirm(self, refs: Sequence[tuple[int, int]]) -> None:
        """A worker says that jobs (key, fence) will not start. Raises Unavailable."""
        try:
            rows = await self._pool.fetch(SQL["ack_kills"], [key for key, _ in refs], [fence for _, fence in refs])
        except Exception as error:
            raise database_error(error) or error from error
        if rows:
            reach("kill confirmed")
        for row in rows:
            self._listener.killed(row["key"])

    async def resend(self, streams: Sequence[Stream] | None = None) -> None:
        """Send what is not confirmed, to these streams or to all."""
        streams = self._streams.all() if streams is None else streams
        by_session: dict[int, list[tuple[int, int, int]]] = {}
        try:
            rows = await self._pool.fetch(SQL["pending_kills"], [stream.session_id for stream in streams])
        except Exception as error:
            raise database_error(error) or error from error
        for row in rows:
            by_session.setdefault(row["session_id"], []).append((row["key"], row["fence"], row["kill_grace_ms"]))
        for session_id, jobs in by_session.items():
            if stream := self._streams.get(session_id):
                stream.put(Cancels(jobs))
