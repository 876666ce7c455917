"""Waiting for a database, migrating it, and what its errors mean."""

import asyncio
import logging
import socket
import struct
import sys
import textwrap
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
import sqlalchemy
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from farhand.kernel.errors import Unavailable
from farhand.runtime.database import (
    connect,
    database_error,
    make_engine,
    migrate,
    wait_for_database,
    wait_until_migrated,
)
from farhand.runtime.service import Lifecycle, StartupError, Stopping

# Waiting


def nowhere() -> str:
    """The URL of a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        return f"postgresql://farhand:secret@127.0.0.1:{other.getsockname()[1]}/postgres"


async def test_a_database_that_answers_is_not_waited_for(fresh_database: str) -> None:
    await asyncio.wait_for(wait_for_database(fresh_database, Lifecycle("test")), 10)


async def test_a_database_that_refuses_is_waited_for_and_the_log_says_where_and_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    away = nowhere()
    waiting = asyncio.create_task(wait_for_database(away, Lifecycle("test")))
    port = urlsplit(away).port
    async with asyncio.timeout(10):
        while not caplog.records:  # a log line sets no event
            await asyncio.sleep(0)
    assert caplog.messages == [f"waiting for the database at 127.0.0.1:{port}: Connection refused"]
    assert not waiting.done()

    # Now somebody answers there.
    async with asyncio.timeout(10), await asyncio.start_server(refuse_as_postgres, "127.0.0.1", port):
        with pytest.raises(StartupError, match="the password is wrong"):
            await waiting
    assert len(caplog.records) == 1


async def test_a_migration_whose_connection_is_lost_is_made_again(
    fresh_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    other = await asyncpg.connect(fresh_database)
    await other.execute("SELECT pg_advisory_lock($1)", zlib.crc32(b"farhand migrate scheduler"))
    migrating = asyncio.create_task(
        wait_until_migrated(fresh_database, Lifecycle("test"), "farhand.scheduler", "scheduler")
    )
    async with asyncio.timeout(30):
        while "another process migrates the schema; waiting for it" not in caplog.messages:
            await asyncio.sleep(0)
        await other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'farhand' AND datname = current_database()"
        )
        while caplog.messages.count("another process migrates the schema; waiting for it") < 2:
            assert not migrating.done()
            await asyncio.sleep(0)
        await other.execute("SELECT pg_advisory_unlock_all()")
        await migrating
    assert await other.fetchval("SELECT to_regclass('scheduler.job') IS NOT NULL")
    await other.close()


async def refuse_as_postgres(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A PostgreSQL server to which every password is wrong."""
    await reader.readexactly(8)  # SSLRequest
    writer.write(b"N")
    (length,) = struct.unpack("!i", await reader.readexactly(4))
    await reader.readexactly(length - 4)  # StartupMessage
    fields = b"SFATAL\0C28P01\0Mthe password is wrong\0\0"
    writer.write(b"E" + struct.pack("!i", len(fields) + 4) + fields)
    writer.close()
    await writer.wait_closed()


async def test_a_wrong_password_is_one_clear_line_without_the_password(database_server: str) -> None:
    parts = urlsplit(database_server)
    wrong = parts._replace(netloc=f"farhand:sesame@{parts.hostname}:{parts.port}").geturl()
    with pytest.raises(StartupError, match="refuses: password") as caught:
        await wait_for_database(wrong, Lifecycle("test"))
    assert "sesame" not in str(caught.value)


async def test_a_database_that_does_not_exist_is_one_clear_line(database_server: str) -> None:
    with pytest.raises(StartupError, match='"nothing" does not exist'):
        await wait_for_database(urlsplit(database_server)._replace(path="/nothing").geturl(), Lifecycle("test"))


@pytest.mark.parametrize("url", ["mysql://x/y", "postgresql://127.0.0.1:http/x", "nonsense"])
async def test_a_url_that_is_none_is_one_clear_line(url: str) -> None:
    with pytest.raises(StartupError, match="FARHAND_DATABASE_URL"):
        await wait_for_database(url, Lifecycle("test"))


