"""What the migrations make is what `tables.py` says, and what a new registry holds."""

import sqlalchemy as sql
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.ext.asyncio import AsyncEngine

from farhand.kernel.resolution import Fallback
from farhand.registry.core.worker_group import DEFAULT_LEASE, GroupState
from farhand.registry.store import snapshots
from farhand.registry.store.tables import METADATA
from farhand.registry.store.transactions import Transactions
from farhand.runtime.database import make_engine, migrate

DIALECT = dialect()  # type: ignore[no-untyped-call]


def described(connection: sql.Connection) -> dict[str, list[tuple[str, str, bool]]]:
    inspector = sql.inspect(connection)
    return {
        table: [
            (column["name"], column["type"].compile(DIALECT), bool(column["nullable"]))
            for column in inspector.get_columns(table, schema="registry")
        ]
        for table in inspector.get_table_names(schema="registry")
        if table != "alembic_version"
    }


async def test_the_tables_in_the_code_are_the_tables_in_the_database(registry_engine: AsyncEngine) -> None:
    async with registry_engine.connect() as connection:
        made = await connection.run_sync(described)
    assert made == {
        table.name: [(column.name, column.type.compile(DIALECT), bool(column.nullable)) for column in table.columns]
        for table in METADATA.sorted_tables
    }


async def test_a_new_registry_has_the_tenant_main_and_the_default_group(transactions: Transactions) -> None:
    async with transactions.reading() as connection:
        snapshot = await snapshots.read(connection)
    assert snapshot.revision == 2
    (main,), (group,) = snapshot.tenants, snapshot.worker_groups
    assert (main.id, main.default_worker_group, main.default_fallback) == ("main", None, None)
    assert (group.key, group.state, group.lease, group.allowed_tenants) == ("", GroupState.ACTIVE, DEFAULT_LEASE, ())
    assert group.uid.startswith("wg_") and len(group.uid) == 19
    assert snapshot.namespaces == []


async def test_migrating_again_changes_nothing_and_each_installation_has_its_own_default_group(
    transactions: Transactions, empty_database: str
) -> None:
    await migrate(empty_database, "farhand.registry", "registry")
    await migrate(empty_database, "farhand.registry", "registry")
    engine = make_engine(empty_database)
    try:
        async with Transactions(engine).reading() as connection:
            other = await snapshots.read(connection)
    finally:
        await engine.dispose()
    async with transactions.reading() as connection:
        ours = await snapshots.read(connection)
    assert other.revision == ours.revision == 2
    assert other.worker_groups[0].uid != ours.worker_groups[0].uid


async def test_every_fallback_of_the_kernel_can_be_stored(transactions: Transactions) -> None:
    for fallback in Fallback:
        async with transactions.changing() as connection:
            await connection.execute(
                sql.text("UPDATE registry.tenant SET default_fallback = :fallback"), {"fallback": fallback}
            )
