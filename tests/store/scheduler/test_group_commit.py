"""Group commit when the database is away, or refuses a row."""

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from farhand.kernel.errors import Unavailable
from farhand.scheduler.loops.group_commit import GroupCommit, HotConnection

REFUSED = "postgresql://nobody@127.0.0.1:1/nothing"


async def test_a_database_that_is_away_is_dialled_once_for_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = HotConnection(REFUSED)
    dialled = 0
    dial = connection.get

    async def get() -> asyncpg.Connection:
        nonlocal dialled
        dialled += 1
        return await dial()

    async def write(_: asyncpg.Connection, items: Sequence[int]) -> list[int | Exception]:
        return list(items)

    monkeypatch.setattr(connection, "get", get)
    commits: GroupCommit[int, int] = GroupCommit("test", connection, write)
    futures = [commits.put(item) for item in range(100)]
    await commits.once()
    answers = await asyncio.gather(*futures, return_exceptions=True)
    assert all(isinstance(answer, Unavailable) for answer in answers)
    assert dialled == 1  # a dial may take ten seconds


async def test_a_row_that_is_refused_fails_alone(fresh_database: str) -> None:
    async def write(connection: asyncpg.Connection, items: Sequence[int]) -> list[int | Exception]:
        return [row["one"] for row in await connection.fetch("SELECT 1 / i AS one FROM unnest($1::int[]) AS i", items)]

    connection = HotConnection(fresh_database)
    commits: GroupCommit[int, int] = GroupCommit("test", connection, write)
    futures = [commits.put(item) for item in (1, 1, 0, 1, 1)]
    await commits.once()
    answers = await asyncio.gather(*futures, return_exceptions=True)
    await connection.close()
    assert [answer == 1 for answer in answers] == [True, True, False, True, True]
    assert isinstance(answers[2], asyncpg.DivisionByZeroError)
