"""The link to the schedulers: one session after the other, for ever.

A worker that was accepted once never gives up: it says why it is not connected
and dials again, with full jitter, through all addresses in turn (core/redial.py).
Only a refusal at the very first dial that no waiting can mend (no such group, not
this credential's, too old) ends the process, with the scheduler's own words.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc

from farhand.api.worker.v1 import session_pb2, worker_service_pb2_grpc
from farhand.runtime.grpc_channel import make_channel
from farhand.runtime.service import StartupError
from farhand.runtime.settings import DialSettings
from farhand.worker.agent import Agent
from farhand.worker.core.redial import Redial
from farhand.worker.stream import Ended, WorkerStream

if TYPE_CHECKING:
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


class Link:
    """Keeps a session open."""

    def __init__(
        self,
        redial: Redial,
        dial: DialSettings,
        agent: Agent,
        hello: session_pb2.Hello,
        *,
        clock: Callable[[], float],
        on_first_welcome: Callable[[str], None],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`on_first_welcome` is told the address of the scheduler that accepted this worker first."""
        self._redial = redial
        self._dial = dial
        self._agent = agent
        self._hello = hello
        self._clock = clock
        self._on_first_welcome = on_first_welcome
        self._jitter = jitter
        self._accepted = False
        self._leaving = asyncio.Event()
        self._live = asyncio.Event()
        self._stream: WorkerStream | None = None
        self._stub: WorkerServiceAsyncStub | None = None
        self._told = float("-inf")

    @property
    def live(self) -> bool:
        """A session stands."""
        return self._live.is_set()

    @property
    def dialing(self) -> bool:
        """A dial is under way, or a session stands."""
        return self._stream is not None

    async def connected(self) -> "WorkerServiceAsyncStub":
        """The stub of the present session; waits for one."""
        await self._live.wait()
        assert self._stub is not None
        return self._stub

    async def run(self) -> None:
        """Keep a session open until `leave`. Raises StartupError where the first dial is refused for good."""
        while not self._leaving.is_set():
            address = self._redial.address
            ended = await self._once(address)
            if self._leaving.is_set():
                return
            if not self._accepted and ended.error is not None and ended.error.code in FINAL:
                raise StartupError(f"the scheduler at {address} refuses this worker: {ended.why}")
            wait = self._pause(ended)
            self._tell(address, ended, wait)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._leaving.wait()

    async def leave(self, within: float) -> None:
        """Say goodbye behind all that is to be sent, wait for the scheduler to close, and dial no more."""
        stream = self._stream if self.live else None
        self._leaving.set()
        if stream is not None:
            stream.goodbye()
            try:
                async with asyncio.timeout(within):
                    await self._agent.until(lambda: not self.live)
            except TimeoutError:
                log.warning("the scheduler did not answer goodbye")

    async def _once(self, address: str) -> Ended:
        try:
            made = make_channel(address, self._dial)
        except StartupError as error:
            if not self._accepted:
                raise
            return Ended(str(error))  # a token file that is being replaced
        async with made as channel:
            self._stub = worker_service_pb2_grpc.WorkerServiceStub(channel)
            self._stream = WorkerStream(self._stub, self._agent, self._hello, self._clock, self._welcomed)
            try:
                return await self._stream.run()
            finally:
                self._stream = None
                self._live.clear()
                self._agent.note()

    def _welcomed(self) -> None:
        address = self._redial.address
        self._redial.accepted()
        self._told = float("-inf")
        self._live.set()
        self._agent.note()
        del self._hello.dead_incarnations[:]  # it was told
        if not self._accepted:
            self._accepted = True
            self._on_first_welcome(address)

    def _pause(self, ended: Ended) -> float:
        """Seconds until the next dial."""
        lease = self._agent.lease.duration
        away = ended.go_away
        delay = None
        if away is not None and away.HasField("retry_delay"):
            delay = away.retry_delay.seconds + away.retry_delay.nanos / 1e9
        if away is not None and away.reason == session_pb2.GO_AWAY_REASON_SHUTDOWN:
            return self._redial.sent_away(retry_delay=delay, jitter=self._jitter(), lease=lease)
        if ended.error is not None and ended.error.retry_delay is not None:
            delay = ended.error.retry_delay
        return self._redial.failed(jitter=self._jitter(), lease=lease, retry_delay=delay)

    def _tell(self, address: str, ended: Ended, wait: float) -> None:
        now = time.monotonic()
        if not ended.accepted and now - self._told < LOG_SECONDS:
            return
        self._told = now
        if ended.go_away is not None and ended.go_away.reason == session_pb2.GO_AWAY_REASON_SUPERSEDED:
            log.warning(
                "another stream of this worker took over; where this goes on, two machines use one worker id "
                "or a copied credential",
                extra={"scheduler": address, "worker": self._hello.worker_id},
            )
            return
        what = "connection lost" if ended.accepted else f"waiting for the scheduler at {address}"
        log.warning(f"{what}: {ended.why}", extra={"scheduler": address, "retry_in": round(wait, 3)})
