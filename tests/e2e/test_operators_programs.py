"""What an operator does to a database by hand: migrate it before services start, and trust it again after a restore."""

import re

import asyncpg

from tests.fixtures.command_line import farhand


async def test_migrate_makes_both_schemas_and_does_nothing_the_second_time(empty_database: str) -> None:
    for _ in range(2):
        said = await farhand("migrate", FARHAND_DATABASE_URL=empty_database)
        assert said.exit_code == 0, said.all
        assert said.out == "Schema registry is up to date.\nSchema scheduler is up to date.\n"
    connection = await asyncpg.connect(empty_database)
    try:
        assert await connection.fetchval("SELECT count(*) FROM scheduler.worker_group") == 0
        assert await connection.fetchval("SELECT id FROM registry.tenant") == "main"
    finally:
        await connection.close()


async def test_after_a_restore_no_fence_epoch_or_job_is_handed_out_again(fresh_database: str) -> None:
    connection = await asyncpg.connect(fresh_database)
    try:
        handed_out = {}
        for name in ("fence", "epoch", "job_key"):  # after the backup that the database goes back to
            before = await connection.fetchval(f"SELECT last_value FROM scheduler.{name}")
            for _ in range(5):
                handed_out[name] = await connection.fetchval("SELECT nextval($1::regclass)", f"scheduler.{name}")
            await connection.execute("SELECT setval($1::regclass, $2)", f"scheduler.{name}", before)
        said = await farhand("admin", "bump-fences", "--by", "1000", FARHAND_DATABASE_URL=fresh_database)
        assert said.exit_code == 0, said.all
        told = {name: int(value) for name, value in re.findall(r"^(\w+) +continues after (\d+)$", said.out, re.M)}
        for name, last in handed_out.items():
            fresh = await connection.fetchval("SELECT nextval($1::regclass)", f"scheduler.{name}")
            assert fresh > last
            assert told[name] == fresh - 1
    finally:
        await connection.close()


async def test_a_database_without_the_schema_is_told_apart_from_a_defect(empty_database: str) -> None:
    said = await farhand("admin", "bump-fences", FARHAND_DATABASE_URL=empty_database)
    assert said.exit_code == 1
    assert "no scheduler's schema" in said.err
    assert "Traceback" not in said.err
