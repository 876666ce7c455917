"""What the scheduler may forget, a small batch at a time so that nobody waits for it.

No index says how old a row is: it would cost every submit. Requests are walked by
the table's pages, in which they lie about as they came; ended jobs and executions by
their key, which grows with time. The jobs of an execution go with it, and never before;
those that a restart or a replay took over stay for that, and go when the last is gone
that names them.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from asyncpg import Connection, Record

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
SELECT d.key, d.ended_at < now() - make_interval(secs => $3)
       AND NOT EXISTS (SELECT FROM scheduler.task_run t WHERE t.job_key = d.key)
       AND NOT EXISTS (SELECT FROM scheduler.task_run t WHERE t.taken_job_key = d.key)
       AND NOT EXISTS (SELECT FROM scheduler.trigger t WHERE t.job_key = d.key)
       AND NOT EXISTS (SELECT FROM scheduler.execution e WHERE e.evaluation_job_key = d.key) AS old,
       j.created_at >= now() - make_interval(secs => $3) AS recent
FROM scheduler.done d JOIN scheduler.job j ON j.key = d.key WHERE d.key > $1 ORDER BY d.key LIMIT $2
"""

_EXECUTIONS = """
SELECT e.key, coalesce(e.ended_at < now() - make_interval(secs => $3), false) AS old,
       e.created_at >= now() - make_interval(secs => $3) AS recent
FROM scheduler.execution e WHERE e.key > $1 ORDER BY e.key LIMIT $2
"""

# Whoever takes something over from it holds it FOR KEY SHARE, and is waited for; or comes later, and finds it gone.
_BEGIN_TO_FORGET = """
WITH held AS (SELECT key FROM scheduler.execution WHERE key = $1 FOR UPDATE)
UPDATE scheduler.execution e SET forgotten = true FROM held WHERE e.key = held.key
"""

# A job that is live or waits, which a mistake alone could leave, keeps its execution.
_RUNS_TO_FORGET = """
SELECT t.key, t.job_key, EXISTS (SELECT FROM scheduler.task_run o WHERE o.taken_job_key = t.job_key) AS taken
FROM scheduler.task_run t
WHERE t.execution_key = $1 AND (t.job_key IS NULL OR EXISTS (SELECT FROM scheduler.done d WHERE d.key = t.job_key))
LIMIT $2
"""

_FORGET_EXECUTION = """
DELETE FROM scheduler.execution e
WHERE e.key = $1 AND NOT EXISTS (SELECT FROM scheduler.task_run t WHERE t.execution_key = e.key)
"""

_FLOWS_TO_FORGET = """
SELECT f.key FROM scheduler.flow_revision f
WHERE f.key > $1 AND NOT EXISTS (SELECT FROM scheduler.execution e WHERE e.flow_key = f.key)
  AND NOT EXISTS (SELECT FROM scheduler.trigger t WHERE t.flow_key = f.key) ORDER BY f.key LIMIT $2
FOR UPDATE SKIP LOCKED
"""

# Looked at again: an execution or a trigger may have come between the look and the lock.
_FORGET_FLOWS = """
DELETE FROM scheduler.flow_revision f
WHERE f.key = ANY ($1::bigint[]) AND NOT EXISTS (SELECT FROM scheduler.execution e WHERE e.flow_key = f.key)
  AND NOT EXISTS (SELECT FROM scheduler.trigger t WHERE t.flow_key = f.key)
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
class Ended:
    """Some jobs or executions in the order of their keys: how far was looked, which ended long enough ago to go, and
    whether those that follow are all too young."""

    last: int
    old: list[int]
    enough: bool


async def read_ended_jobs(connection: Connection, *, after: int, limit: int, age: float) -> Ended:
    """The next ended jobs, and which of them ended `age` seconds ago or earlier and are no execution's."""
    return _ended(await connection.fetch(_ENDED_JOBS, after, limit, age), after, limit)


async def read_ended_executions(connection: Connection, *, after: int, limit: int, age: float) -> Ended:
    """The next executions, and which of them ended `age` seconds ago or earlier."""
    return _ended(await connection.fetch(_EXECUTIONS, after, limit, age), after, limit)


def _ended(rows: Sequence[Record], after: int, limit: int) -> Ended:
    return Ended(
        last=rows[-1]["key"] if rows else after,
        old=[row["key"] for row in rows if row["old"]],
        enough=len(rows) < limit or rows[-1]["recent"],  # nothing ends before it came
    )


async def forget_task_runs(connection: Connection, execution: int, *, limit: int) -> int:
    """Forget task runs of an execution that ended, with those of their jobs that no other took over. Answers how many
    went."""
    async with connection.transaction():
        await connection.execute(_BEGIN_TO_FORGET, execution)
        runs = await connection.fetch(_RUNS_TO_FORGET, execution, limit)
        jobs = [run["job_key"] for run in runs if run["job_key"] is not None and not run["taken"]]
        await forget_jobs(connection, jobs)
        keys = [run["key"] for run in runs]
        await connection.execute("DELETE FROM scheduler.task_run WHERE key = ANY ($1::bigint[])", keys)
        return len(runs)


async def forget_execution(connection: Connection, execution: int) -> None:
    """Forget an execution that has no task runs any more, with the memory of its request."""
    async with connection.transaction():
        if _rows(await connection.execute(_FORGET_EXECUTION, execution)):
            for table in ("step_due", "execution_request", "secret_input"):
                await connection.execute(f"DELETE FROM scheduler.{table} WHERE execution_key = $1", execution)


async def forget_flows(connection: Connection, *, after: int, limit: int) -> int | None:
    """Forget revisions of flows that no execution names. Answers how far was looked; None: to the end."""
    async with connection.transaction():
        keys = [row["key"] for row in await connection.fetch(_FLOWS_TO_FORGET, after, limit)]
        await connection.execute(_FORGET_FLOWS, keys)
        return keys[-1] if len(keys) == limit else None


async def forget_jobs(connection: Connection, keys: Sequence[int]) -> None:
    """Forget ended jobs with their logs and lost deliveries; their files are to be deleted from now on."""
    async with connection.transaction():
        await connection.execute(
            "UPDATE scheduler.job_with_files SET forgotten = true WHERE key = ANY ($1::bigint[])", keys
        )
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
