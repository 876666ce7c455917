"""What one session has yet to send, and in which order.

Heartbeats overtake everything, so bulk never starves liveness; the rest goes in
as few frames as possible, each under 1 MiB. Nothing here is the only copy: what a
lost session leaves unsent is in slots.py and the result journal, and the next
session sends it. The outbox is bounded, since what is held is; only control
frames could pile up behind a scheduler that doesn't read, and they end the session.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from farhand.api.worker.v1 import session_pb2
from farhand.worker.core.slots import JobKey
from farhand.worker.frames import FRAME_LIMIT, job_refs

CONTROL_LIMIT = 1_000
RESULTS_BYTES = FRAME_LIMIT - 64 * 1024
REFS_IN_FRAME = 10_000  # a job id and a fence are some 30 bytes


class OutboxFull(Exception):
    """The scheduler reads too slowly."""


class Outbox:
    """Frames of one session, made when they are sent."""

    def __init__(self, heartbeat: Callable[[], session_pb2.ConnectRequest]) -> None:
        """`heartbeat` makes the frame; called at the moment of sending, from which the lease counts."""
        self._heartbeat = heartbeat
        self._heartbeat_due = False
        self._control: deque[session_pb2.ConnectRequest] = deque()
        self._acks: list[int] = []
        self._started: dict[JobKey, None] = {}
        self._results: deque[session_pb2.Result] = deque()
        self._credit: int | None = None
        self._credit_told = 0
        self._goodbye: session_pb2.ConnectRequest | None = None
        self._ready = asyncio.Event()

    def heartbeat(self) -> None:
        """A heartbeat is due."""
        self._heartbeat_due = True
        self._ready.set()

    def control(self, frame: session_pb2.ConnectRequest) -> None:
        """A frame in its place among others like it. Raises OutboxFull."""
        if len(self._control) >= CONTROL_LIMIT:
            raise OutboxFull
        self._control.append(frame)
        self._ready.set()

    def arrived(self, fences: Iterable[int]) -> None:
        """Assignments arrived."""
        self._acks += fences
        self._ready.set()

    def started(self, key: JobKey) -> None:
        """A job started. Not told where its result goes out first: that says it too."""
        self._started[key] = None
        self._ready.set()

    def results(self, results: Iterable[session_pb2.Result]) -> None:
        """Jobs ended; kept on disk already."""
        for result in results:
            self._started.pop((result.job_id, result.fence), None)
            self._results.append(result)
        self._ready.set()

    def credit(self, limit: int) -> None:
        """The credit is now this; told where it is news."""
        if limit != self._credit_told:
            self._credit_told = self._credit = limit
            self._ready.set()

    def goodbye(self, frame: session_pb2.ConnectRequest) -> None:
        """The last frame, behind all others."""
        self._goodbye = frame
        self._ready.set()

    async def next(self) -> session_pb2.ConnectRequest:
        """The next frame to send; waits for one."""
        while (frame := self._take()) is None:
            self._ready.clear()
            await self._ready.wait()
        return frame

    def _take(self) -> session_pb2.ConnectRequest | None:
        if self._heartbeat_due:
            self._heartbeat_due = False
            return self._heartbeat()
        if self._control:
            return self._control.popleft()
        if self._acks:
            fences, self._acks = self._acks, []
            return session_pb2.ConnectRequest(assignment_ack=session_pb2.AssignmentAck(fences=fences))
        if self._started:
            keys = list(self._started)[:REFS_IN_FRAME]
            for key in keys:
                del self._started[key]
            return session_pb2.ConnectRequest(started=session_pb2.Started(jobs=job_refs(keys)))
        if self._results:
            return session_pb2.ConnectRequest(result=session_pb2.Results(results=self._take_results()))
        if self._credit is not None:
            limit, self._credit = self._credit, None
            return session_pb2.ConnectRequest(credit=session_pb2.Credit(assignment_limit=limit))
        frame, self._goodbye = self._goodbye, None
        return frame

    def _take_results(self) -> list[session_pb2.Result]:
        taken: list[session_pb2.Result] = []
        room = RESULTS_BYTES
        while self._results:
            room -= self._results[0].ByteSize() + 8
            if room < 0 and taken:
                break
            taken.append(self._results.popleft())
        return taken
