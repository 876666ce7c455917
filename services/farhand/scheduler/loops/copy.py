"""Keeps the scheduler's copy of the registry: in its database for all replicas, and in memory for this one.

One stream, `WatchService.Watch`, is held open from the copy's revision on. Each
step is applied to the database, where the first replica to come wins, and then the
memory moves; so the memory is never ahead of the database. What other replicas
applied is seen by `refresh`, which a wake-up calls and a poll guarantees.

A registry that is away stops nothing: the copy serves. Only before anyone is told
"unknown" or "forbidden" is the registry itself asked (`catch_up`), since what was
declared a moment ago must work.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import grpc
import grpc.aio
from asyncpg import Connection, DeadlockDetectedError, PostgresError

from farhand.api.registry.v1.watch_service_pb2 import WatchRequest, WatchResponse
from farhand.api.registry.v1.watch_service_pb2_grpc import WatchServiceStub
from farhand.kernel.errors import FutureRevision, Unavailable
from farhand.runtime.crash_points import reach
from farhand.runtime.grpc_channel import remote_error
from farhand.scheduler.core.declared import (
    Change,
    Declared,
    Group,
    OutOfOrder,
    RemovedGroup,
    Snapshot,
    changed_groups,
)
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.loops.registry_steps import step_of
from farhand.scheduler.loops.using import using
from farhand.scheduler.loops.waiting import Waiting
from farhand.scheduler.store.declared import Applied, apply_change, apply_snapshot, read, read_revision
from farhand.scheduler.store.groups import EncodeLog

log = logging.getLogger(__name__)

POLL = 2.0  # seconds between looks at the database's revision
SILENCE = 15.0  # seconds without a step, three heartbeats of the registry: the stream is dead
ASKING = 3.0  # seconds that catch_up waits for the registry
BACK_OFF = 3.0  # seconds at most between two tries to connect

_UNREACHABLE = (
    "The registry can't be reached, so nobody can tell whether this was declared or allowed a moment ago. "
    "Try again in a moment."
)


class Copy:
    """See the module. `on_change` gets the uids of groups that came, went or changed; `on_ended` the keys of jobs
    that ended because of it; `on_triggers` says that flows with triggers came, changed or went. All are called after
    the commit and must not block."""

    def __init__(
        self,
        connection: HotConnection,
        channel: grpc.aio.Channel,
        address: str,
        *,
        writer: str,
        encode_log: EncodeLog,
        on_change: Callable[[frozenset[str]], None],
        on_ended: Callable[[Sequence[int]], None],
        on_triggers: Callable[[], None] = lambda: None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._connection = connection
        self._watch = WatchServiceStub(channel).Watch
        self._writer = writer
        self._encode_log = encode_log
        self._on_change = on_change
        self._on_ended = on_ended
        self._on_triggers = on_triggers
        self._jitter = jitter
        self._registry = Waiting(log, f"the registry at {address}")
        self._database = Waiting(log, "the database, for the copy of the registry")
        self._one_at_a_time = asyncio.Lock()
        self._declared = Declared()
        self._refused: int | None = None  # our revision, which the registry says it has not reached
        self._from_start = False  # the next stream asks for a snapshot
        self._failures = 0  # streams in a row that brought nothing
        self._asking: asyncio.Task[None] | None = None
        self._asking_next: asyncio.Task[None] | None = None

    @property
    def declared(self) -> Declared:
        """What this replica knows now."""
        return self._declared

    async def current(self) -> Declared:
        """What the database's copy holds now. Raises Unavailable."""
        await self.refresh()
        return self._declared

    async def refresh(self) -> None:
        """Take over what another replica applied. Raises Unavailable."""
        async with self._one_at_a_time, using(self._connection) as connection:
            await self._take_over(connection, await read_revision(connection))

    async def refresh_if_older(self, revision: int) -> None:
        """Refresh unless this revision is known here already. Raises Unavailable."""
        if self._declared.revision < revision:
            await self.refresh()

    async def catch_up(self) -> None:
        """Ask the registry what is declared now. Raises Unavailable.

        All who ask while a question is on its way share the next one, since the answer on its way may be
        older than what they were told elsewhere. So this takes two times ASKING at most.
        """
        if self._asking_next is None:
            self._asking_next = asyncio.create_task(self._ask_after(self._asking))
            self._asking_next.add_done_callback(_looked_at)
        await asyncio.shield(self._asking_next)

    async def run(self) -> None:
        """Keep the copy, for ever."""
        try:
            async with asyncio.TaskGroup() as siblings:
                siblings.create_task(self._follow())
                siblings.create_task(self._poll())
        finally:
            for asking in (self._asking, self._asking_next):
                if asking is not None:
                    asking.cancel()

    async def once(self) -> None:
        """Hold one stream until it ends. Raises AioRpcError, Unavailable (the database), OutOfOrder, TimeoutError."""
        revision = 0 if self._from_start or self._refused is not None else self._declared.revision
        self._from_start = False
        async with self._watching(revision) as receive:
            while True:
                async with asyncio.timeout(SILENCE):
                    response = await receive()
                if response is None:
                    return
                self._failures = 0
                self._registry.over()
                await self._apply(response)

    async def _follow(self) -> None:
        while True:
            before = self._declared.revision
            try:
                await self.once()
                self._registry.still("it closed the stream")
            except grpc.aio.AioRpcError as error:
                told = remote_error(error)
                if told.reason == FutureRevision.reason:
                    log.warning(
                        "the registry has not reached our revision; was it restored from a backup? Taking what it has",
                        extra={"revision": before},
                    )
                    self._refused = before
                else:
                    self._registry.still(told.message)
            except TimeoutError:
                self._registry.still(f"it was silent for {SILENCE:.0f} seconds")
            except Unavailable as error:
                self._database.still(error.message)
            except OutOfOrder as error:
                log.warning("the registry's changes have a gap; asking for all that is declared: %s", error)
                self._from_start = True
            except PostgresError:
                log.exception("a step of the registry could not be applied; asking for all that is declared")
                self._from_start = True
            self._failures += 1
            await asyncio.sleep(self._jitter() * min(BACK_OFF, 0.1 * 2 ** min(self._failures, 10)))

    async def _poll(self) -> None:
        while True:
            try:
                await self.refresh()
                self._database.over()
            except Unavailable as error:
                self._database.still(error.message)
            except PostgresError as error:
                self._database.still(str(error))
            await asyncio.sleep(POLL)

    async def _ask_after(self, earlier: "asyncio.Task[None] | None") -> None:
        if earlier is not None:
            await asyncio.wait([earlier])
        self._asking, self._asking_next = self._asking_next, None  # who comes from here on wants another one
        try:
            async with asyncio.timeout(ASKING), self._watching(0) as receive:
                while (response := await receive()) is not None and not response.HasField("snapshot"):
                    pass
        except (grpc.aio.AioRpcError, TimeoutError) as error:
            raise Unavailable(_UNREACHABLE, retry_delay=1.0) from error
        if response is None:
            raise Unavailable(_UNREACHABLE, retry_delay=1.0)
        await self._apply(response)

    @contextlib.asynccontextmanager
    async def _watching(self, revision: int) -> AsyncIterator[Callable[[], Awaitable[WatchResponse | None]]]:
        """A stream, given as a function that receives its next step; None: it ended."""
        call = self._watch(WatchRequest(revision=revision))

        async def receive() -> WatchResponse | None:
            response = await call.read()
            return response if isinstance(response, WatchResponse) else None

        try:
            yield receive
        finally:
            call.cancel()

    async def _apply(self, response: WatchResponse) -> None:
        step = step_of(response)
        if isinstance(step, int):
            if step > self._declared.revision:
                raise OutOfOrder(f"the registry is at {step} and sent nothing after {self._declared.revision}")
            return
        if step is None:
            log.warning("the registry sent a step that this version does not know; upgrade this scheduler")
            return
        async with self._one_at_a_time:
            applied = await self._commit_patiently(step)
            if applied.ended:
                self._on_ended(applied.ended)

    async def _commit_patiently(self, step: Snapshot | Change) -> Applied:
        tries = 5
        while True:
            try:
                return await self._commit(step)
            except DeadlockDetectedError:  # it met another writer, and nothing was changed
                tries -= 1
                if not tries:
                    raise

    async def _commit(self, step: Snapshot | Change) -> Applied:
        """Move the database, then the memory."""
        async with using(self._connection) as connection:
            if isinstance(step, Change):
                applied = await apply_change(connection, step, writer=self._writer, encode_log=self._encode_log)
                if applied.moved:
                    reach("copy committed")
                    if not isinstance(step.resource, Group | RemovedGroup):
                        self._on_triggers()
                if step.revision == self._declared.revision + 1:
                    self._remember(self._declared.after(step))
                    return applied
            else:
                applied = await apply_snapshot(
                    connection, step, writer=self._writer, encode_log=self._encode_log, instead_of=self._refused
                )
                self._refused = None
                if applied.moved:
                    self._remember(step.declared)
                    self._on_triggers()
                    return applied
            await self._take_over(connection, applied.revision)
            return applied

    async def _take_over(self, connection: Connection, revision: int) -> None:
        if revision != self._declared.revision:
            self._remember(await read(connection))

    def _remember(self, declared: Declared) -> None:
        changed = changed_groups(self._declared, declared)
        self._declared = declared
        if changed:
            self._on_change(changed)


def _looked_at(task: "asyncio.Task[None]") -> None:
    """Nobody may be left who waits for it; then its failure is nobody's."""
    if not task.cancelled():
        task.exception()
