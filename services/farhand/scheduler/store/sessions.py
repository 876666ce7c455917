"""Sessions: opened by a Connect, renewed by heartbeats, ended by a goodbye or by silence.

Every function here that changes who may be given work takes the group's row FOR
UPDATE first, so that no claim and no enqueue is in flight while it decides.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from asyncpg import Connection

from farhand.kernel.errors import NotFound, WorkerIdTaken
from farhand.scheduler.core import session as rules
from farhand.scheduler.core.lease import Renewal
from farhand.scheduler.core.session import SessionEvent, SessionState
from farhand.scheduler.store.groups import EncodeLog, settle_group
from farhand.scheduler.store.queue import Claimed, GivenBack, assigned_to, give_back
from farhand.scheduler.store.sql import SQL


@dataclass(frozen=True, slots=True)
class Opening:
    """What a Connect brings. Leases are milliseconds; `held` maps fence → (key, phase)."""

    worker_id: str
    incarnation: bytes
    group_uid: str
    subject: str
    tenants: list[str] | None
    lease_ms: int
    draining: bool
    slots: int
    task_types: list[str]
    host: str
    version: str
    boot_id: str
    replica: str
    held: Mapping[int, tuple[int, str]]
    dead_incarnations: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that stands. `kept` are assignments that go on; `verdicts` maps fence → KEEP, STOP or RESEND."""

    id: int
    epoch: int
    draining: bool
    verdicts: dict[int, str]
    kept: list[Claimed]
    superseded: list[int]  # ids of sessions of other incarnations, and of this one's older stream
    ended: list[int]  # keys of jobs that ended with this
    returned: list[int]  # keys of jobs that wait again


async def open_session(connection: Connection, opening: Opening, writer: str, encode_log: EncodeLog) -> Opened:
    """Open a session, or a new stream of one, by difference (rule 8). Raises WorkerIdTaken, NotFound."""
    async with connection.transaction():
        group = await connection.fetchrow(SQL["lock_group_for_change"], opening.group_uid)
        if group is None or group["gone"]:
            raise NotFound("The worker group was deleted a moment ago.")
        await connection.execute(SQL["bind_worker"], opening.worker_id, opening.subject)
        subject = await connection.fetchval(SQL["lock_worker"], opening.worker_id)
        if subject != opening.subject:
            raise WorkerIdTaken(
                f"The worker id {opening.worker_id} belongs to another credential. "
                "Start this worker with another --worker-id, or with the credential that used it first."
            )
        back: list[GivenBack] = []
        superseded = []
        dead = []
        before = None
        for row in await connection.fetch(SQL["lock_sessions_of_worker"], opening.worker_id, opening.incarnation):
            superseded.append(row["id"])
            if row["incarnation"] == opening.incarnation:
                before = row
                continue
            event = SessionEvent.FENCE if row["incarnation"] in opening.dead_incarnations else SessionEvent.SUPERSEDE
            after = rules.step(rules.Session(SessionState(row["state"]), row["draining"]), event)
            await connection.execute(SQL["change_session"], row["id"], after.state.value, after.draining)
            if event is SessionEvent.FENCE:
                dead.append(row["id"])
        was = rules.Session(SessionState(before["state"]), before["draining"]) if before else rules.Session()
        now = rules.step(was, SessionEvent.CONNECT)
        if opening.draining:
            now = rules.step(now, SessionEvent.DRAIN)
        session = await connection.fetchrow(
            SQL["open_session"],
            opening.worker_id,
            opening.incarnation,
            opening.group_uid,
            opening.subject,
            opening.tenants,
            opening.lease_ms,
            now.state.value,
            now.draining,
            opening.slots,
            len(opening.held),
            opening.task_types,
            opening.host,
            opening.version,
            opening.boot_id,
            opening.replica,
        )
        if dead:
            back += await _bury(connection, dead, session["id"], opening, writer, encode_log)
        verdicts, kept, returned = await _resume(connection, session["id"], opening, writer, encode_log)
        back += returned
        # One that drains takes its group's availability with it, as a drain of a session that stands does (P11).
        unsettled = back or now.draining
        ended = await settle_group(connection, opening.group_uid, writer, encode_log) if unsettled else []
    return Opened(
        id=session["id"],
        epoch=session["epoch"],
        draining=now.draining,
        verdicts=verdicts,
        kept=kept,
        superseded=superseded,
        ended=ended + [job.key for job in back if job.state != "CREATED"],
        returned=[job.key for job in back if job.state == "CREATED"],
    )


