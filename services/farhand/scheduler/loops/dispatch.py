"""Assignment: waiting jobs meet free slots, first in first out.

One claim loop per replica. A claim locks its group, takes the oldest jobs that the
workers here may run, matches them to credit, commits, and only then sends them
(design.md, rules 3, 5; Order). What committed without our hearing of it, because
the connection broke, is found again by asking what our sessions hold.

Secrets are opened for the frame that carries a job, and nowhere else. A job whose
secrets can't be opened ends where it waits.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from asyncpg import Connection, Record

from farhand.kernel.errors import Unavailable
from farhand.runtime.crash_points import reach
from farhand.runtime.database import database_error
from farhand.scheduler.core.matching import Seat, closed_lanes, match
from farhand.scheduler.loops import tracing
from farhand.scheduler.loops.frames import Assignments, GoAway, GoAwayReason
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.loops.secret_inputs import UNREADABLE, Opened, SecretInputs
from farhand.scheduler.loops.stream import Outstanding, Stream, Streams
from farhand.scheduler.store.groups import EncodeLog, Ending, Lane, end_waiting, lanes_of
from farhand.scheduler.store.queue import Claimed, assign, assigned_to, heads, living_seats, lock_for_claim
from farhand.scheduler.store.tenant_quotas import running_limits

log = logging.getLogger(__name__)

CLAIM_JOBS = 1000
CLAIM_BYTES = 8 << 20
POLL_SECONDS = 1.0

AGAIN = GoAway(GoAwayReason.SHUTDOWN, "The scheduler lost track of what this worker has; it is to dial again.")


class Dispatch:
    """See the module."""

    def __init__(
        self,
        connection: HotConnection,
        streams: Streams,
        secrets: SecretInputs,
        *,
        writer: str,
        encode_log: EncodeLog,
        on_assigned: Callable[[list[int]], None],
        on_ended: Callable[[list[int]], None],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._connection = connection
        self._streams = streams
        self._secrets = secrets
        self._writer = writer
        self._encode_log = encode_log
        self._on_assigned = on_assigned
        self._on_ended = on_ended
        self._jitter = jitter
        self._due: set[str] = set()
        self._doubtful = False
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._turns = 0
        self._stopped = False

    def wake(self, groups: Iterable[str]) -> None:
        """Something may be assignable in these groups."""
        self._due.update(groups)
        self._wake.set()

    def stop(self) -> None:
        """Claim nothing any more; the first step of a shutdown."""
        self._stopped = True

    async def settled(self) -> None:
        """Returns when no claim that had begun is still on its way to an outbox. Claims that begin later don't
        matter to who waits here: they see in the database what it committed before."""
        await self._idle.wait()

    async def run(self) -> None:
        """Claim until cancelled: when woken, and by a jittered poll as a guarantee."""
        while True:
            try:
                async with asyncio.timeout(POLL_SECONDS * (0.75 + self._jitter() / 2)):
                    await self._wake.wait()
            except TimeoutError:
                self._due.update(self._streams.groups())
            self._wake.clear()
            try:
                await self.once()
                continue
            except Unavailable as error:
                log.warning("no assignments: the database is away", extra={"reason": str(error)})
            except Exception:  # a full disk, say: the streams and all that runs are not to fall for it
                log.exception("a claim failed; it is made again")
            await asyncio.sleep(0.2 + self._jitter() / 5)
            self._wake.set()

    async def once(self) -> None:
        """Serve every group that is due. Raises Unavailable when the database is away."""
        try:
            if self._doubtful:
                with self._in_flight():
                    await self._recover()
            while self._due and not self._stopped:
                group = self._due.pop()
                try:
                    with self._in_flight():
                        more = await self._claim(group)
                    if more:
                        self._due.add(group)
                except BaseException:
                    self._due.add(group)
                    raise
        except asyncio.CancelledError:
            self._connection.drop()
            raise
        except Exception as error:
            self._connection.drop()
            self._doubtful = True
            raise database_error(error) or error from error

    @contextlib.contextmanager
    def _in_flight(self) -> Iterator[None]:
        """Whoever waits for `settled` goes on after this, also where another claim follows at once."""
        self._idle.clear()
        try:
            yield
        finally:
            self._idle.set()

    async def _claim(self, group: str) -> bool:
        """One claim. Answers whether there may be more to claim at once: also where the jobs that were found are
        those of a tenant that has reached its limit with this, since the next claim looks behind them."""
        streams = {stream.session_id: stream for stream in self._streams.of_group(group) if stream.credit}
        if not streams:
            return False
        connection = await self._connection.get()
        async with connection.transaction():
            row = await lock_for_claim(connection, group)
            if row is None or row["paused"]:
                return False
            lanes = {lane.id: lane for lane in await lanes_of(connection, group)}
            allowed, newest = row["allowed_tenants"], row["newest"]
            limits = await running_limits(connection, row, group, list(lanes.values()))
            closed = closed_lanes(limits)
            living = await living_seats(connection, {id: stream.epoch for id, stream in streams.items()})
            open_lanes = [
                lane for lane in lanes.values() if (not allowed or lane.tenant in allowed) and lane.id not in closed
            ]
            seats = [
                Seat(
                    id,
                    stream.credit,
                    frozenset(lane.id for lane in open_lanes if stream.admits(lane.tenant, lane.task_type)),
                )
                for id, stream in sorted(streams.items(), key=lambda entry: entry[1].turn)
                if id in living
            ]
            wanted = frozenset[int]().union(*(seat.lanes for seat in seats))
            count = min(CLAIM_JOBS, sum(seat.credit for seat in seats))
            if not wanted or not count:
                return False
            found = await heads(connection, sorted(wanted), count, CLAIM_BYTES)
            # A lane may have come since the lanes were read; its jobs are younger than the lock, so nothing that
            # is younger may go before the next look (P5).
            rows = [row for row in found if row["key"] <= newest]
            opened = await self._opened(connection, [(row["secrets_of"], row["lane_id"]) for row in rows], lanes)
            claimed: list[Claimed] = []
            if not (ended := await self._end_unreadable(connection, rows, opened)):
                matches = match([row["lane_id"] for row in rows], seats, limits)
                if not matches:
                    return False
                claimed = await assign(
                    connection, [rows[m.place] for m in matches], [m.session_id for m in matches], self._writer
                )
        if ended:
            self._on_ended(ended)
            return True  # the others, with the next claim
        reach("claim committed")
        self._send(_with_secrets(claimed, opened), lanes, streams)
        reach("assignments sent")
        return len(found) >= count or sum(len(row["task"]) for row in found) >= CLAIM_BYTES // 2

    async def _opened(
        self, connection: Connection, jobs: Iterable[tuple[int | None, int]], lanes: Mapping[int, Lane]
    ) -> Opened:
        """The secrets of executions, for their jobs, given as (execution or None, lane)."""
        tenants = {execution: lanes[lane].tenant for execution, lane in jobs if execution is not None}
        return await self._secrets.open(connection, tenants) if tenants else {}

    async def _end_unreadable(self, connection: Connection, rows: Sequence[Record], opened: Opened) -> list[int]:
        """End those of the waiting jobs whose secrets can't be opened. In the claim's transaction: they were there
        to be claimed, so nobody else has them. Answers their keys."""
        ended: list[int] = []
        for row in rows:
            if isinstance(why := opened.get(row["secrets_of"]), str):
                ending = Ending("FAILED", UNREADABLE, why, self._encode_log(why))
                ended += await end_waiting(connection, [(row["lane_id"], row["key"])], ending, self._writer)
        return ended

    def _send(self, claimed: Sequence[Claimed], lanes: Mapping[int, Lane], streams: Mapping[int, Stream]) -> None:
        """Send jobs to the very streams that they were assigned to: a newer one of the same session has settled
        in its Connect what becomes of them, and may have given them to others (P1)."""
        by_session: dict[int, list[Claimed]] = {}
        for job in claimed:
            by_session.setdefault(job.session_id, []).append(job)
        for session_id, jobs in by_session.items():
            stream = streams[session_id]
            if stream.outbox.closed:
                continue  # the next Connect, or the lease, gives them back
            self._turns += 1
            stream.turn = self._turns
            stream.sent += len(jobs)
            for job in jobs:
                stream.outstanding[job.fence] = Outstanding(job.key, job.traceparent)
            tracing.assigned(jobs, stream.worker_id)
            stream.put(Assignments(jobs, [lanes[job.lane_id].tenant for job in jobs]))
        self._on_assigned([job.key for job in claimed])

    async def _recover(self) -> None:
        """After a broken connection: send what committed without our knowing."""
        connection = await self._connection.get()
        streams = {stream.session_id: stream for stream in self._streams.all()}
        # Before the question: a result that is recorded meanwhile must not make its job look unsent.
        known = {id: set(stream.outstanding) for id, stream in streams.items()}
        unsent = [job for job in await assigned_to(connection, list(streams)) if job.fence not in known[job.session_id]]
        lanes: dict[int, Lane] = {}
        for group in {streams[job.session_id].group_uid for job in unsent}:
            lanes |= {lane.id: lane for lane in await lanes_of(connection, group)}
        opened = await self._opened(connection, [(job.secrets_of, job.lane_id) for job in unsent], lanes)
        self._doubtful = False
        for stream in {streams[job.session_id] for job in unsent}:
            # Nothing may follow a drain_ack (P8) or a go_away; what a worker never got, its next hello tells.
            if stream.draining or stream.leaving:
                stream.outbox.close(AGAIN)
        self._send(_with_secrets(unsent, opened), lanes, streams)


def _with_secrets(jobs: Sequence[Claimed], opened: Opened) -> list[Claimed]:
    """The jobs with the secrets of their executions. One whose secrets can't be opened any more is left out: what its
    worker never got goes back to its place, and the next claim ends it."""
    ready: list[Claimed] = []
    for job in jobs:
        secrets = {} if job.secrets_of is None else opened.get(job.secrets_of, {})
        if not isinstance(secrets, str):
            ready.append(job._replace(secrets=secrets) if secrets else job)
    return ready
