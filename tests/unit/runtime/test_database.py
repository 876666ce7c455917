"""Waiting for a database, migrating it, and what its errors mean."""

import asyncpg


async def test_a_fresh_database_has_the_schemas_of_the_services(fresh_database: str) -> None:
    connection = await asyncpg.connect(fresh_database)
    names = {row["nspname"] for row in await connection.fetch("SELECT nspname FROM pg_namespace")}
    await connection.close()
    assert {"registry", "scheduler"} <= names
