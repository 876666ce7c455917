"""The jobs of worker groups that are being deleted: counted under the group's lock, and ended there."""

from dataclasses import dataclass

from asyncpg import Connection

from farhand.scheduler.store.groups import Ending, end_waiting
from farhand.scheduler.store.sql import SQL

# A group can be gone and have waiting jobs only when the registry lost its memory of it.
_LEAVING = """
SELECT uid, key, force_deletion, gone FROM scheduler.worker_group g
WHERE deleting AND NOT gone OR gone AND EXISTS (
    SELECT FROM scheduler.lane l JOIN scheduler.queue q ON q.lane_id = l.id WHERE l.group_uid = g.uid)
ORDER BY uid
"""

# The rows say whether there is any; the tally says how many without counting millions.
_JOBS = """
SELECT EXISTS (SELECT FROM scheduler.lane l JOIN scheduler.queue q ON q.lane_id = l.id
               WHERE l.group_uid = $1) AS any_queued,
       EXISTS (SELECT FROM scheduler.live v JOIN scheduler.lane l ON l.id = v.lane_id
               WHERE l.group_uid = $1) AS any_live,
       coalesce(sum(t.queued), 0)::bigint AS queued, coalesce(sum(t.live), 0)::bigint AS live
FROM scheduler.lane l JOIN scheduler.tally t ON t.lane_id = l.id WHERE l.group_uid = $1
"""

_WAITING = """
SELECT q.lane_id, q.key FROM scheduler.lane l JOIN scheduler.queue q ON q.lane_id = l.id
WHERE l.group_uid = $1 ORDER BY q.lane_id, q.key LIMIT $2
"""

_NOT_KILLED = """
SELECT v.key FROM scheduler.live v JOIN scheduler.lane l ON l.id = v.lane_id
WHERE l.group_uid = $1 AND v.key > $2 AND v.kill_at IS NULL ORDER BY v.key LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class Leaving:
    """A group whose jobs are to be looked at. `vanished`: the registry does not know it any more."""

    uid: str
    key: str
    forced: bool
    vanished: bool


@dataclass(frozen=True, slots=True)
class JobsLeft:
    """How many jobs a group has."""

    queued: int
    running: int


async def read_leaving(connection: Connection) -> list[Leaving]:
    """Every group that is being deleted, or is gone and still has jobs that wait."""
    return [
        Leaving(row["uid"], row["key"], row["force_deletion"], row["gone"]) for row in await connection.fetch(_LEAVING)
    ]


async def count_jobs(connection: Connection, uid: str) -> JobsLeft | None:
    """The jobs of a group that is being deleted; None: it no longer is.

    The lock waits for every enqueue that did not see the deletion; later ones are refused. So jobs only
    become fewer from here on, and none left means none for ever.
    """
    async with connection.transaction():
        row = await connection.fetchrow(
            "SELECT deleting AND NOT gone AS deleting FROM scheduler.worker_group WHERE uid = $1 FOR UPDATE", uid
        )
        if row is None or not row["deleting"]:
            return None
        jobs = await connection.fetchrow(_JOBS, uid)
        return JobsLeft(
            queued=max(1, jobs["queued"]) if jobs["any_queued"] else 0,
            running=max(1, jobs["live"]) if jobs["any_live"] else 0,
        )


async def end_waiting_jobs(
    connection: Connection, group: Leaving, ending: Ending, *, limit: int, writer: str
) -> list[int]:
    """End some of the group's waiting jobs. Answers their keys; none: none waits, or the group stays after all."""
    async with connection.transaction():
        await connection.fetchrow(SQL["lock_group_for_change"], group.uid)
        still = await connection.fetchval(
            "SELECT gone OR (deleting AND force_deletion) FROM scheduler.worker_group WHERE uid = $1", group.uid
        )
        if not still:
            return []
        rows = await connection.fetch(_WAITING, group.uid, limit)
        return await end_waiting(connection, [(row["lane_id"], row["key"]) for row in rows], ending, writer)


async def read_not_killed(connection: Connection, uid: str, *, after: int, limit: int) -> list[int]:
    """Keys, over `after`, of jobs that workers of the group have and that nobody has asked to kill."""
    return [row["key"] for row in await connection.fetch(_NOT_KILLED, uid, after, limit)]
