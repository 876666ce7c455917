"""One session on one stream: hello, welcome, and then three tasks until the end.

One task reads, one writes, one keeps the heartbeats; whichever ends first ends
the others. The reader hands each frame to the agent and goes on at once, so
liveness never waits for work. A scheduler that sends the worker away goes on
serving until another stream stands (see link.py). What the session is allowed to do, and what the
lease is, is decided in core/session.py.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from farhand.api.worker.v1 import session_pb2
from farhand.kernel.protocol import PROTOCOL_VERSION, agree
from farhand.runtime import wire
from farhand.runtime.crash_points import reach
from farhand.runtime.grpc_channel import RemoteError, remote_error
from farhand.worker import frames
from farhand.worker.agent import Agent
from farhand.worker.core.session import IllegalFrame, Session, SessionState
from farhand.worker.core.slots import IllegalStep
from farhand.worker.outbox import Outbox, OutboxFull

if TYPE_CHECKING:
    from farhand.api.worker.v1 import worker_service_pb2_grpc

log = logging.getLogger(__name__)

# Reasons for which a stream goes on after go_away until the worker has another: make before break.
MOVES = frozenset({session_pb2.GO_AWAY_REASON_SHUTDOWN, session_pb2.GO_AWAY_REASON_REBALANCE})

WELCOME_SECONDS = 20.0  # from dialing to welcome


@dataclass(frozen=True, slots=True)
class Ended:
    """How a session ended."""

    why: str  # for people
    accepted: bool = False  # welcome came
    error: RemoteError | None = None  # the scheduler's refusal, or what gRPC says
    go_away: session_pb2.GoAway | None = None


class _Over(Exception):
    """Ends the session from within one of its tasks."""

    def __init__(self, why: str, go_away: session_pb2.GoAway | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.go_away = go_away


class WorkerStream:
    """One dial. Made anew for each."""

    def __init__(
        self,
        stub: "worker_service_pb2_grpc.WorkerServiceAsyncStub",
        agent: Agent,
        hello: session_pb2.Hello,
        clock: Callable[[], float],
        on_welcome: Callable[[], None],
        on_sent_away: Callable[[session_pb2.GoAway], None],
        predecessor: "WorkerStream | None" = None,
    ) -> None:
        """`hello` says who this worker is; what it holds is added here. `on_sent_away` is told that the scheduler
        wants the worker elsewhere; `predecessor` is the stream that such a scheduler still serves."""
        self._stub = stub
        self._agent = agent
        self._hello = hello
        self._clock = clock
        self._on_welcome = on_welcome
        self._on_sent_away = on_sent_away
        self._predecessor = predecessor
        self._session: Session | None = None
        self._outbox = Outbox(self._heartbeat)
        self._accepted = False
        self._goodbye_asked = False

    async def run(self) -> Ended:
        """Dial, and live until the session ends, for whatever reason."""
        call: Any = None
        try:
            session, hello = await self._greeting()
            call = self._stub.Connect()
            async with asyncio.timeout(WELCOME_SECONDS):
                await call.write(session_pb2.ConnectRequest(hello=hello))
                reach("hello sent")
                first = await self._read(call)
            await self._take(first, session)
            await _until_one_fails(
                self._read_all(call, session),
                self._write_all(call, session),
                self._keep_time(session),
                self._watch_redial(),
            )
        except Exception as error:
            return self._ended(error)
        finally:
            self._agent.end(self._outbox)
            if self._session is not None:
                self._session.ended()
            if call is not None:
                call.cancel()
        raise AssertionError("a session's tasks end only by an error")

    async def _greeting(self) -> tuple[Session, session_pb2.Hello]:
        hello = session_pb2.Hello()
        hello.CopyFrom(self._hello)
        hello.held.extend(await self._agent.begin())
        hello.draining = self._agent.slots.draining
        if self._predecessor is not None:
            self._predecessor.hand_over()
            reach("stream handed over")
        if (lease := wire.duration(self._agent.lease.duration)) is not None:
            hello.lease.CopyFrom(lease)
        # The time is taken before it is sent, so that the lease can only be counted from too early.
        self._session = Session(self._agent.lease, hello_sent=self._clock(), draining=hello.draining)
        return self._session, hello

    def hand_over(self) -> None:
        """Another stream's hello is about to be sent."""
        if self._session is not None:
            self._session.hand_over()

    def goodbye(self) -> None:
        """Say goodbye behind all that is still to be sent; then the session ends."""
        self._goodbye_asked = True
        self._outbox.goodbye(session_pb2.ConnectRequest(goodbye=session_pb2.Goodbye(abandoned=self._agent.abandoned())))

    # ── the three tasks ──

    async def _read_all(self, call: Any, session: Session) -> None:
        while True:
            await self._take(await self._read(call), session)

    async def _write_all(self, call: Any, session: Session) -> None:
        while True:
            frame = await self._outbox.next()
            kind = frame.WhichOneof("frame")
            if kind == "draining":
                session.drain_sent()
            elif kind == "goodbye":
                session.goodbye_sent()
            try:
                await call.write(frame)
                if kind == "result":
                    reach("result sent")
                elif kind == "goodbye":
                    await call.done_writing()
                    reach("goodbye sent")
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return  # the stream is over, and the reader is told why

    async def _keep_time(self, session: Session) -> None:
        while True:
            await asyncio.sleep(session.heartbeat_interval)
            if session.silent:
                raise _Over("the scheduler has left two heartbeats unanswered")
            self._outbox.heartbeat()
            self._agent.tick()

    async def _watch_redial(self) -> None:
        await self._agent.redial.wait()
        raise _Over("to tell the scheduler what ended without a result")

    def _heartbeat(self) -> session_pb2.ConnectRequest:
        assert self._session is not None
        return frames.heartbeat(self._session.beat(self._clock()), self._agent.slots.busy, self._agent.short_of)

    # ── frames ──

    async def _read(self, call: Any) -> session_pb2.ConnectResponse:
        frame = await call.read()
        if frame is grpc.aio.EOF:
            raise _Over("goodbye was said" if self._goodbye_asked else "the scheduler closed the stream")
        assert isinstance(frame, session_pb2.ConnectResponse)
        return frame

    async def _take(self, frame: session_pb2.ConnectResponse, session: Session) -> None:
        kind = frame.WhichOneof("frame")
        if session.state is SessionState.GREETING and kind not in ("welcome", "go_away"):
            raise _Over(f"the scheduler sent {kind} where welcome was expected")
        match kind:
            case "assignments":
                if session.admits(frame.assignments.epoch):
                    self._agent.assigned(frame.assignments.assignments)
                else:
                    log.warning("assignments of an older session dropped", extra={"epoch": frame.assignments.epoch})
            case "result_ack":
                self._agent.acknowledged(frame.result_ack.verdicts)
            case "heartbeat_ack":
                ack = frame.heartbeat_ack
                if session.beat_answered(ack.sequence, wire.seconds(ack.lease), wire.seconds(ack.heartbeat_interval)):
                    await self._agent.lease_moved()
            case "cancel":
                self._agent.cancelled(frame.cancel.jobs)
            case "inventory_request":
                inventory = session_pb2.Inventory(held=self._agent.inventory())
                self._outbox.control(session_pb2.ConnectRequest(inventory=inventory))
            case "drain":
                log.info("the scheduler asks to drain: nothing new is taken")
                self._agent.drain()
            case "drain_ack":
                if session.drain_acked(frame.drain_ack.epoch):
                    self._agent.drain_acknowledged()
            case "go_away":
                if frame.go_away.reason in MOVES and session.state is not SessionState.GREETING:
                    session.sent_away()
                    self._on_sent_away(frame.go_away)
                    return
                if frame.go_away.reason == session_pb2.GO_AWAY_REASON_LEASE_EXPIRED:
                    self._agent.lease_lost(by_scheduler=True)
                raise _Over(f"the scheduler says: {frame.go_away.message}", frame.go_away)
            case "welcome":
                await self._welcomed(frame.welcome, session)
            case _:
                log.warning("a frame of a newer protocol is ignored")

    async def _welcomed(self, welcome: session_pb2.Welcome, session: Session) -> None:
        if agree(PROTOCOL_VERSION, welcome.protocol_version) != welcome.protocol_version:
            raise _Over(
                f"the scheduler speaks version {welcome.protocol_version} of the protocol, this worker "
                f"{PROTOCOL_VERSION}; install the scheduler's version of farhand here"
            )
        session.welcomed(welcome.epoch, wire.seconds(welcome.lease), wire.seconds(welcome.heartbeat_interval))
        self._accepted = True
        await self._agent.lease_moved()
        self._agent.welcomed(welcome.verdicts, self._outbox, welcome.worker_group_uid)
        facts = {"epoch": welcome.epoch, "lease": self._agent.lease.duration, "held": len(welcome.verdicts)}
        log.info("connected", extra=facts)
        self._on_welcome()

    # ── ends ──

    def _ended(self, error: Exception) -> Ended:
        match error:
            case _Over():
                return Ended(error.why, self._accepted, go_away=error.go_away)
            case grpc.aio.AioRpcError():
                remote = remote_error(error)
                return Ended(remote.message or remote.code.name, self._accepted, error=remote)
            case TimeoutError():
                return Ended(f"no answer to hello within {WELCOME_SECONDS:.0f} s", self._accepted)
            case OutboxFull():
                return Ended("the scheduler reads too slowly", self._accepted)
            case IllegalFrame() | IllegalStep():
                return Ended(f"the scheduler broke the protocol: {error}", self._accepted)
        log.error("a session broke; the jobs go on, and another is opened", exc_info=error)
        return Ended(f"{type(error).__name__}: {error}", self._accepted)


async def _until_one_fails(*parts: Coroutine[Any, Any, None]) -> None:
    """Run the parts side by side; the first error ends them all, and is raised.

    Not a TaskGroup: before Python 3.13 one that is cancelled while a part fails loses the cancellation, and a
    worker that stops while its connection breaks would dial for ever.
    """
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if task in done:
            task.result()