async def test_waiting_gives_up_after_the_given_time() -> None:
    with pytest.raises(StartupError, match="can't be reached: Connection refused"):
        await wait_for_database(nowhere(), Lifecycle("test"), give_up_after=0.1)


async def test_waiting_ends_when_the_process_is_asked_to_stop() -> None:
    lifecycle = Lifecycle("test")
    waiting = asyncio.create_task(wait_for_database(nowhere(), lifecycle))
    await asyncio.sleep(0)
    lifecycle.stopping.set()
    with pytest.raises(Stopping):
        await asyncio.wait_for(waiting, 10)


# Connections


async def test_hot_connections_use_generic_plans_and_no_bitmap_scans(fresh_database: str) -> None:
    for hot, expected in ((True, ("force_generic_plan", "off", "off")), (False, ("auto", "on", "off"))):
        connection = await connect(fresh_database, hot=hot)
        found = tuple(
            [await connection.fetchval(f"SHOW {name}") for name in ("plan_cache_mode", "enable_bitmapscan", "jit")]
        )
        await connection.close()
        assert found == expected


async def test_an_engine_survives_the_loss_of_its_connections(fresh_database: str, database_server: str) -> None:
    engine = make_engine(fresh_database)
    async with engine.connect() as connection:
        await connection.execute(sqlalchemy.text("SELECT 1"))
    await terminate_all(database_server, fresh_database)
    async with engine.connect() as connection:
        assert await connection.scalar(sqlalchemy.text("SELECT 1")) == 1
    await engine.dispose()


async def terminate_all(server: str, url: str) -> None:
    """Cut every connection to a database."""
    connection = await asyncpg.connect(server)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", urlsplit(url).path[1:]
    )
    await connection.close()


# Errors


SLEEPERS = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'"


async def provoke(engine: AsyncEngine, statement: str) -> BaseException:
    try:
        async with engine.connect() as connection:
            await connection.execute(sqlalchemy.text(statement))
    except Exception as error:
        return error
    raise AssertionError("no error")


async def test_a_cut_connection_means_unavailable_by_asyncpg_and_by_sqlalchemy(
    fresh_database: str, database_server: str
) -> None:
    raw = await connect(fresh_database)
    engine = make_engine(fresh_database)
    sleeping = asyncio.create_task(provoke(engine, "SELECT pg_sleep(60)"))
    raw_sleeping = asyncio.create_task(raw.execute("SELECT pg_sleep(60)"))
    watcher = await asyncpg.connect(database_server)
    async with asyncio.timeout(10):
        while await watcher.fetchval(SLEEPERS) < 2:  # nor does a statement that began
            await asyncio.sleep(0)
    await watcher.close()
    await terminate_all(database_server, fresh_database)
    assert isinstance(database_error(await sleeping), Unavailable)
    with pytest.raises(asyncpg.PostgresError) as caught:
        await raw_sleeping
    assert isinstance(database_error(caught.value), Unavailable)
    with pytest.raises(asyncpg.InterfaceError) as closed:
        await raw.execute("SELECT 1")
    assert isinstance(database_error(closed.value), Unavailable)
    await engine.dispose()


async def test_a_database_that_is_away_means_unavailable() -> None:
    engine = make_engine(nowhere())
    assert isinstance(database_error(await provoke(engine, "SELECT 1")), Unavailable)
    await engine.dispose()


async def test_a_transaction_that_stood_still_until_the_server_hung_up_means_unavailable(fresh_database: str) -> None:
    raw = await connect(fresh_database)
    over = asyncio.Event()
    raw.add_termination_listener(lambda _: over.set())
    transaction = raw.transaction()
    await transaction.start()
    await raw.execute("SET LOCAL idle_in_transaction_session_timeout = '1ms'")
    await asyncio.wait_for(over.wait(), 10)
    assert isinstance(
        database_error(asyncpg.IdleInTransactionSessionTimeoutError("terminating connection")), Unavailable
    )
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)) as caught:
        await raw.execute("SELECT 1")
    assert isinstance(database_error(caught.value), Unavailable)