async def _bury(
    connection: Connection, dead: Sequence[int], heir: int, opening: Opening, writer: str, encode_log: EncodeLog
) -> list[GivenBack]:
    """Give back what incarnations that are dead for certain had, but for what had ended: the new one has its
    results, and would see them refused as stale if those jobs went to others."""
    ended = {fence: key for fence, (key, phase) in opening.held.items() if phase == "FINISHED"}
    await connection.execute(SQL["take_over"], heir, dead, list(ended.values()), list(ended))
    back: list[GivenBack] = []
    for session_id in dead:
        back += await give_back(connection, session_id, reason="FENCED", writer=writer, encode_log=encode_log)
    return back


async def _resume(
    connection: Connection, session_id: int, opening: Opening, writer: str, encode_log: EncodeLog
) -> tuple[dict[int, str], list[Claimed], list[GivenBack]]:
    """Compare what the worker holds with what it was assigned."""
    live = {job.fence: job for job in await assigned_to(connection, [session_id])}
    verdicts: dict[int, str] = {}
    for fence, (key, phase) in opening.held.items():
        mine = fence in live and live[fence].key == key
        if phase == "FINISHED":
            verdicts[fence] = "RESEND"  # the answer to the result says what becomes of it
        else:
            verdicts[fence] = "KEEP" if mine and phase in ("RECEIVED", "RUNNING") else "STOP"
    back = []
    fenced = [job.key for fence, job in live.items() if opening.held.get(fence, (0, ""))[1] == "SELF_FENCED"]
    if fenced:
        back += await give_back(
            connection, session_id, keys=fenced, reason="SELF_FENCED", writer=writer, encode_log=encode_log
        )
    missing = [job.key for fence, job in live.items() if fence not in opening.held]
    if missing:
        back += await give_back(
            connection,
            session_id,
            keys=missing,
            costing=[],
            reason="NOT_RECEIVED",
            writer=writer,
            encode_log=encode_log,
        )
    gone = {*fenced, *missing}
    return verdicts, [job for job in live.values() if job.key not in gone], back


@dataclass(frozen=True, slots=True)
class Left:
    """What a session's end or change did to jobs."""

    changed: bool
    group_uid: str = ""
    ended: tuple[int, ...] = ()
    returned: tuple[int, ...] = ()


async def change_session(
    connection: Connection,
    session_id: int,
    epoch: int | None,
    event: SessionEvent,
    writer: str,
    encode_log: EncodeLog,
    *,
    unstarted: Sequence[int] = (),
) -> Left:
    """CLOSE, DRAIN, FENCE or GOODBYE a session, if `epoch` (None: any) is still its epoch. The last two give back all
    that it holds; the jobs of `unstarted` (keys) had not started, so they lose no delivery."""
    group_uid = await connection.fetchval("SELECT group_uid FROM scheduler.session WHERE id = $1", session_id)
    async with connection.transaction():
        await connection.fetchrow(SQL["lock_group_for_change"], group_uid)
        row = await connection.fetchrow(SQL["lock_session"], session_id)
        if row is None or (epoch is not None and row["epoch"] != epoch):
            return Left(False)
        before = rules.Session(SessionState(row["state"]), row["draining"])
        if (before.state, event) not in rules.TABLE:
            return Left(False)
        after = rules.step(before, event)
        if after != before:
            await connection.execute(SQL["change_session"], session_id, after.state.value, after.draining)
        back: list[GivenBack] = []
        if event in (SessionEvent.GOODBYE, SessionEvent.FENCE):
            held = [job.key for job in await assigned_to(connection, [session_id])]
            costing = [key for key in held if key not in set(unstarted)]
            back = await give_back(
                connection,
                session_id,
                costing=costing,
                reason="WORKER_STOPPED" if event is SessionEvent.GOODBYE else "FENCED",
                writer=writer,
                encode_log=encode_log,
            )
        ended = await settle_group(connection, group_uid, writer, encode_log)
    return _left(group_uid, back, ended)


