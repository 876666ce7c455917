"""A house for each test that asks for one."""

from collections.abc import AsyncIterator

import pytest

from tests.fixtures.scheduler_rows import Rows
from tests.rpc.scheduler.job_house import House, open_house


@pytest.fixture
async def house(rows: Rows) -> AsyncIterator[House]:
    """The front rooms of a scheduler with the default group; whoever calls is local."""
    await rows.group("")
    async with open_house(rows) as house:
        yield house
