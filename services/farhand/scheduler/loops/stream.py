"""One worker's stream as the loops see it: its credit, what it holds, and its outbox.

The outbox has two lanes: heartbeats and the end of the stream overtake, so bulk
never starves liveness. It is bounded; a worker that reads too slowly is sent away.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from farhand.scheduler.core.doubt import Doubt
from farhand.scheduler.core.lease import LeaseTerms
from farhand.scheduler.loops.frames import Assignments, Frame, GoAway, GoAwayReason

OUTBOX_FRAMES = 1000
OUTBOX_BYTES = 16 << 20  # of tasks that wait to be sent; with more, nothing is claimed for the stream
MOST_OUTSTANDING = 20_000  # assignments without a result: twice the most slots that a worker has


class Outbox:
    """Frames on their way to a worker, in order within each lane."""

    def __init__(self, limit: int = OUTBOX_FRAMES) -> None:
        self._urgent: deque[Frame] = deque()
        self._frames: deque[Frame] = deque()
        self._limit = limit
        self._wake = asyncio.Event()
        self._last: GoAway | None = None
        self.bytes = 0  # of the tasks in it
        self.closed = False

    def put(self, frame: Frame) -> bool:
        """Add a frame; False: it is full, and the session must end."""
        if self.closed:
            return True
        if len(self._frames) >= self._limit:
            return False
        self._frames.append(frame)
        self.bytes += _weight(frame)
        self._wake.set()
        return True

    def put_urgent(self, frame: Frame) -> None:
        """Add a frame that overtakes. Of too many the last are dropped: a heartbeat without an answer extends no
        lease, and who reads none needs none."""
        if not self.closed and len(self._urgent) < self._limit:
            self._urgent.append(frame)
            self._wake.set()

    def close(self, last: GoAway | None = None) -> None:
        """End the stream with this frame, dropping what was not sent. What it held is persisted anyway."""
        if not self.closed:
            self.closed = True
            self._last = last
            self._urgent.clear()
            self._frames.clear()
            self.bytes = 0
            self._wake.set()

    async def get(self) -> Frame | None:
        """The next frame; None: the stream is over."""
        while True:
            if self._urgent:
                return self._urgent.popleft()
            if self._frames:
                frame = self._frames.popleft()
                self.bytes -= _weight(frame)
                return frame
            if self.closed:
                last, self._last = self._last, None
                return last
            self._wake.clear()
            await self._wake.wait()


def _weight(frame: Frame) -> int:
    return sum(len(job.task) for job in frame.jobs) if isinstance(frame, Assignments) else 0


class Outstanding(NamedTuple):
    """An assignment that this stream's worker has, by our word."""

    key: int
    traceparent: str | None


@dataclass(eq=False, slots=True)
class Stream:
    """A session whose stream this replica holds."""

    session_id: int
    epoch: int
    worker_id: str
    group_uid: str
    subject: str
    tenants: frozenset[str] | None  # that the credential admits; None: every tenant
    task_types: frozenset[str]
    terms: LeaseTerms
    outbox: Outbox
    draining: bool = False
    leaving: bool = False  # its worker is sent on; no assignment follows that go_away
    turn: int = 0  # when it was last given a job; the lowest is the next
    sent: int = 0  # assignments sent on this stream
    limit: int = 0  # the worker's cumulative credit
    frames: int = 0  # that came from the worker
    outstanding: dict[int, Outstanding] = field(default_factory=dict)  # by fence
    pressure: str = ""  # what the worker's machine is short of, by its own word
    doubt: Doubt = field(default_factory=Doubt)
    asked: frozenset[int] | None = None  # fences that were sent before the inventory was asked for; None: it was not

    @property
    def credit(self) -> int:
        """How many more assignments it takes now (P7). However much it asks for, there is an end to what is kept
        for one worker."""
        if self.draining or self.leaving or self.outbox.closed or self.outbox.bytes > OUTBOX_BYTES:
            return 0
        return max(0, min(self.limit - self.sent, MOST_OUTSTANDING - len(self.outstanding)))

    def put(self, frame: Frame) -> None:
        """Send a frame; a worker that does not read is sent away."""
        if not self.outbox.put(frame):
            self.outbox.close(GoAway(GoAwayReason.SLOW_CONSUMER, "This worker reads too slowly; it is to dial again."))

    def admits(self, tenant: str, task_type: str) -> bool:
        """Whether its credential and its task types let it run such a job (P10)."""
        return task_type in self.task_types and (self.tenants is None or tenant in self.tenants)


class Streams:
    """The streams of this replica, by session."""

    def __init__(self) -> None:
        self._by_session: dict[int, Stream] = {}
        self._by_group: dict[str, set[Stream]] = {}

    def add(self, stream: Stream) -> Stream | None:
        """Add one; answers the older stream of the same session, which is out."""
        older = self._by_session.get(stream.session_id)
        if older is not None:
            self.remove(older)
        self._by_session[stream.session_id] = stream
        self._by_group.setdefault(stream.group_uid, set()).add(stream)
        return older

    def remove(self, stream: Stream) -> None:
        """Forget one; harmless when it is forgotten already."""
        if self._by_session.get(stream.session_id) is stream:
            del self._by_session[stream.session_id]
            self._by_group[stream.group_uid].discard(stream)

    def get(self, session_id: int) -> Stream | None:
        """The stream of a session."""
        return self._by_session.get(session_id)

    def of_group(self, group_uid: str) -> list[Stream]:
        """The streams of a group's workers."""
        return list(self._by_group.get(group_uid, ()))

    def all(self) -> list[Stream]:
        """Every stream."""
        return list(self._by_session.values())

    def groups(self) -> list[str]:
        """The groups that have a stream here."""
        return [uid for uid, streams in self._by_group.items() if streams]
