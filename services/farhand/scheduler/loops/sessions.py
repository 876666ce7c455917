"""Sessions of the workers whose streams this replica holds, and the watch over everybody's leases.

A Connect opens a session, heartbeats renew it in one shared transaction, a drain or
a goodbye changes it; what that does to jobs is decided in the database
(store.sessions) and told to the other loops here.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import asyncpg

from farhand.kernel.errors import Unavailable
from farhand.runtime.crash_points import reach
from farhand.runtime.database import database_error
from farhand.scheduler.core.lease import LeaseTerms, LeaseWatch, Renewal, Sight, heartbeat_interval
from farhand.scheduler.core.session import SessionEvent
from farhand.scheduler.core.silence import Heard, Silence, deaf
from farhand.scheduler.loops.frames import (
    Cancels,
    Drain,
    DrainAck,
    GoAway,
    GoAwayReason,
    HeartbeatAck,
    InventoryRequest,
)
from farhand.scheduler.loops.group_commit import GroupCommit, HotConnection
from farhand.scheduler.loops.stream import Outbox, Outstanding, Stream, Streams
from farhand.scheduler.store import sessions as store
from farhand.scheduler.store.groups import EncodeLog, settle_group
from farhand.scheduler.store.sessions import Beat, Left, Opened, Opening
from farhand.scheduler.store.sql import SQL

log = logging.getLogger(__name__)

SUPERSEDED = GoAway(GoAwayReason.SUPERSEDED, "Another stream of this worker has taken over; this one is over.")
_COMMITTED = {
    SessionEvent.DRAIN: "drain committed",
    SessionEvent.GOODBYE: "goodbye committed",
    SessionEvent.FENCE: "fence committed",
    SessionEvent.CLOSE: "stream's end noted",
}  # crash points

EXPIRED = GoAway(GoAwayReason.LEASE_EXPIRED, "The lease of this session is over; dial again, and stop what you hold.")
SILENT = GoAway(GoAwayReason.SLOW_CONSUMER, "Nothing came from this worker for three heartbeats; it is to dial again.")
DEAF = GoAway(GoAwayReason.SLOW_CONSUMER, "This worker's heartbeats say that it hears no answers; it is to dial again.")


class Listener(Protocol):
    """Who wants to know what sessions did to jobs."""

    def moved(self, groups: Sequence[str], ended: Sequence[int], returned: Sequence[int]) -> None:
        """In these groups (uids) these jobs (keys) ended, and these wait again."""

    def sessions_changed(self, sessions: Sequence[int]) -> None:
        """Other replicas are to look at these."""

    async def settled(self) -> None:
        """Returns when no claim is on its way to an outbox."""


class Sessions:
    """See the module. `lease_of` tells a group's lease in ms."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        renewals: HotConnection,
        streams: Streams,
        listener: Listener,
        lease_of: Callable[[str], int],
        *,
        writer: str,
        encode_log: EncodeLog,
    ) -> None:
        self._pool = pool
        self._streams = streams
        self._listener = listener
        self._lease_of = lease_of
        self._writer = writer
        self._encode_log = encode_log
        self._watch = LeaseWatch()
        self._sight = Sight()
        self._silence = Silence()
        self.beats: GroupCommit[Beat, bool] = GroupCommit("renew", renewals, _renew)

    async def open(self, opening: Opening, counted_ms: int) -> tuple[Stream, Opened, int]:
        """Open a session. `counted_ms` is the lease that the worker counts with, 0: none yet. Answers the stream,
        what was decided, and the lease to tell. Raises WorkerIdTaken, Unavailable."""
        wanted = self._lease_of(opening.group_uid)
        terms = LeaseTerms(counted_ms)
        assert opening.lease_ms == max(counted_ms, wanted)
        terms.offer(0, wanted)
        async with self._database() as connection:
            opened = await store.open_session(connection, opening, self._writer, self._encode_log)
        reach("session opened")
        stream = Stream(
            session_id=opened.id,
            epoch=opened.epoch,
            worker_id=opening.worker_id,
            group_uid=opening.group_uid,
            subject=opening.subject,
            tenants=None if opening.tenants is None else frozenset(opening.tenants),
            task_types=frozenset(opening.task_types),
            terms=terms,
            outbox=Outbox(),
            draining=opened.draining,
        )
        for job in opened.kept:
            stream.outstanding[job.fence] = Outstanding(job.key, job.traceparent)
        if opened.draining and not opening.draining:  # an operator said so while no stream was there to tell it
            stream.put(Drain())
            stream.put(DrainAck())
        for session_id in opened.superseded:
            older = self._streams.get(session_id)
            if older is not None and older.epoch < opened.epoch:
                older.outbox.close(SUPERSEDED)
        self._streams.add(stream)
        if opened.superseded:
            self._listener.sessions_changed(opened.superseded)
        self._listener.moved([opening.group_uid], opened.ended, opened.returned)
        log.info(
            "worker connected",
            extra={
                "worker": opening.worker_id,
                "session": opened.id,
                "epoch": opened.epoch,
                "kept": len(opened.kept),
                "given_back": len(opened.returned),
            },
        )
        return stream, opened, wanted

    async def heartbeat(self, stream: Stream, sequence: int, answered: int, counted_ms: int, busy: int) -> None:
        """Record a heartbeat and answer it, or end the stream when its session is over. Raises Unavailable."""
        if deaf(sequence, answered):
            await self._give_up(stream, DEAF)
            return
        stream.terms.heard(answered, counted_ms)
        doubtful = stream.doubt.beat(stream.outstanding, busy)  # as it stands now, not once this is committed
        wanted = self._lease_of(stream.group_uid)
        longest = stream.terms.offer(sequence, wanted)
        if await self.beats.put(Beat(stream.session_id, stream.epoch, longest, busy)):
            reach("renewal committed")
            stream.outbox.put_urgent(HeartbeatAck(sequence, wanted / 1000, heartbeat_interval(wanted / 1000)))
            if doubtful:
                self.ask(stream)
        else:
            await self.recheck([stream.session_id])

    def ask(self, stream: Stream) -> None:
        """What the worker has is in doubt: ask it. The request is a mark in the ordered stream: whatever was sent
        before it has arrived when the worker answers, so only that is judged by the answer."""
        stream.asked = frozenset(stream.outstanding)
        stream.put(InventoryRequest())

    async def inventory(self, stream: Stream, held: Mapping[int, tuple[int, str]]) -> None:
        """The worker's answer, fence → (key, phase): mend by difference. What was sent before the question and is not
        held goes back to its place at no cost; what is held and not assigned is to end. Raises Unavailable."""
        asked, stream.asked = stream.asked, None
        if asked is None:
            return  # nobody asked
        async with self._database() as connection:
            left, strays = await store.mend(
                connection, stream.session_id, stream.epoch, asked, held, self._writer, self._encode_log
            )
        if not left.changed:
            return
        reach("difference mended")
        lost = [fence for fence in asked if fence not in held]
        for fence in lost:
            stream.outstanding.pop(fence, None)
        if left.returned or left.ended or strays:
            log.warning(
                "a worker did not hold what it was to hold",
                extra={"worker": stream.worker_id, "given_back": len(left.returned), "ended": len(strays)},
            )
        if strays:
            stream.put(Cancels([(key, fence, 0) for key, fence in strays]))
        self._tell(left)

    async def drain(self, stream: Stream, *, asked_by_worker: bool) -> None:
        """No more work for this incarnation; the acknowledgement is the line behind which no assignment can be in
        flight (P8). Raises Unavailable."""
        await self._change(stream.session_id, stream.epoch, SessionEvent.DRAIN)
        stream.draining = True
        await self._listener.settled()
        if not asked_by_worker:
            stream.put(Drain())
        stream.put(DrainAck())
        reach("drain answered")

    async def send_on(self, streams: Sequence[Stream], why: GoAway) -> None:
        """Ask the workers of these streams to open others, and serve these meanwhile. go_away is a line: nothing is
        assigned behind it, so a worker knows all that it was given when it says hello elsewhere."""
        fresh = [stream for stream in streams if not stream.leaving]
        for stream in fresh:
            stream.leaving = True
        await self._listener.settled()
        for stream in fresh:
            stream.put(why)
            reach("worker sent on")

    async def drain_worker(self, session_id: int) -> None:
        """An operator's drain, wherever the stream is. Raises Unavailable."""
        await self._change(session_id, None, SessionEvent.DRAIN)
        self._listener.sessions_changed([session_id])
        await self.recheck([session_id])

    async def fence_worker(self, session_id: int) -> int:
        """An operator's word that a worker is dead: its jobs are given back now. Answers how many. Raises
        Unavailable."""
        left = await self._change(session_id, None, SessionEvent.FENCE)
        log.warning("a worker was fenced", extra={"session": session_id, "given_back": len(left.returned)})
        self._listener.sessions_changed([session_id])
        await self.recheck([session_id])
        return len(left.returned) + len(left.ended)

    async def goodbye(self, stream: Stream, unstarted: Sequence[int]) -> None:
        """The worker stops; what it holds is given back. Raises Unavailable."""
        await self._change(stream.session_id, stream.epoch, SessionEvent.GOODBYE, unstarted)
        log.info("worker stopped", extra={"worker": stream.worker_id, "session": stream.session_id})

    async def closed(self, stream: Stream) -> None:
        """A stream ended, for whatever reason."""
        self._streams.remove(stream)
        try:
            await self._change(stream.session_id, stream.epoch, SessionEvent.CLOSE)
        except Unavailable:
            log.info("a stream's end could not be noted; its lease tells", extra={"session": stream.session_id})

    async def part_from_silent(self, now: float) -> None:
        """One look at the streams that are here: end those on which nothing comes. Their workers are DISCONNECTED from
        now on, also where gRPC can't even write the end. `now` is this process's monotonic clock, seconds."""
        heard = [
            Heard(stream.session_id, stream.epoch, stream.frames, stream.terms.longest / 1000)
            for stream in self._streams.all()
        ]
        for session_id in self._silence.look(heard, now):
            if (stream := self._streams.get(session_id)) is not None:
                await self._give_up(stream, SILENT)

    async def _give_up(self, stream: Stream, why: GoAway) -> None:
        if self._streams.get(stream.session_id) is not stream:
            return  # done already, or superseded
        log.warning(why.message, extra={"worker": stream.worker_id, "session": stream.session_id})
        await self.closed(stream)
        stream.outbox.close(why)

    async def recheck(self, sessions: Sequence[int]) -> None:
        """Compare local streams with the database: end those that are out, tell those that drain."""
        local = [stream for id in sessions if (stream := self._streams.get(id))]
        for stream in local:
            async with self._database() as connection:
                row = await connection.fetchrow(
                    "SELECT epoch, state, draining FROM scheduler.session WHERE id = $1", stream.session_id
                )
            if row is None or row["epoch"] != stream.epoch or row["state"] == "DISCONNECTED":
                stream.outbox.close(SUPERSEDED)
            elif row["state"] in ("LOST", "STOPPED"):
                stream.outbox.close(EXPIRED)
            elif row["draining"] and not stream.draining:
                stream.draining = True
                await self._listener.settled()
                stream.put(Drain())
                stream.put(DrainAck())

    async def return_unstarted(self, stream: Stream, keys: Sequence[int]) -> None:
        """Jobs that the worker hands back unstarted. Raises Unavailable."""
        async with self._database() as connection:
            left = await store.return_unstarted(connection, stream.session_id, keys, self._writer, self._encode_log)
        reach("return committed")
        self._tell(left)

    async def expire(self, now: Callable[[], float]) -> None:
        """One look at everybody's leases. `now` is this process's monotonic clock, seconds."""
        before = now()
        async with self._database() as connection:
            rows = await store.living_sessions(connection)
        self._sight.look(before)
        groups = {renewal.session_id: group for renewal, group in rows}
        for renewal in self._watch.observe([renewal for renewal, _ in rows], before):
            await self._expire(renewal, groups[renewal.session_id])

    async def _expire(self, renewal: Renewal, group_uid: str) -> None:
        async with self._database() as connection:
            left = await store.expire_session(connection, renewal, group_uid, self._writer, self._encode_log)
        if left.changed:
            reach("lease expired")
            log.warning(
                "a worker's lease is over",
                extra={"session": renewal.session_id, "ended": len(left.ended), "given_back": len(left.returned)},
            )
            self._tell(left)
            self._listener.sessions_changed([renewal.session_id])
            await self.recheck([renewal.session_id])

    async def settle(self) -> None:
        """End the waiting jobs of groups that lost their last available worker (P11), as far as `expire` sees."""
        if not self._sight.clear:
            return
        async with self._database() as connection:
            groups = [row["group_uid"] for row in await connection.fetch(SQL["groups_to_settle"])]
            for uid in groups:
                async with connection.transaction():
                    ended = await settle_group(connection, uid, self._writer, self._encode_log)
                if ended:
                    reach("fallback settled")
                self._listener.moved([uid], ended, [])

    async def _change(
        self, session_id: int, epoch: int | None, event: SessionEvent, unstarted: Sequence[int] = ()
    ) -> Left:
        async with self._database() as connection:
            left = await store.change_session(
                connection, session_id, epoch, event, self._writer, self._encode_log, unstarted=unstarted
            )
        if left.changed:
            reach(_COMMITTED[event])
        self._tell(left)
        return left

    def _tell(self, left: Left) -> None:
        if left.changed:
            self._listener.moved([left.group_uid], left.ended, left.returned)

    def _database(self) -> "_Lent":
        return _Lent(self._pool)


class _Lent:
    """A pooled connection whose loss is `Unavailable`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._lease = pool.acquire()

    async def __aenter__(self) -> asyncpg.Connection:
        try:
            return await self._lease.__aenter__()
        except Exception as error:
            raise database_error(error) or error from error

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        await self._lease.__aexit__(kind, error, trace)
        if isinstance(error, Exception) and (lost := database_error(error)) is not None:
            raise lost from error


async def _renew(connection: asyncpg.Connection, beats: Sequence[Beat]) -> list[bool]:
    alive = await store.renew(connection, beats)
    return [beat.session_id in alive for beat in beats]