async def expire_session(
    connection: Connection, watched: Renewal, group_uid: str, writer: str, encode_log: EncodeLog
) -> Left:
    """End a session whose counter stood still for a whole lease, if it still stands where it stood (rule 6)."""
    async with connection.transaction():
        await connection.fetchrow(SQL["lock_group_for_change"], group_uid)
        worker = await connection.fetchval(SQL["expire_session"], watched.session_id, watched.epoch, watched.renewal)
        if worker is None:
            return Left(False)
        back = await give_back(
            connection, watched.session_id, reason="LEASE_EXPIRED", writer=writer, encode_log=encode_log
        )
        ended = await settle_group(connection, group_uid, writer, encode_log)
    return _left(group_uid, back, ended)


async def mend(
    connection: Connection,
    session_id: int,
    epoch: int,
    asked: Set[int],
    held: Mapping[int, tuple[int, str]],
    writer: str,
    encode_log: EncodeLog,
) -> tuple[Left, list[tuple[int, int]]]:
    """Compare what a worker says that it holds, fence → (key, phase), with what the session was assigned. Assignments
    among `asked` (fences) that it does not hold are given back: one that has a result is none any more, so whatever
    is left was never received, or forgotten. Answers also the (key, fence) that it holds and was not assigned."""
    group_uid = await connection.fetchval("SELECT group_uid FROM scheduler.session WHERE id = $1", session_id)
    async with connection.transaction():
        await connection.fetchrow(SQL["lock_group_for_change"], group_uid)
        row = await connection.fetchrow(SQL["lock_session"], session_id)
        if row is None or row["epoch"] != epoch or SessionState(row["state"]) not in rules.LIVING:
            return Left(False), []
        live = {job.fence: job.key for job in await assigned_to(connection, [session_id])}
        missing = [key for fence, key in live.items() if fence in asked and fence not in held]
        back = (
            await give_back(
                connection,
                session_id,
                keys=missing,
                costing=[],
                reason="NOT_HELD",
                writer=writer,
                encode_log=encode_log,
            )
            if missing
            else []
        )
        ended = await settle_group(connection, group_uid, writer, encode_log) if back else []
    strays = [
        (key, fence)
        for fence, (key, phase) in held.items()
        if phase in ("RECEIVED", "RUNNING") and live.get(fence) != key
    ]
    return _left(group_uid, back, ended), strays


async def return_unstarted(
    connection: Connection, session_id: int, keys: Sequence[int], writer: str, encode_log: EncodeLog
) -> Left:
    """Jobs that a worker hands back without having started them: to their places, at no cost."""
    group_uid = await connection.fetchval("SELECT group_uid FROM scheduler.session WHERE id = $1", session_id)
    async with connection.transaction():
        await connection.fetchrow(SQL["lock_group_for_change"], group_uid)
        back = await give_back(
            connection, session_id, keys=keys, costing=[], reason="RETURNED", writer=writer, encode_log=encode_log
        )
        ended = await settle_group(connection, group_uid, writer, encode_log)
    return _left(group_uid, back, ended)


def _left(group_uid: str, back: Sequence[GivenBack], ended: Sequence[int]) -> Left:
    return Left(
        changed=True,
        group_uid=group_uid,
        ended=(*ended, *(job.key for job in back if job.state != "CREATED")),
        returned=tuple(job.key for job in back if job.state == "CREATED"),
    )


async def living_sessions(connection: Connection) -> list[tuple[Renewal, str]]:
    """Every session whose lease runs, with its group's uid."""
    return [
        (Renewal(row["id"], row["epoch"], row["renewal"], row["lease_ms"] / 1000), row["group_uid"])
        for row in await connection.fetch(SQL["living_sessions"])
    ]


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat to record; `lease_ms` is the longest lease that the worker may count with from its answer on."""

    session_id: int
    epoch: int
    lease_ms: int
    busy_slots: int


async def renew(connection: Connection, beats: Sequence[Beat]) -> set[int]:
    """Raise the renewal counters. Answers the sessions for which that held; the others are out."""
    newest = {beat.session_id: beat for beat in beats}  # a later beat of the same session speaks for the earlier
    rows = await connection.fetch(
        SQL["renew"],
        [beat.session_id for beat in newest.values()],
        [beat.epoch for beat in newest.values()],
        [beat.lease_ms for beat in newest.values()],
        [beat.busy_slots for beat in newest.values()],
    )
    return {row["id"] for row in rows}
