"""PostgreSQL as services use it: wait for it, connect, migrate, and what its errors mean.

For the server's extra only (SQLAlchemy, asyncpg, Alembic).
"""

import asyncio
import logging
import os
import socket
import time
import zlib
from importlib import resources
from urllib.parse import urlsplit

import asyncpg
import sqlalchemy
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from farhand.kernel.errors import Unavailable
from farhand.runtime.service import Lifecycle, StartupError

_CONNECT_SECONDS = 10.0
_COMMAND_SECONDS = 60.0
_SAY_EVERY = 5.0
_SETTINGS = {
    # Costs milliseconds for statements that take microseconds.
    "jit": "off",
    # A snapshot that a stuck client holds open halves everyone's throughput.
    "idle_in_transaction_session_timeout": "60s",
}
# With custom plans and bitmap scans the queue's dead entries are read again and again.
_HOT_SETTINGS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_bitmapscan": "off",
    # Plans are made once, while the tables may still be empty.
    "enable_seqscan": "off",
    "join_collapse_limit": "1",
}

log = logging.getLogger(__name__)

# The server, or the way to it, is not there now.
_LOST: tuple[type[BaseException], ...] = (
    OSError,  # refused, reset, unreachable; also a connect that timed out
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.IdleInTransactionSessionTimeoutError,  # we stood still in a transaction, and the server hung up
    asyncpg.InternalClientError,  # the driver lost its place: the server's farewell met a statement of ours
)
_HOPELESS: tuple[type[BaseException], ...] = (
    asyncpg.InvalidAuthorizationSpecificationError,  # and its child for a wrong password
    asyncpg.InvalidCatalogNameError,
)


async def wait_for_database(url: str, lifecycle: Lifecycle, *, give_up_after: float | None = None) -> None:
    """Return once the database answers.

    Says at most every 5 s what it waits for. StartupError at once for what waiting
    doesn't mend (URL, password, no such database), and after give_up_after seconds;
    Stopping when the process is asked to stop.
    """
    where = _where(url)
    began = time.monotonic()
    said = -_SAY_EVERY
    pause = 0.05
    while True:
        try:
            connection = await connect(url)
        except _HOPELESS as error:
            raise StartupError(f"The database at {where} refuses: {error}. Check FARHAND_DATABASE_URL.") from None
        except (asyncpg.ClientConfigurationError, ValueError) as error:
            raise StartupError(f"FARHAND_DATABASE_URL is not usable: {error}.") from None
        except _LOST as error:
            now = time.monotonic()
            reason = _reason(error)
            if give_up_after is not None and now - began >= give_up_after:
                raise StartupError(f"The database at {where} can't be reached: {reason}.") from None
            if now - began - said >= _SAY_EVERY:
                said = now - began
                log.info(f"waiting for the database at {where}: {reason}")
        else:
            await connection.close()
            return
        await lifecycle.sleep(pause)
        pause = min(pause * 1.5, 1.0)


async def wait_until_migrated(url: str, lifecycle: Lifecycle, package: str, schema: str) -> None:
    """Wait for the database and bring a service's schema up to date; where the database goes away in the middle of
    that it is waited for again. Raises as `wait_for_database` does."""
    while True:
        await wait_for_database(url, lifecycle)
        try:
            await migrate(url, package, schema)
        except Exception as error:
            if database_error(error) is None:
                raise
            log.warning("the database went away before its schema was looked at; waiting for it again")
        else:
            return


def make_engine(url: str) -> AsyncEngine:
    """An engine for SQLAlchemy Core; each connection is checked before use, so a restarted server is no error."""

    async def create() -> asyncpg.Connection:
        return await connect(url)

    # asyncpg reads the URL itself, so both ways to the database understand the same parameters.
    return create_async_engine(
        "postgresql+asyncpg://", async_creator=create, pool_size=5, max_overflow=5, pool_pre_ping=True
    )