async def test_no_free_connection_for_long_means_unavailable(fresh_database: str) -> None:
    url = make_url(fresh_database).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.01)
    async with engine.connect():
        busy = database_error(await provoke(engine, "SELECT 1"))
    assert isinstance(busy, Unavailable) and "Too many calls" in busy.message
    await engine.dispose()


async def test_a_faulty_statement_is_not_taken_for_an_outage(fresh_database: str) -> None:
    engine = make_engine(fresh_database)
    assert database_error(await provoke(engine, "SELECT 1/0")) is None
    assert database_error(await provoke(engine, "SELECT nothing")) is None
    await engine.dispose()
    assert database_error(KeyError("x")) is None


# Migrations

FIRST = """
    from alembic import op
    revision = "0001"
    down_revision = None
    def upgrade():
        op.execute("SELECT pg_sleep(0.2)")
        op.execute("CREATE TABLE sample.first (x int)")
"""
SECOND = """
    from alembic import op
    revision = "0002"
    down_revision = "0001"
    def upgrade():
        op.execute("CREATE TABLE sample.second (x int)")
"""
BROKEN = """
    from alembic import op
    revision = "0002"
    down_revision = "0001"
    def upgrade():
        op.execute("CREATE TABLE sample.second (x int)")
        op.execute("SELECT 1/0")
"""


@pytest.fixture
def history(tmp_path: Path) -> Iterator[Path]:
    """The folder of an importable package's migrations, with a first one."""
    versions = tmp_path / "store" / "migrations" / "versions"
    versions.mkdir(parents=True)
    (tmp_path / "__init__.py").touch()
    write(versions, "0001_first", FIRST)
    sys.path.insert(0, str(tmp_path.parent))
    yield versions
    sys.path.remove(str(tmp_path.parent))
    sys.modules.pop(tmp_path.name, None)


def write(versions: Path, name: str, text: str) -> None:
    (versions / f"{name}.py").write_text(textwrap.dedent(text))


def package_of(versions: Path) -> str:
    return versions.parents[2].name


async def tables(url: str) -> set[str]:
    connection = await connect(url)
    rows = await connection.fetch("SELECT table_name FROM information_schema.tables WHERE table_schema = 'sample'")
    await connection.close()
    return {row["table_name"] for row in rows}


async def revision(url: str) -> str:
    connection = await connect(url)
    try:
        return str(await connection.fetchval("SELECT version_num FROM sample.alembic_version"))
    finally:
        await connection.close()


async def test_concurrent_callers_migrate_once(empty_database: str, history: Path) -> None:
    await asyncio.gather(*(migrate(empty_database, package_of(history), "sample") for _ in range(3)))
    assert await tables(empty_database) == {"alembic_version", "first"}


async def test_a_later_migration_is_added_and_the_rest_is_left(empty_database: str, history: Path) -> None:
    await migrate(empty_database, package_of(history), "sample")
    write(history, "0002_second", SECOND)
    await migrate(empty_database, package_of(history), "sample")
    await migrate(empty_database, package_of(history), "sample")
    assert await tables(empty_database) == {"alembic_version", "first", "second"}
    assert await revision(empty_database) == "0002"


async def test_a_migration_that_fails_leaves_nothing_of_itself(empty_database: str, history: Path) -> None:
    write(history, "0002_broken", BROKEN)
    with pytest.raises(sqlalchemy.exc.DBAPIError, match="division by zero"):
        await migrate(empty_database, package_of(history), "sample")
    assert await tables(empty_database) == {"alembic_version", "first"}
    assert await revision(empty_database) == "0001"


async def test_an_older_program_leaves_a_newer_schema_alone(empty_database: str, history: Path) -> None:
    write(history, "0002_second", SECOND)
    await migrate(empty_database, package_of(history), "sample")
    (history / "0002_second.py").unlink()
    await migrate(empty_database, package_of(history), "sample")
    assert await revision(empty_database) == "0002"


async def test_the_histories_of_two_services_do_not_meet(fresh_database: str) -> None:
    connection = await connect(fresh_database)
    rows = await connection.fetch(
        "SELECT table_schema FROM information_schema.tables WHERE table_name = 'alembic_version'"
    )
    await connection.close()
    assert {row["table_schema"] for row in rows} == {"registry", "scheduler"}
