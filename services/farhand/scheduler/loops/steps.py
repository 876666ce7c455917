"""Executions are moved: whatever is due, by any replica, in batches.

What is due stands in `step_due`, so nobody has to remember anything, and a replica
that dies in the middle leaves it there (due_work.py). A batch that the database
refuses is halved until the bad execution stands alone, and that one ends (INTERNAL),
or is put off where even that is refused.
"""

import asyncio
import logging
from collections.abc import Collection, Sequence
from typing import Protocol

from asyncpg import Connection, DeadlockDetectedError

from farhand.kernel.errors import Unavailable
from farhand.kernel.job_id import execution_id
from farhand.runtime.crash_points import reach
from farhand.runtime.database import database_error
from farhand.scheduler.loops.due_work import DueWork
from farhand.scheduler.loops.group_commit import DEADLOCKS, HotConnection
from farhand.scheduler.loops.stepping import Mistake, Stepped, Stepping
from farhand.scheduler.store.executions import executions_due, next_timer, put_off

log = logging.getLogger(__name__)

LOOK = 1000  # rows of step_due that are looked at together
BATCH = 200  # executions in one transaction
PUT_OFF_SECONDS = 30.0


class Registry(Protocol):
    """Who knows what is declared."""

    async def catch_up(self) -> None:
        """Ask. Raises Unavailable."""


class Listener(Protocol):
    """Who wants to know what was committed."""

    def stepped(self, stepped: Stepped) -> None:
        """Executions moved, jobs wait, ended, or are to be killed."""


class Steps:
    """See the module."""

    def __init__(
        self,
        connection: HotConnection,
        stepping: Stepping,
        registry: Registry,
        listener: Listener,
    ) -> None:
        self._connection = connection
        self._stepping = stepping
        self._registry = registry
        self._listener = listener
        self._to_ask: set[int] = set()
        self._ask = asyncio.Event()
        self._asked: set[int] = set()
        self._work = DueWork("executions", connection, self.once, next_timer, log)
        self.wake = self._work.wake

    async def run(self) -> None:
        """Move executions until cancelled."""
        async with asyncio.TaskGroup() as siblings:
            siblings.create_task(self._work.run())
            siblings.create_task(self._ask_registry())

    async def once(self) -> bool:
        """Move what is due now. Answers whether anything was. Raises Unavailable."""
        asked, self._asked = self._asked, set()
        try:
            connection = await self._connection.get()
            keys = sorted(asked.union(await executions_due(connection, LOOK)))
            moved = False
            for start in range(0, len(keys), BATCH):
                moved |= await self._batch(connection, keys[start : start + BATCH], asked)
            return moved
        except asyncio.CancelledError:
            self._connection.drop()
            raise
        except Exception as error:
            self._connection.drop()
            self._asked |= asked
            raise database_error(error) or error from error

    async def _batch(self, connection: Connection, keys: Sequence[int], asked: Collection[int]) -> bool:
        try:
            return self._tell(await self._patiently(connection, keys, asked))
        except Exception as error:
            if isinstance(error, Unavailable) or database_error(error) is not None or connection.is_closed():
                raise
            if len(keys) == 1:
                return await self._end(connection, keys[0], error)
            half = len(keys) // 2
            first = await self._batch(connection, keys[:half], asked)
            return await self._batch(connection, keys[half:], asked) or first

    async def _patiently(
        self, connection: Connection, keys: Sequence[int], asked: Collection[int], *, abandon: str = ""
    ) -> Stepped:
        """A deadlock with another writer changed nothing, so the batch is simply written again."""
        for _ in range(DEADLOCKS):
            try:
                return await self._stepping.write(connection, keys, asked, abandon=abandon)
            except DeadlockDetectedError:
                log.info("a batch of steps met another writer")
        return await self._stepping.write(connection, keys, asked, abandon=abandon)

    async def _end(self, connection: Connection, key: int, error: Exception) -> bool:
        """An execution by itself whose step the database refuses."""
        mistake = Mistake(key, error)
        mistake.log()
        try:
            return self._tell(await self._patiently(connection, [key], (), abandon=mistake.message))
        except Exception as again:
            if database_error(again) is not None or connection.is_closed():
                raise
            log.exception("nor can it be ended; it is put off", extra={"execution": execution_id(key)})
            await put_off(connection, key, PUT_OFF_SECONDS)
            return False

    def _tell(self, stepped: Stepped) -> bool:
        if stepped.ask:
            self._to_ask |= stepped.ask
            self._ask.set()
        if stepped.executions:
            self._listener.stepped(stepped)
            reach("jobs announced")
        return bool(stepped.executions)

    async def _ask_registry(self) -> None:
        """For executions whose worker group our copy does not know, or forbids: once it was asked, they are stepped
        again, and then its word is final. While it is away the timer of each brings it back here."""
        while True:
            await self._ask.wait()
            self._ask.clear()
            keys, self._to_ask = self._to_ask, set()
            try:
                await self._registry.catch_up()
            except Unavailable:
                continue
            self._asked |= keys
            self.wake()