async def connect(url: str, *, hot: bool = False) -> asyncpg.Connection:
    """A connection of one's own.

    hot: for loops that run the same few statements on the queue: generic plans and
    no bitmap scans (performance.md, traps). A statement may take 60 s.
    """
    return await asyncpg.connect(
        url,
        timeout=_CONNECT_SECONDS,
        command_timeout=_COMMAND_SECONDS,
        server_settings={"application_name": "farhand", **_SETTINGS, **(_HOT_SETTINGS if hot else {})},
    )


async def migrate(url: str, package: str, schema: str) -> None:
    """Bring a schema up to date with the Alembic history in `<package>/store/migrations`.

    The version table lives in the schema, which is made where it is missing. An
    advisory lock lets one process migrate and the others wait for it. A schema that
    is ahead of this program is left alone: migrations expand first, so that an old
    replica runs beside a new one.
    """
    folder = resources.files(package).joinpath("store", "migrations")
    config = Config()
    config.set_main_option("script_location", str(folder))
    engine = make_engine(url)
    try:
        async with engine.connect() as connection:
            await _lock(connection, schema)
            await connection.run_sync(_upgrade, config, schema)
    finally:
        await engine.dispose()


def database_error(error: BaseException) -> Unavailable | None:
    """Unavailable where the error means that the database can't be reached now, or is too busy, else None."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        if error.connection_invalidated:
            return _unavailable()
        cause = error.orig.__cause__
        return None if cause is None else database_error(cause)
    if isinstance(error, PoolTimeout):
        return Unavailable("Too many calls wait for the database. Try again.", retry_delay=1.0)
    if isinstance(error, _LOST) or (isinstance(error, asyncpg.InterfaceError) and "clos" in str(error)):
        return _unavailable()
    return None


def _unavailable() -> Unavailable:
    return Unavailable("The database can't be reached now. Try again.", retry_delay=1.0)


async def _lock(connection: AsyncConnection, schema: str) -> None:
    """Take the schema's advisory lock; it ends with the connection.

    By trying, not by waiting inside of the server: a statement that waits holds a
    snapshot, and CREATE INDEX CONCURRENTLY of the one who migrates would wait for it.
    """
    key = zlib.crc32(f"farhand migrate {schema}".encode())
    said = False
    while not await connection.scalar(sqlalchemy.text("SELECT pg_try_advisory_lock(:key)"), {"key": key}):
        await connection.commit()
        if not said:
            said = True
            log.info("another process migrates the schema; waiting for it", extra={"schema": schema})
        await asyncio.sleep(0.1)
    await connection.commit()


def _upgrade(connection: sqlalchemy.Connection, config: Config, schema: str) -> None:
    script = ScriptDirectory.from_config(config)
    connection.execute(sqlalchemy.schema.CreateSchema(schema, if_not_exists=True))
    connection.commit()
    present = MigrationContext.configure(connection, opts={"version_table_schema": schema}).get_current_heads()
    connection.commit()
    known = {revision.revision for revision in script.walk_revisions()}
    if not known.issuperset(present):
        log.warning("the schema is newer than this program", extra={"schema": schema, "revision": ", ".join(present)})
        return
    if set(present) == set(script.get_heads()):
        return
    environment = EnvironmentContext(
        config, script, fn=lambda revision, _: script._upgrade_revs("head", revision), destination_rev="head"
    )
    with environment:
        environment.configure(connection=connection, version_table_schema=schema, transaction_per_migration=True)
        environment.run_migrations()
    connection.commit()
    log.info("migrated", extra={"schema": schema, "revision": ", ".join(script.get_heads())})


def _where(url: str) -> str:
    """HOST:PORT of a URL, without the password."""
    parts = urlsplit(url)
    try:
        return f"{parts.hostname or 'localhost'}:{parts.port or 5432}"
    except ValueError:
        raise StartupError("FARHAND_DATABASE_URL is not usable: its port is no number.") from None


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {_CONNECT_SECONDS:.0f} s"
    if isinstance(error, socket.gaierror):
        return error.strerror or "the host is not known"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)  # asyncio's own text repeats the address
    return str(error) or type(error).__name__
