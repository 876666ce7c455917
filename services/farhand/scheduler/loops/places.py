"""The leader looks after executions that wait for their turn, where no end of another brings it.

A flow's newer revision may allow more at a time, and nobody creates an execution that
would tell. So as long as somebody waits, the registry is asked for the flow's newest
revision. Places that should not be taken any more are freed on the same way; there are
none, unless a scheduler of a release that knows no places ended an execution.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from asyncpg import DeadlockDetectedError

from farhand.kernel.errors import NotFound, Unavailable
from farhand.kernel.flow import Flow
from farhand.scheduler.core.places import Limit, limit_of
from farhand.scheduler.loops.flow_source import FetchedFlow
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.loops.using import using
from farhand.scheduler.loops.waiting import Waiting
from farhand.scheduler.store.places import (
    FlowName,
    free_places,
    give_places,
    hold_limit,
    limits_waited_for,
    places_left_over,
)

log = logging.getLogger(__name__)

EVERY = 2.0  # seconds
FLOWS = 100  # of which the registry is asked in one round; the others' turn comes with the next


class FlowSource(Protocol):
    """Whoever keeps the flows."""

    async def get(self, tenant: str, namespace: str, flow_id: str, revision: int) -> FetchedFlow:
        """A revision; 0: the newest. Raises NotFound, Unavailable."""


class Places:
    """See the module. `on_begin`: executions begin; it must not block."""

    def __init__(self, connection: HotConnection, flows: FlowSource, on_begin: Callable[[], None]) -> None:
        self._connection = connection
        self._flows = flows
        self._on_begin = on_begin
        self._looked_at = 0
        self._waiting = Waiting(log, "what executions that wait for their turn need")

    async def run(self) -> None:
        """Look every two seconds, for ever."""
        while True:
            try:
                await self.once()
                self._waiting.over()
            except Unavailable as error:
                self._waiting.still(error.message)
            except DeadlockDetectedError:
                log.info("a look at waiting executions met another writer and goes on later")
            await asyncio.sleep(EVERY)

    async def once(self) -> None:
        """One round. Raises Unavailable."""
        async with using(self._connection) as connection:
            waited_for = await limits_waited_for(connection, self._looked_at, FLOWS)
        self._looked_at = waited_for[-1][0] if len(waited_for) == FLOWS else 0
        away: Unavailable | None = None
        for _, flow in waited_for:
            try:
                limit = await self._newest(flow)
            except Unavailable as error:  # what is left over is freed all the same
                away, limit = error, None
            await self._look(flow, limit)
        if away is not None:
            raise away

    async def _newest(self, flow: FlowName) -> Limit | None:
        try:
            fetched = await self._flows.get(*flow, 0)
        except NotFound:
            return None  # it was deleted; what waits has its turn as before
        return limit_of(Flow.from_json(fetched.definition), fetched.revision)

    async def _look(self, flow: FlowName, newest: Limit | None) -> None:
        async with using(self._connection) as connection, connection.transaction():
            held = await hold_limit(connection, flow, newest or Limit(0, None))
            if held is None:
                return
            begun = await free_places(connection, await places_left_over(connection, held.key))
            begun += await give_places(connection, [held.key])
        if begun:
            self._on_begin()
