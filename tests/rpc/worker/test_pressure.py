"""A worker whose machine is short of something takes no new jobs, says so, and takes some again."""

import os

import pytest

from farhand.worker.data_folder import DataFolder
from tests.fixtures.fake_scheduler import FakeScheduler, a_job

MIB = 1 << 20


async def test_short_of_disk_no_credit_is_given_until_there_is_a_quarter_more(
    fake_scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 500 * MIB
    monkeypatch.setattr(DataFolder, "free_bytes", property(lambda _: free))
    fake_scheduler.heartbeat_interval = 0.1
    await fake_scheduler.run_worker(slots=2, min_disk=100 * MIB, min_memory=0)
    session = await fake_scheduler.session()
    await session.until(lambda: session.credit == 2)
    free = 99 * MIB
    beat = await session.until(lambda: [beat for beat in session.of("heartbeat") if beat.pressure])
    assert beat[0].pressure == "disk: 99 MiB free, 100 MiB needed"
    session.assign(a_job("job-1", "true"), a_job("job-2", "true", fence=2))  # what was granted stands
    await session.result("job-1")
    await session.result("job-2", 2)
    free = 110 * MIB
    so_far = len(session.of("heartbeat"))
    await session.until(lambda: len(session.of("heartbeat")) > so_far + 2)
    assert session.credit == 2
    free = 125 * MIB
    await session.until(lambda: session.credit == 4)
    so_far = len(session.of("heartbeat"))
    await session.until(lambda: len(session.of("heartbeat")) > so_far + 1)
    assert not session.of("heartbeat")[-1].pressure


async def test_a_worker_that_is_short_from_the_beginning_gives_no_credit_at_all(fake_scheduler: FakeScheduler) -> None:
    fake_scheduler.heartbeat_interval = 0.1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    await fake_scheduler.run_worker(min_memory=2 * memory)
    session = await fake_scheduler.session()
    await session.until(lambda: len(session.of("heartbeat")) > 2)
    assert session.of("heartbeat")[0].pressure.startswith("memory: ")
    assert not session.credit
