"""Reads while there is no database."""

import pytest
from sqlalchemy import text

from farhand.kernel.errors import Unavailable
from farhand.runtime.database import make_engine
from farhand.scheduler.store.reading import Reading


async def test_a_database_that_is_away_is_unavailable() -> None:
    engine = make_engine("postgresql://nobody:x@127.0.0.1:1/none")
    with pytest.raises(Unavailable):
        async with Reading(engine).connection() as connection:
            await connection.execute(text("SELECT 1"))
    await engine.dispose()
