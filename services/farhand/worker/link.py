"""The link to the schedulers: one session after the other, for ever.

A worker that was accepted once never gives up: it says why it is not connected
and dials again, with full jitter, through all addresses in turn (core/redial.py).
Only a refusal at the very first dial that no waiting can mend (no such group, not
this credential's, too old) ends the process, with the scheduler's own words.

Make before break: a scheduler that sends this worker away goes on serving its
stream meanwhile, so the next is dialed beside it, and the old one is closed once
the new one is welcomed. Where no scheduler of a whole round takes the worker, it
lets the old one go all the same: that one may be the same that comes back.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import grpc

from farhand.api.worker.v1 import file_service_pb2_grpc, session_pb2, worker_service_pb2_grpc
from farhand.runtime import wire
from farhand.runtime.crash_points import reach
from farhand.runtime.grpc_channel import make_channel
from farhand.runtime.service import StartupError
from farhand.runtime.settings import DialSettings
from farhand.worker.addresses import targets
from farhand.worker.agent import Agent
from farhand.worker.core.redial import Redial, Target
from farhand.worker.stream import Ended, WorkerStream

if TYPE_CHECKING:
    from farhand.api.worker.v1.file_service_pb2_grpc import FileServiceAsyncStub
    from farhand.api.worker.v1.worker_service_pb2_grpc import WorkerServiceAsyncStub

log = logging.getLogger(__name__)

LOG_SECONDS = 5.0  # at most one line in so many about a scheduler that can't be reached

FINAL = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
    }
)

WAITING_HELPS = "OVERLOADED"  # protos/README.md: that scheduler lives and will take this worker soon


class _Dial:
    """One dial, and the session that comes of it."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.stub: WorkerServiceAsyncStub | None = None
        self.channel: grpc.aio.Channel | None = None
        self.stream: WorkerStream | None = None
        self.away: session_pb2.GoAway | None = None  # the scheduler wants the worker elsewhere
        self.moved = asyncio.Event()  # it ended, or it was sent away
        self.task: asyncio.Task[Ended] | None = None

    def sent_away(self, away: session_pb2.GoAway) -> None:
        """The stream goes on until there is another."""
        self.away = away
        self.moved.set()

    @property
    def ended(self) -> Ended | None:
        """How it ended; None as long as it has not. Raises what ended it by an error."""
        return self.task.result() if self.task is not None and self.task.done() else None


