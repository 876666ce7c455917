"""The logs of jobs: appended in groups, read in order.

A log belongs to one assignment, and its fence guards it: what comes under a fence
that is not the job's any more is not stored (P4). A chunk starts where the one
before it ends. Two replicas that append to one log at once (a worker that moved,
and resends) start at the same offset, so the primary key lets one of them pass and
the other looks again.
"""

from collections.abc import Iterable, Sequence

from asyncpg import Connection
from sqlalchemy import ColumnElement, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.scheduler.core.log import Chunk, Known, LogName, NewChunk, Position
from farhand.scheduler.store.tables import log_chunk

# What is known of some logs, from one snapshot: a job's row moves from `live` to `done` in one transaction,
# so a fence that is the job's is seen in one of the two.
_KNOWN = """
SELECT i.key, i.fence, i.subject, s.id IS NOT NULL AS wanted, coalesce(e.end_offset, 0) AS stored_end
FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS i(key, fence, subject)
LEFT JOIN scheduler.live v ON v.key = i.key AND v.fence = i.fence
LEFT JOIN scheduler.done d ON d.key = i.key AND d.fence = i.fence
LEFT JOIN scheduler.session s ON s.id = coalesce(v.session_id, d.session_id) AND s.subject = i.subject
LEFT JOIN LATERAL (
    SELECT c.end_offset FROM scheduler.log_chunk c
    WHERE c.key = i.key AND c.fence = i.fence ORDER BY c.start_offset DESC LIMIT 1) e ON true
WHERE i.fence > 0"""

_SIZES = """
SELECT c.key, c.fence, sum(octet_length(c.records))::bigint AS size
FROM unnest($1::bigint[], $2::bigint[]) AS i(key, fence)
JOIN scheduler.log_chunk c ON c.key = i.key AND c.fence = i.fence GROUP BY c.key, c.fence"""

# The fence is looked at again by the statement that writes: a log whose assignment was given up since it
# was asked about gets nothing more. Sorted, so that two replicas never wait for each other.
_INSERT = """
INSERT INTO scheduler.log_chunk (key, fence, start_offset, end_offset, records)
SELECT i.* FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[])
    AS i(key, fence, start_offset, end_offset, records)
WHERE EXISTS (SELECT FROM scheduler.live v WHERE v.key = i.key AND v.fence = i.fence)
   OR EXISTS (SELECT FROM scheduler.done d WHERE d.key = i.key AND d.fence = i.fence)
ORDER BY i.key, i.fence ON CONFLICT DO NOTHING RETURNING key, fence"""


async def read_known(connection: Connection, logs: Iterable[tuple[int, int, str]]) -> dict[tuple[int, int, str], Known]:
    """What is known of logs, given by key, fence and the subject of who wants to write."""
    asked = sorted(set(logs))
    known = dict.fromkeys(asked, Known(False, 0))
    for row in await connection.fetch(_KNOWN, *_columns(asked, 3)):
        known[row["key"], row["fence"], row["subject"]] = Known(row["wanted"], row["stored_end"])
    return known


async def read_sizes(connection: Connection, logs: Sequence[LogName]) -> dict[LogName, int]:
    """How many bytes these logs have."""
    sizes = dict.fromkeys(logs, 0)
    for row in await connection.fetch(_SIZES, *_columns(logs, 2)):
        sizes[row["key"], row["fence"]] = row["size"]
    return sizes


async def insert_chunks(connection: Connection, chunks: Sequence[NewChunk]) -> set[LogName]:
    """Store chunks, one per log. Answers the logs whose chunk is stored: another writer of the log was first
    with the others, or their fence is stale by now."""
    rows = await connection.fetch(_INSERT, *_columns([(c.key, c.fence, c.start, c.end, c.records) for c in chunks], 5))
    return {(row["key"], row["fence"]) for row in rows}


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return [[row[column] for row in rows] for column in range(width)]


async def read_chunks(
    connection: AsyncConnection, key: int, position: Position, limit: int, *, ended: bool
) -> list[Chunk]:
    """The next chunks of a job's log from a position on, in order: at least one if there is one, and more up
    to `limit` bytes. The scheduler's own lines (fence 0) come last, and only once the job has `ended`."""
    if position.fence:
        chunks = await _next_chunks(connection, key, position, limit, log_chunk.c.fence > 0)
        if chunks or not ended:
            return chunks
        position = Position(0, 0)
    return await _next_chunks(connection, key, position, limit, log_chunk.c.fence == 0)


async def _next_chunks(
    connection: AsyncConnection, key: int, position: Position, limit: int, which: ColumnElement[bool]
) -> list[Chunk]:
    size = func.octet_length(log_chunk.c.records)  # known without fetching what is stored out of line
    ahead = (
        select(log_chunk, size.label("size"))
        .where(
            log_chunk.c.key == key,
            which,
            tuple_(log_chunk.c.fence, log_chunk.c.start_offset) >= tuple_(position.fence, position.offset),
        )
        .order_by(log_chunk.c.fence, log_chunk.c.start_offset)
        .limit(256)
        .subquery("ahead")
    )
    summed = select(
        ahead, func.sum(ahead.c.size).over(order_by=(ahead.c.fence, ahead.c.start_offset)).label("sum")
    ).subquery("summed")
    rows = await connection.execute(
        select(summed.c.fence, summed.c.start_offset, summed.c.end_offset, summed.c.records)
        .where((summed.c.sum <= limit) | (summed.c.sum == summed.c.size))
        .order_by(summed.c.fence, summed.c.start_offset)
    )
    return [Chunk(*row) for row in rows]
