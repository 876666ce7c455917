"""The tables as reads name them are the tables as the migrations make them."""

import sqlalchemy

from farhand.scheduler.store import tables
from tests.fixtures.scheduler_rows import Rows


async def test_every_table_has_the_columns_of_the_database(rows: Rows) -> None:
    declared = {
        table.name: set(table.columns.keys()) for table in vars(tables).values() if isinstance(table, sqlalchemy.Table)
    }
    found: dict[str, set[str]] = {}
    for row in await rows.connection.fetch(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'scheduler'"
    ):
        found.setdefault(row["table_name"], set()).add(row["column_name"])
    assert declared == {name: found[name] for name in declared}
    assert "job" in declared
