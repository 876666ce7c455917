"""Logs on a real database: the fence, gaps and overlaps, two writers at once, the order of reading."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from asyncpg import Connection
from asyncpg.transaction import Transaction
from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.api.worker.v1.worker_service_pb2 import AppendLogsRequest
from farhand.kernel.errors import LogGap, Unavailable
from farhand.runtime.database import connect
from farhand.scheduler.core.log import START, Append, Known, LogLimits, NewChunk, Position, Stored
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.loops.logs import LogWriter
from farhand.scheduler.store.logs import insert_chunks, read_chunks, read_known
from tests.fixtures.job_histories import Histories, log_lines
from tests.fixtures.scheduler_rows import Rows

SUBJECT = "a token"  # of the sessions that `rows` builds


def an_append(key: int, offset: int, *lines: str, fence: int = 5, subject: str = SUBJECT) -> Append:
    return Append(key, fence, offset, log_lines(*lines), len(lines), subject)


@pytest.fixture
async def key(rows: Rows, histories: Histories) -> int:
    """A job that runs under fence 5."""
    group = await rows.group("")
    key = await rows.waiting(await rows.lane(group))
    await histories.assign(key, await rows.session(group), fence=5)
    return key


@pytest.fixture
async def writer(rows: Rows) -> AsyncIterator[LogWriter]:
    async for writer in a_writer(rows):
        yield writer


async def a_writer(rows: Rows, *, log_bytes: int = 1 << 20) -> AsyncIterator[LogWriter]:
    connection = HotConnection(rows.url)
    writer = LogWriter(connection, LogLimits(log_bytes, log_lines("cut here")), lambda _: None)
    task = asyncio.create_task(writer.commits.run())
    yield writer
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    connection.drop()


async def stored_lines(reading: AsyncConnection, key: int, *, ended: bool = False) -> list[str]:
    lines: list[str] = []
    position = START
    while chunks := await read_chunks(reading, key, position, 1000, ended=ended):
        for chunk in chunks:
            lines += [record.text for record in AppendLogsRequest.FromString(chunk.records).records]
            position = Position(chunk.fence, chunk.end)
    return lines


async def test_what_was_appended_is_read_in_order(writer: LogWriter, reading: AsyncConnection, key: int) -> None:
    answers = [await writer.append(an_append(key, offset, f"line {offset}", f"line {offset + 1}")) for offset in (0, 2)]
    assert answers == [Stored(2), Stored(4)]
    assert await stored_lines(reading, key) == [f"line {number}" for number in range(4)]


async def test_appends_at_once_ride_together(writer: LogWriter, reading: AsyncConnection, key: int) -> None:
    appends = [an_append(key, offset, f"line {offset}") for offset in range(200)]
    answers = await asyncio.gather(*map(writer.append, appends))
    assert answers == [Stored(number + 1) for number in range(200)]
    assert await stored_lines(reading, key) == [f"line {number}" for number in range(200)]
    chunks = await read_chunks(reading, key, START, 1 << 20, ended=False)
    assert len(chunks) < 20


async def test_a_call_made_again_stores_nothing_twice(writer: LogWriter, reading: AsyncConnection, key: int) -> None:
    await writer.append(an_append(key, 0, "a", "b"))
    assert await writer.append(an_append(key, 0, "a", "b")) == Stored(2)
    assert await writer.append(an_append(key, 1, "b", "c")) == Stored(3)
    assert await stored_lines(reading, key) == ["a", "b", "c"]


async def test_a_gap_is_refused_and_harms_no_other(
    rows: Rows, histories: Histories, writer: LogWriter, reading: AsyncConnection, key: int
) -> None:
    other = await rows.waiting(await rows.lane("u-default", "acme"))
    await histories.assign(other, 1, fence=6)
    bad, good = await asyncio.gather(
        writer.append(an_append(key, 7, "h")),
        writer.append(an_append(other, 0, "a", fence=6)),
        return_exceptions=True,
    )
    assert isinstance(bad, LogGap) and bad.metadata["offset"] == "0"
    assert good == Stored(1)


async def test_only_the_fence_of_the_job_may_write(
    histories: Histories, writer: LogWriter, reading: AsyncConnection, key: int
) -> None:
    assert await writer.append(an_append(key, 0, "a", fence=4)) == Stored(0, refused=True)
    assert await writer.append(an_append(key, 0, "a", fence=6)) == Stored(0, refused=True)
    assert await writer.append(an_append(key + 1, 0, "a")) == Stored(0, refused=True)
    await writer.append(an_append(key, 0, "a"))
    await histories.lose(key)
    assert await writer.append(an_append(key, 1, "late")) == Stored(0, refused=True)
    assert await stored_lines(reading, key) == ["a"]


async def test_the_recorded_assignment_may_still_send_its_rest(
    histories: Histories, writer: LogWriter, reading: AsyncConnection, key: int
) -> None:
    await histories.end(key, log_end=1)
    assert await writer.append(an_append(key, 0, "rest")) == Stored(1)
    assert await writer.append(an_append(key, 0, "stale", fence=4)) == Stored(0, refused=True)


async def test_another_credential_may_not_write(writer: LogWriter, reading: AsyncConnection, key: int) -> None:
    assert await writer.append(an_append(key, 0, "forged", subject="other")) == Stored(0, refused=True)
    assert await stored_lines(reading, key) == []


async def test_the_statement_that_writes_looks_at_the_fence_itself(
    rows: Rows, histories: Histories, reading: AsyncConnection, key: int
) -> None:
    await histories.lose(key)
    assert await insert_chunks(rows.connection, [NewChunk(key, 5, 0, 1, log_lines("late"), 9)]) == set()
    assert await stored_lines(reading, key) == []


async def test_two_replicas_at_once_store_each_line_once(rows: Rows, reading: AsyncConnection, key: int) -> None:
    async for here in a_writer(rows):
        async for there in a_writer(rows):
            lines = [f"line {number}" for number in range(300)]

            async def send(writer: LogWriter, step: int, lines: list[str] = lines) -> None:
                for offset in range(0, 300, step):
                    part = lines[max(0, offset - 3) : offset + step]
                    await writer.append(an_append(key, max(0, offset - 3), *part))

            await asyncio.gather(send(here, 7), send(there, 10))
    assert await stored_lines(reading, key) == [f"line {number}" for number in range(300)]


@asynccontextmanager
async def first_at_the_place(rows: Rows, key: int) -> AsyncIterator[Transaction]:
    """Another replica has stored two lines and not yet committed."""
    other: Connection = await connect(rows.url)
    transaction = other.transaction()
    await transaction.start()
    await insert_chunks(other, [NewChunk(key, 5, 0, 2, log_lines("a", "b"), 9)])
    yield transaction
    await other.close()


async def somebody_waits(rows: Rows) -> int:
    """The process of the server that waits for a lock."""
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    while not (pid := await rows.connection.fetchval(waiting)):
        pass
    return int(pid)


async def test_whoever_is_second_at_one_place_looks_again(
    rows: Rows, writer: LogWriter, reading: AsyncConnection, key: int
) -> None:
    async with first_at_the_place(rows, key) as first:
        append = asyncio.create_task(writer.append(an_append(key, 0, "a", "b", "c")))
        await somebody_waits(rows)
        await first.commit()
    assert await append == Stored(3)
    assert await stored_lines(reading, key) == ["a", "b", "c"]


async def test_a_log_is_cut_at_its_limit_and_says_so(rows: Rows, reading: AsyncConnection, key: int) -> None:
    for start in (0, 15, 30):  # the second writer has to count what is there
        async for writer in a_writer(rows, log_bytes=1000):
            for offset in range(start, start + 15):
                assert await writer.append(an_append(key, offset, "x" * 40)) == Stored(offset + 1)
    lines = await stored_lines(reading, key)
    assert lines == ["x" * 40] * (len(lines) - 1) + ["cut here"]
    assert 18 < len(lines) < 25


async def test_a_lost_connection_is_an_answer_and_then_mended(
    rows: Rows, writer: LogWriter, reading: AsyncConnection, key: int
) -> None:
    async with first_at_the_place(rows, key) as first:
        append = asyncio.create_task(writer.append(an_append(key, 0, "a", "b")))
        await rows.connection.execute("SELECT pg_terminate_backend($1)", await somebody_waits(rows))
        with pytest.raises(Unavailable):
            await append
        await first.rollback()
    assert await writer.append(an_append(key, 0, "a", "b")) == Stored(2)
    assert await stored_lines(reading, key) == ["a", "b"]


async def test_logs_are_read_by_assignment_and_the_schedulers_lines_last(
    histories: Histories, reading: AsyncConnection, key: int
) -> None:
    await histories.log(key, 7, 0, "second", "assignment")
    await histories.log(key, 5, 0, "first")
    await histories.log(key, 5, 1, "assignment")
    await histories.log(key, 0, 0, "the end")
    assert await stored_lines(reading, key) == ["first", "assignment", "second", "assignment"]
    assert (await stored_lines(reading, key, ended=True))[-1] == "the end"


async def test_a_read_holds_at_least_one_chunk_and_else_its_limit(
    histories: Histories, reading: AsyncConnection, key: int
) -> None:
    for offset in range(4):
        await histories.log(key, 5, offset, "x" * 300)
    assert len(await read_chunks(reading, key, START, 10, ended=False)) == 1
    assert len(await read_chunks(reading, key, Position(5, 1), 700, ended=False)) == 2


async def test_what_is_known_of_a_log_is_told_for_each_credential(rows: Rows, histories: Histories, key: int) -> None:
    await histories.log(key, 5, 0, "a", "b")
    known = await read_known(rows.connection, [(key, 5, SUBJECT), (key, 5, "other"), (key, 0, SUBJECT)])
    assert known == {
        (key, 5, SUBJECT): Known(True, 2),
        (key, 5, "other"): Known(False, 2),
        (key, 0, SUBJECT): Known(False, 0),
    }