class Link:
    """Keeps a session open."""

    def __init__(
        self,
        names: Sequence[str],
        dial: DialSettings,
        agent: Agent,
        hello: session_pb2.Hello,
        *,
        clock: Callable[[], float],
        on_first_welcome: Callable[[str], None],
        jitter: Callable[[], float] = random.random,
        resolve: Callable[[Sequence[str]], Awaitable[Sequence[Target]]] = targets,
    ) -> None:
        """`names` are the schedulers' addresses, HOST:PORT; `on_first_welcome` is told the one that accepted this
        worker first."""
        self._names = names
        self._redial = Redial()
        self._settings = dial
        self._agent = agent
        self._hello = hello
        self._clock = clock
        self._on_first_welcome = on_first_welcome
        self._jitter = jitter
        self._resolve = resolve
        self._accepted = False
        self._leaving = asyncio.Event()
        self._live = asyncio.Event()
        self._dials: list[_Dial] = []  # under way: the present session's, and its successor's
        self._current: _Dial | None = None  # the one that was welcomed last
        self._hopeful = False  # a scheduler of this round will take this worker soon
        self._told = float("-inf")

    @property
    def live(self) -> bool:
        """A session stands."""
        return self._live.is_set()

    @property
    def dialing(self) -> bool:
        """A dial is under way, or a session stands."""
        return bool(self._dials)

    async def connected(self) -> "WorkerServiceAsyncStub":
        """The stub of the present session; waits for one."""
        while self._current is None or self._current.stub is None:
            await self._live.wait()
        return self._current.stub

    async def connected_files(self) -> "FileServiceAsyncStub":
        """The same for files."""
        while self._current is None or self._current.channel is None:
            await self._live.wait()
        return file_service_pb2_grpc.FileServiceStub(self._current.channel)

    async def run(self) -> None:
        """Keep a session open until `leave`. Raises StartupError where the first dial is refused for good."""
        try:
            while not self._leaving.is_set():
                if self._redial.exhausted:
                    self._hopeful = False
                    self._redial.begin(await self._resolve(self._names), jitter=self._jitter())
                dial = self._begin(self._redial.next())
                await dial.moved.wait()
                wait = self._moved(dial)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._leaving.wait()
            # What still stands is ended by the goodbye.
            for dial in list(self._dials):
                assert dial.task is not None
                await asyncio.wait([dial.task])
        finally:
            await self._close(self._dials)

    async def leave(self, within: float) -> None:
        """Say goodbye behind all that is to be sent, wait for the scheduler to close, and dial no more."""
        self._leaving.set()
        try:
            async with asyncio.timeout(within):
                # One that is being opened takes over, or fails: goodbye on the older one would not be for its session.
                await self._agent.until(lambda: not self._dials or self._dials == [self._current])
                if self._current is not None and self._current.stream is not None:
                    self._current.stream.goodbye()
                    await self._agent.until(lambda: not self.live)
        except TimeoutError:
            log.warning("the scheduler did not answer goodbye")

    # ── one dial ──

    def _begin(self, target: Target) -> _Dial:
        dial = _Dial(target)
        older = self._dials[-1].stream if self._dials else None
        self._dials.append(dial)
        dial.task = asyncio.create_task(self._live_through(dial, older), name=f"session with {target.at}")
        return dial

    async def _live_through(self, dial: _Dial, older: WorkerStream | None) -> Ended:
        try:
            return await self._dial(dial, older)
        finally:
            self._dials.remove(dial)
            if self._current is dial:
                self._current = None
                self._live.clear()
            dial.moved.set()
            self._agent.note()

    async def _dial(self, dial: _Dial, older: WorkerStream | None) -> Ended:
        try:
            made = make_channel(dial.target.name, self._settings, at=dial.target.at)
        except StartupError as error:
            if not self._accepted:
                raise
            return Ended(str(error))  # a token file that is being replaced
        async with made as channel:
            dial.stub = worker_service_pb2_grpc.WorkerServiceStub(channel)
            dial.channel = channel
            dial.stream = WorkerStream(
                dial.stub,
                self._agent,
                self._hello,
                self._clock,
                lambda: self._welcomed(dial),
                dial.sent_away,
                predecessor=older,
            )
            return await dial.stream.run()

    def _welcomed(self, dial: _Dial) -> None:
        self._redial.accepted()
        self._told = float("-inf")
        self._current = dial
        self._live.set()
        for older in self._dials:
            if older is not dial and older.task is not None:
                reach("successor welcomed")
                older.task.cancel()  # break, after make
        self._agent.note()
        del self._hello.dead_incarnations[:]  # it was told
        if not self._accepted:
            self._accepted = True
            self._on_first_welcome(dial.target.name)

    async def _close(self, dials: Sequence[_Dial]) -> None:
        tasks = [dial.task for dial in dials if dial.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ── from one to the next ──

    def _moved(self, dial: _Dial) -> float:
        """A dial ended or was sent away. Seconds until the next. Raises StartupError."""
        lease = self._agent.lease.duration
        ended = dial.ended
        if dial.away is not None:
            delay = wire.seconds(dial.away.retry_delay) if dial.away.HasField("retry_delay") else None
            log.info(f"sent on: {dial.away.message}", extra={"scheduler": dial.target.name})
            return self._redial.sent_away(retry_delay=delay, jitter=self._jitter(), lease=lease)
        assert ended is not None, "a dial moves only by its end or by being sent away"
        if not self._accepted and ended.error is not None and ended.error.code in FINAL:
            raise StartupError(f"the scheduler at {dial.target.name} refuses this worker: {ended.why}")
        delay = None if ended.error is None else ended.error.retry_delay
        if ended.go_away is not None and ended.go_away.HasField("retry_delay"):
            delay = wire.seconds(ended.go_away.retry_delay)
        self._hopeful |= ended.error is not None and ended.error.reason == WAITING_HELPS
        wait = self._redial.failed(jitter=self._jitter(), lease=lease, retry_delay=delay)
        if self._redial.exhausted and not self._hopeful:
            for older in self._dials:
                if older.task is not None:
                    older.task.cancel()
        if not self._leaving.is_set():
            self._tell(dial.target, ended, wait)
        return wait

    def _tell(self, target: Target, ended: Ended, wait: float) -> None:
        now = time.monotonic()
        if not ended.accepted and now - self._told < LOG_SECONDS:
            return
        self._told = now
        if ended.go_away is not None and ended.go_away.reason == session_pb2.GO_AWAY_REASON_SUPERSEDED:
            log.warning(
                "another stream of this worker took over; where this goes on, two machines use one worker id "
                "or a copied credential",
                extra={"scheduler": target.name, "worker": self._hello.worker_id},
            )
            return
        where = target.name if target.at == target.name else f"{target.name} ({target.at})"
        what = "connection lost" if ended.accepted else f"waiting for the scheduler at {where}"
        log.warning(f"{what}: {ended.why}", extra={"scheduler": target.name, "retry_in": round(wait, 3)})
