"""What the scheduler may forget, a small batch at a time so that nobody waits for it.

No index says how old a row is: it would cost every submit. Requests are walked by
the table's pages, in which they lie about as they came; ended jobs by their key,
which grows with time.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from asyncpg import Connection

FOLDED = "folded"  # the writer whose tally rows hold what writers that are gone had counted

# A job that has no row was ended and forgotten before.
_FORGET_REQUESTS = """
DELETE FROM scheduler.request r
WHERE r.ctid >= $1::tid AND r.ctid < $2::tid AND r.created_at < now() - make_interval(secs => $3) AND NOT EXISTS (
    SELECT FROM unnest(r.keys) AS k(key) JOIN scheduler.job j ON j.key = k.key
    LEFT JOIN scheduler.done d ON d.key = k.key
    WHERE d.key IS NULL OR d.ended_at >= now() - make_interval(secs => $3))
"""

_ENDED_JOBS = """
SELECT d.key, d.ended_at < now() - make_interval(secs => $3) AS old,
       j.created_at >= now() - make_interval(secs => $3) AS recent
FROM scheduler.done d JOIN scheduler.job j ON j.key = d.key WHERE d.key > $1 ORDER BY d.key LIMIT $2
"""

_OLD_SESSIONS = """
SELECT id FROM scheduler.session
WHERE state IN ('LOST', 'STOPPED') AND heartbeat_at < now() - make_interval(secs => $1) ORDER BY id LIMIT $2
"""

_FORGET_SESSIONS = """
DELETE FROM scheduler.session s
WHERE s.id = ANY ($1::bigint[]) AND s.state IN ('LOST', 'STOPPED')
  AND s.heartbeat_at < now() - make_interval(secs => $2)
  AND NOT EXISTS (SELECT FROM scheduler.live l WHERE l.session_id = s.id)
  AND NOT EXISTS (SELECT FROM scheduler.lost_delivery d WHERE d.session_id = s.id)
"""

_LOCK_TALLIES = """
SELECT lane_id, writer FROM scheduler.tally
WHERE writer <> $1 AND split_part(writer, '/', 1) <> ALL ($2::text[] || ARRAY(
    SELECT replica FROM scheduler.session WHERE state IN ('CONNECTED', 'DRAINING', 'DISCONNECTED')))
ORDER BY lane_id, writer LIMIT $3 FOR UPDATE
"""

_FOLD = """
WITH gone AS (
    DELETE FROM scheduler.tally t USING unnest($2::int[], $3::text[]) AS r(lane_id, writer)
    WHERE t.lane_id = r.lane_id AND t.writer = r.writer RETURNING t.lane_id, t.queued, t.live, t.ended
)
INSERT INTO scheduler.tally AS t (lane_id, writer, queued, live, ended)
SELECT lane_id, $1, sum(queued), sum(live), sum(ended) FROM gone GROUP BY lane_id ORDER BY lane_id
ON CONFLICT (lane_id, writer) DO UPDATE
SET queued = t.queued + excluded.queued, live = t.live + excluded.live, ended = t.ended + excluded.ended
"""


async def count_request_pages(connection: Connection) -> int:
    """How many pages the table of requests has now."""
    pages: int = await connection.fetchval(
        "SELECT pg_relation_size('scheduler.request') / current_setting('block_size')::bigint"
    )
    return pages


async def forget_requests(connection: Connection, first_page: int, pages: int, *, age: float) -> int:
    """Forget requests, of some pages, all of whose jobs ended `age` seconds ago or earlier (P6). Answers how many."""
    status: str = await connection.execute(_FORGET_REQUESTS, (first_page, 0), (first_page + pages, 0), age)
    return _rows(status)


@dataclass(frozen=True, slots=True)
class EndedJobs:
    """Some ended jobs in the order of their keys: how far was looked, which are old enough to go, and whether
    those that follow are all too young."""

    last: int
    old: list[int]
    enough: bool


async def read_ended_jobs(connection: Connection, *, after: int, limit: int, age: float) -> EndedJobs:
    """The next ended jobs, and which of them ended `age` seconds ago or earlier."""
    rows = await connection.fetch(_ENDED_JOBS, after, limit, age)
    return EndedJobs(
        last=rows[-1]["key"] if rows else after,
        old=[row["key"] for row in rows if row["old"]],
        enough=len(rows) < limit or rows[-1]["recent"],  # a job can't end before it came
    )


async def forget_jobs(connection: Connection, keys: Sequence[int]) -> None:
    """Forget ended jobs with their logs and lost deliveries."""
    async with connection.transaction():
        for table in ("log_chunk", "lost_delivery", "done", "job"):
            await connection.execute(f"DELETE FROM scheduler.{table} WHERE key = ANY ($1::bigint[])", keys)


async def read_old_sessions(connection: Connection, *, limit: int, age: float) -> set[int]:
    """Ids of sessions that are over and were last heard of `age` seconds ago or earlier."""
    return {row["id"] for row in await connection.fetch(_OLD_SESSIONS, age, limit)}


async def read_done_keys(connection: Connection) -> tuple[int, int]:
    """The lowest and the highest key of an ended job; (0, 0): there is none."""
    row = await connection.fetchrow(
        "SELECT coalesce(min(key), 0) AS low, coalesce(max(key), 0) AS high FROM scheduler.done"
    )
    return row["low"], row["high"]


async def read_sessions_in_use(connection: Connection, sessions: Collection[int], *, first: int, last: int) -> set[int]:
    """Those of the sessions in which one of these ended jobs (keys, both included) ran."""
    rows = await connection.fetch(
        """SELECT DISTINCT session_id FROM scheduler.done
           WHERE key BETWEEN $2 AND $3 AND session_id = ANY ($1::bigint[])""",
        list(sessions),
        first,
        last,
    )
    return {row["session_id"] for row in rows}


async def forget_sessions(connection: Connection, sessions: Collection[int], *, age: float) -> int:
    """Forget those of the sessions that are still over and have neither jobs nor lost deliveries. Answers how many."""
    status: str = await connection.execute(_FORGET_SESSIONS, sorted(sessions), age)
    return _rows(status)


async def fold_tallies(connection: Connection, *, replica: str, limit: int) -> int:
    """Add up tally rows of replicas that hold no session, and are not `replica`, into one per lane. Answers how
    many rows there were. Exact also where such a replica lives and counts on: its next count makes a new row."""
    async with connection.transaction():
        rows = await connection.fetch(_LOCK_TALLIES, FOLDED, [replica], limit)
        # The next statement sees what was counted while this one waited for the locks.
        await connection.execute(_FOLD, FOLDED, [row["lane_id"] for row in rows], [row["writer"] for row in rows])
        return len(rows)


def _rows(status: str) -> int:
    """Of a command's status: "DELETE 12"."""
    return int(status.rsplit(" ", 1)[-1])
