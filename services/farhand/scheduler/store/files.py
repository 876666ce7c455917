"""What the database knows about files: whether a worker may move one for a job, and which jobs have any."""

from collections.abc import Sequence
from dataclasses import dataclass

from asyncpg import Connection

# One snapshot: the job is this credential's, under this fence, now. With a file to come the job is written down
# first, so that none can be left over that nobody knows of.
_HELD = """
WITH held AS (
    SELECT v.key, l.tenant, j.namespace
    FROM scheduler.live v
    JOIN scheduler.session s ON s.id = v.session_id
    JOIN scheduler.lane l ON l.id = v.lane_id
    JOIN scheduler.job j ON j.key = v.key
    WHERE v.key = $1 AND v.fence = $2 AND s.subject = $3
), noted AS (
    INSERT INTO scheduler.job_with_files (key, tenant) SELECT key, tenant FROM held WHERE $4
    ON CONFLICT (key) DO NOTHING
)
SELECT tenant, coalesce(namespace, '') AS namespace FROM held"""


@dataclass(frozen=True, slots=True)
class HeldJob:
    """A job that a worker has."""

    key: int
    fence: int
    tenant: str
    namespace: str  # "": it has none


async def read_held(
    connection: Connection, key: int, fence: int, subject: str, *, storing: bool = False
) -> HeldJob | None:
    """The job, where a session of this credential has it under this fence. `storing`: it is going to have files."""
    row = await connection.fetchrow(_HELD, key, fence, subject, storing)
    return None if row is None else HeldJob(key, fence, row["tenant"], row["namespace"])


async def read_forgotten(connection: Connection, *, limit: int) -> list[tuple[int, str]]:
    """Jobs that are no more and whose files may still be stored: key and tenant."""
    rows = await connection.fetch(
        "SELECT key, tenant FROM scheduler.job_with_files WHERE forgotten ORDER BY key LIMIT $1", limit
    )
    return [(row["key"], row["tenant"]) for row in rows]


async def forget_files(connection: Connection, keys: Sequence[int]) -> None:
    """The files of these forgotten jobs are deleted."""
    await connection.execute(
        "DELETE FROM scheduler.job_with_files WHERE forgotten AND key = ANY ($1::bigint[])", list(keys)
    )
