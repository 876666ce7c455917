"""WorkerService: the streams of the workers.

Connect reads one hello, opens the session, and then is two loops: one reads the
worker's frames, the generator itself writes the outbox. Whatever ends one ends
both; what the worker holds stays its own until its lease is over.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from typing import Any

import grpc

from farhand.api.worker.v1 import session_pb2 as pb
from farhand.api.worker.v1 import worker_service_pb2, worker_service_pb2_grpc
from farhand.kernel.errors import InvalidArgument, Overloaded, ShuttingDown, Unavailable, Violation
from farhand.kernel.job_id import decode
from farhand.kernel.protocol import PROTOCOL_VERSION
from farhand.runtime import wire
from farhand.runtime.crash_points import reach
from farhand.runtime.security import Identity, identity
from farhand.scheduler.core.admission import Admission
from farhand.scheduler.core.lease import heartbeat_interval
from farhand.scheduler.core.session import IllegalSessionStep
from farhand.scheduler.loops.frames import GoAway, GoAwayReason
from farhand.scheduler.loops.kills import Kills
from farhand.scheduler.loops.results import Results
from farhand.scheduler.loops.sessions import Sessions
from farhand.scheduler.loops.stream import Stream, Streams
from farhand.scheduler.rpc.append_logs import AppendLogs
from farhand.scheduler.rpc.frames import FRAME_BYTES, completion, encode_frame
from farhand.scheduler.rpc.hello import LONGEST_LEASE_MS, Welcomer, held_jobs

log = logging.getLogger(__name__)

HELLO_SECONDS = 10.0
RESULT_FRAMES_AT_ONCE = 64  # frames of one stream whose results are not committed yet

SHUTDOWN = GoAway(GoAwayReason.SHUTDOWN, "This scheduler is stopping; dial another, or this one again.")

GROUP_DELETED = GoAway(
    GoAwayReason.GROUP_DELETED, "This worker's group was deleted. Stop the worker, or make the group again.", 5.0
)

_VERDICT = {
    "KEEP": pb.VERDICT_ACTION_KEEP,
    "STOP": pb.VERDICT_ACTION_STOP,
    "RESEND": pb.VERDICT_ACTION_RESEND_RESULT,
}


class ProtocolError(Exception):
    """The worker sent what the protocol forbids."""


class WorkerService(worker_service_pb2_grpc.WorkerServiceServicer):
    """See the module. `wake` tells the dispatch that a group may have credit."""

    def __init__(
        self,
        welcomer: Welcomer,
        sessions: Sessions,
        streams: Streams,
        results: Results,
        kills: Kills,
        append_logs: AppendLogs,
        wake: Callable[[list[str]], None],
        admission: Admission,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._welcomer = welcomer
        self._sessions = sessions
        self._streams = streams
        self._results = results
        self._kills = kills
        self._append_logs = append_logs
        self._wake = wake
        self._admission = admission
        self._now = now
        self._stopping = False
        self._held: dict[Stream, None] = {}  # whose calls have not ended, the oldest first
        self._left = asyncio.Event()  # some call ended

    async def send_away(self, within: float) -> None:
        """Take no more streams, and serve those that there are until their workers have others, or so many seconds
        are over: no lease is lost, and no result waits."""
        self._stopping = True
        await self._sessions.send_on(list(self._held), SHUTDOWN)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self._held:
                    self._left.clear()
                    await self._left.wait()
        for stream in self._held:
            log.info("a worker has not left in time", extra={"worker": stream.worker_id})
            stream.outbox.close(SHUTDOWN)

    def groups_changed(self, groups: Iterable[str], declared: Collection[str]) -> None:
        """End the streams of groups (uids) that are gone; those workers keep trying, and are told why."""
        for group in groups:
            for stream in self._streams.of_group(group) if group not in declared else ():
                stream.outbox.close(GROUP_DELETED)

    async def Connect(
        self, request_iterator: AsyncIterator[pb.ConnectRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.ConnectResponse]:
        """One worker's session."""
        if self._stopping:
            raise ShuttingDown("This scheduler is stopping; dial another.", retry_delay=0.5)
        caller = identity(context)
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                first = await anext(aiter(request_iterator))
        except (TimeoutError, StopAsyncIteration):
            raise _violation("frame", f"hello must come first, within {HELLO_SECONDS:.0f} seconds") from None
        if first.WhichOneof("frame") != "hello":
            raise _violation("frame", "the first frame must be hello")
        self._admit(first.hello)
        stream, welcome = await self._open(first.hello, caller)
        reader = asyncio.create_task(self._read(stream, request_iterator), name=f"read {stream.worker_id}")
        self._held[stream] = None
        try:
            yield welcome
            reach("welcome sent")
            await self._kills.resend([stream])
            if self._stopping:
                await self._sessions.send_on([stream], SHUTDOWN)
            while (frame := await stream.outbox.get()) is not None:
                for message in encode_frame(frame, stream.epoch):
                    yield message
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader
            stream.outbox.close()
            del self._held[stream]
            self._left.set()
            await asyncio.shield(self._sessions.closed(stream))

    async def AppendLogs(
        self,
        request_iterator: AsyncIterator[worker_service_pb2.AppendLogsRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> worker_service_pb2.AppendLogsResponse:
        """Store log records."""
        return await self._append_logs.append_logs(request_iterator, identity(context))

    def _admit(self, hello: pb.Hello) -> None:
        staying = len(self._held)
        if staying >= self._admission.most:  # what is leaving, or about to be superseded, doesn't count
            staying = sum(not stream.leaving and stream.worker_id != hello.worker_id for stream in self._held)
        wait = self._admission.admit(self._now(), open_streams=staying, holds_jobs=bool(hello.held))
        if wait is not None:
            raise Overloaded(
                f"This scheduler takes no more workers now; dial again in {wait:.1f} s, or another.", retry_delay=wait
            )

    async def _open(self, hello: pb.Hello, caller: Identity) -> tuple[Stream, pb.ConnectResponse]:
        opening, counted_ms = await self._welcomer.opening(hello, caller)
        try:
            stream, opened, lease_ms = await self._sessions.open(opening, counted_ms)
        except IllegalSessionStep:
            raise _violation("hello.incarnation", "said goodbye before; start the worker anew") from None
        lease = lease_ms / 1000
        return stream, pb.ConnectResponse(
            welcome=pb.Welcome(
                epoch=opened.epoch,
                lease=wire.duration(lease),
                heartbeat_interval=wire.duration(heartbeat_interval(lease)),
                verdicts=[
                    pb.Verdict(job_id=held.job_id, fence=held.fence, action=_VERDICT[opened.verdicts[held.fence]])
                    for held in hello.held
                ],
                worker_group_uid=opening.group_uid,
                protocol_version=min(PROTOCOL_VERSION, hello.protocol_version),
            )
        )

    async def _read(self, stream: Stream, requests: AsyncIterator[pb.ConnectRequest]) -> None:
        try:
            async with asyncio.TaskGroup() as writes:
                room = asyncio.Semaphore(RESULT_FRAMES_AT_ONCE)
                async for request in requests:
                    stream.frames += 1
                    await self._take(stream, request, writes, room)
        except* (ProtocolError, InvalidArgument) as errors:
            stream.outbox.close(GoAway(GoAwayReason.PROTOCOL_ERROR, str(errors.exceptions[0])))
        except* Unavailable as errors:
            log.info("a stream ends with the database", extra={"worker": stream.worker_id})
            stream.outbox.close(GoAway(GoAwayReason.SHUTDOWN, str(errors.exceptions[0]), 0.5))
        except* ShuttingDown:
            stream.outbox.close(SHUTDOWN)
        except* grpc.aio.UsageError:
            pass  # the call is over
        except* Exception:
            log.exception("a worker's frame could not be handled", extra={"worker": stream.worker_id})
            stream.outbox.close(
                GoAway(GoAwayReason.PROTOCOL_ERROR, "The scheduler could not handle a frame; see its log.", 5)
            )
        finally:
            stream.outbox.close()

    async def _take(
        self, stream: Stream, request: pb.ConnectRequest, writes: asyncio.TaskGroup, room: asyncio.Semaphore
    ) -> None:
        match request.WhichOneof("frame"):
            case "credit":
                stream.limit = max(stream.limit, request.credit.assignment_limit)
                self._wake([stream.group_uid])
            case "assignment_ack":
                pass  # the stream is ordered and a resume lists what arrived, so nothing depends on it
            case "started":
                self._results.started(stream, _refs(request.started.jobs))
            case "result":
                if request.ByteSize() > FRAME_BYTES:
                    raise ProtocolError(
                        f"A frame has {request.ByteSize():,} bytes; at most {FRAME_BYTES:,} are allowed."
                    )
                await room.acquire()
                writes.create_task(self._record(stream, request.result, room))
            case "heartbeat":
                beat = request.heartbeat
                counted = int(wire.seconds(beat.lease) * 1000)
                if not 0 <= counted <= LONGEST_LEASE_MS:  # nothing could be taken from it for as long as it says
                    raise ProtocolError("A heartbeat counts with a lease that is not between 0 and 7 days.")
                if bool(beat.pressure) != bool(stream.pressure):
                    what = f"takes no new jobs, short of {beat.pressure[:200]}" if beat.pressure else "takes jobs again"
                    log.info(f"a worker {what}", extra={"worker": stream.worker_id})
                stream.pressure = beat.pressure[:200]
                writes.create_task(
                    self._sessions.heartbeat(
                        stream, beat.sequence, beat.answered_sequence, counted, max(0, min(beat.busy_slots, 10_000))
                    )
                )
            case "inventory":
                await self._sessions.inventory(stream, held_jobs(request.inventory.held))
            case "cancel_ack":
                refs = [ref for ref in _refs(request.cancel_ack.jobs) if ref[1] in stream.outstanding]
                await self._kills.confirm(refs)  # only what is this worker's: another's kill is still to be sent (P9)
            case "draining":
                await self._sessions.drain(stream, asked_by_worker=True)
            case "goodbye":
                unstarted = [
                    key
                    for held in request.goodbye.abandoned
                    if held.phase == pb.HELD_PHASE_RECEIVED and (key := decode(held.job_id)) is not None
                ]
                await self._sessions.goodbye(stream, unstarted)
                stream.outbox.close()
            case "hello":
                raise ProtocolError("hello came a second time on one stream.")
            case None:
                raise ProtocolError("A frame without content, or of a newer protocol, came.")

    async def _record(self, stream: Stream, results: pb.Results, room: asyncio.Semaphore) -> None:
        try:
            returned = [result for result in results.results if result.returned]
            if returned:
                await self._return(stream, returned)
            completions = [
                found
                for result in results.results
                if not result.returned and (found := completion(result, stream.worker_id)) is not None
            ]
            if len(completions) + len(returned) < len(results.results):
                raise ProtocolError("A result names no job, or has no outcome.")
            if completions:
                await self._results.record(stream, completions)
        finally:
            room.release()

    async def _return(self, stream: Stream, returned: list[pb.Result]) -> None:
        # Only what this stream's worker has under that very fence (P4).
        keys = [
            job.key
            for result in returned
            if (job := stream.outstanding.get(result.fence)) is not None and job.key == decode(result.job_id)
        ]
        if keys:
            await self._sessions.return_unstarted(stream, keys)
        for result in returned:
            stream.outstanding.pop(result.fence, None)


def _refs(jobs: Any) -> list[tuple[int, int]]:
    return [(key, job.fence) for job in jobs if (key := decode(job.job_id)) is not None]


def _violation(path: str, description: str) -> InvalidArgument:
    return InvalidArgument.of(Violation(path, description))
