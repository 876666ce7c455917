"""The same rows moved by bare SQL: what PostgreSQL itself costs, without a mesh around it.

A job is inserted, claimed and completed, as rows of three tables, in as many
transactions as the mesh needs for it, from one process over raw asyncpg.
"""

import asyncio
import time

import asyncpg

from farhand.runtime.database import connect
from tests.benchmarks.measures import ASKED_JOBS, BATCH, JOBS_A_SECOND, Latencies, Rate

TABLES = """
CREATE SCHEMA bare;
CREATE TABLE bare.job (key bigint PRIMARY KEY, task bytea NOT NULL);
CREATE TABLE bare.queue (key bigint PRIMARY KEY);
CREATE TABLE bare.live (key bigint PRIMARY KEY, fence bigint NOT NULL);
CREATE TABLE bare.done (key bigint PRIMARY KEY, fence bigint NOT NULL, ended_at timestamptz NOT NULL);
"""
ENQUEUE = """
WITH r AS (SELECT * FROM unnest($1::bigint[], $2::bytea[]) AS r(key, task)),
     j AS (INSERT INTO bare.job SELECT key, task FROM r)
INSERT INTO bare.queue SELECT key FROM r
"""
CLAIM = """
WITH heads AS (SELECT key FROM bare.queue ORDER BY key LIMIT $1 FOR UPDATE),
     taken AS (DELETE FROM bare.queue q USING heads h WHERE q.key = h.key RETURNING q.key)
INSERT INTO bare.live SELECT key, key FROM taken RETURNING key
"""
COMPLETE = """
WITH gone AS (DELETE FROM bare.live l USING unnest($1::bigint[]) AS r(key) WHERE l.key = r.key RETURNING l.key, l.fence)
INSERT INTO bare.done SELECT key, fence, now() FROM gone
"""
TASK = b"x" * 200


class BareSql:
    """See the module."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._next = 0

    async def batches(self, jobs: int) -> Rate:
        """Insert, claim and complete at once, each from a connection of its own, 500 rows a transaction."""
        setup = await connect(self._url)
        await setup.execute(TABLES)
        await setup.close()
        inserting, claiming, completing = [await connect(self._url, hot=True) for _ in range(3)]
        claimed: asyncio.Queue[list[int]] = asyncio.Queue()
        began = time.perf_counter()

        async def insert() -> None:
            for _ in range(jobs // BATCH):
                await inserting.execute(ENQUEUE, self._keys(BATCH), [TASK] * BATCH)

        async def claim() -> None:
            left = jobs // BATCH * BATCH
            while left:
                keys = [row["key"] for row in await claiming.fetch(CLAIM, BATCH)]
                left -= len(keys)
                if keys:
                    await claimed.put(keys)

        async def complete() -> None:
            left = jobs // BATCH * BATCH
            while left:
                keys = await claimed.get()
                left -= len(keys)
                await completing.execute(COMPLETE, keys)

        await asyncio.gather(insert(), claim(), complete())
        rate = Rate(jobs // BATCH * BATCH, time.perf_counter() - began)
        for connection in (inserting, claiming, completing):
            await connection.close()
        return rate

    async def single(self, jobs: int) -> Rate:
        """One row a transaction, from 16 connections."""
        connections = [await connect(self._url, hot=True) for _ in range(16)]
        began = time.perf_counter()

        async def insert(connection: asyncpg.Connection) -> None:
            for _ in range(jobs // 16):
                await connection.execute(ENQUEUE, self._keys(1), [TASK])

        await asyncio.gather(*(insert(connection) for connection in connections))
        rate = Rate(jobs // 16 * 16, time.perf_counter() - began)
        for connection in connections:
            await connection.close()
        return rate

    async def latency(self) -> Latencies:
        """Insert and claim one row, at the same pace as the mesh is asked to."""
        inserting, claiming = await connect(self._url, hot=True), await connect(self._url, hot=True)
        while await claiming.fetch(CLAIM, 10_000):
            pass
        seconds = []
        for _ in range(ASKED_JOBS):
            began = time.perf_counter()
            await inserting.execute(ENQUEUE, self._keys(1), [TASK])
            await claiming.fetch(CLAIM, 1)
            seconds.append(time.perf_counter() - began)
            await asyncio.sleep(1 / JOBS_A_SECOND)
        await inserting.close()
        await claiming.close()
        return Latencies(seconds)

    def _keys(self, count: int) -> list[int]:
        self._next += count
        return list(range(self._next - count, self._next))
