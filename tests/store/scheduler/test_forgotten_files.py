"""Files go with the job that wrote them, and not before."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from farhand.kernel.errors import Unavailable
from farhand.kernel.job_id import encode
from farhand.runtime.file_store.folder import FolderStore
from farhand.scheduler.loops.forgotten_files import ForgottenFiles
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.loops.upkeep import Upkeep
from farhand.scheduler.store.files import read_held
from tests.fixtures.scheduler_rows import Rows

DAY = 24 * 3600.0


class House:
    """Upkeep, and the deletion of files behind it."""

    def __init__(self, rows: Rows, folder: Path) -> None:
        self.rows = rows
        self.connection = HotConnection(rows.url)
        self.store = FolderStore.open(folder)
        self.upkeep = Upkeep(self.connection, replica="here", retention=30 * DAY, pause=0)
        self.files = ForgottenFiles(self.connection, self.store)

    async def write(self, key: int, tenant: str = "main") -> None:
        async def content() -> AsyncIterator[bytes]:
            yield b"x"

        await self.store.write(f"{tenant}/{encode(key)}/{encode(key)}/1/a", content())
        await self.rows.connection.execute(
            "INSERT INTO scheduler.job_with_files (key, tenant) VALUES ($1, $2)", key, tenant
        )

    async def noted(self) -> set[int]:
        return {row["key"] for row in await self.rows.connection.fetch("SELECT key FROM scheduler.job_with_files")}


@pytest.fixture
async def house(rows: Rows, tmp_path: Path) -> AsyncIterator[House]:
    it = House(rows, tmp_path)
    yield it
    it.connection.drop()
    await it.store.close()


def stored(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("a")}


async def test_files_of_forgotten_jobs_are_deleted_and_those_of_others_stay(house: House, tmp_path: Path) -> None:
    lane = await house.rows.lane(await house.rows.group("gpu"))
    old = [await house.rows.done(lane, age=31 * DAY, created=40 * DAY) for _ in range(3)]
    young = await house.rows.done(lane, age=DAY, created=40 * DAY)
    for key in (*old[:2], young):
        await house.write(key)
    await house.files.once()
    assert len(stored(tmp_path)) == 3
    await house.upkeep.once()
    assert len(stored(tmp_path)) == 3  # another loop's work
    await house.files.once()
    assert stored(tmp_path) == {f"main/{encode(young)}/{encode(young)}/1/a"}
    assert await house.noted() == {young}


async def test_a_store_that_is_away_is_asked_again(house: House, tmp_path: Path) -> None:
    lane = await house.rows.lane(await house.rows.group("gpu"))
    old = await house.rows.done(lane, age=31 * DAY, created=40 * DAY)
    await house.write(old)
    await house.upkeep.once()

    class Away(FolderStore):
        async def delete(self, prefix: str) -> None:
            raise Unavailable("away")

    with pytest.raises(Unavailable):
        await ForgottenFiles(house.connection, Away(tmp_path)).once()
    assert await house.noted() == {old}
    await house.files.once()
    assert await house.noted() == set() and stored(tmp_path) == set()


async def test_a_job_is_noted_before_its_first_file_and_only_where_it_is_held(house: House) -> None:
    group = await house.rows.group("gpu")
    lane, session = await house.rows.lane(group), await house.rows.session(group)
    key = await house.rows.live(lane, session)
    connection = house.rows.connection
    row = await connection.fetchrow(
        "SELECT v.fence, s.subject FROM scheduler.live v JOIN scheduler.session s ON s.id = v.session_id"
    )
    assert await read_held(connection, key, row["fence"], row["subject"] + "x", storing=True) is None
    assert await read_held(connection, key, row["fence"] + 1, row["subject"], storing=True) is None
    assert await read_held(connection, key, row["fence"], row["subject"]) is not None
    assert await house.noted() == set()
    for _ in range(2):
        assert await read_held(connection, key, row["fence"], row["subject"], storing=True) is not None
    assert await house.noted() == {key}
