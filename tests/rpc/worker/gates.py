"""Jobs that wait for the test, and waiting for what they leave."""

import asyncio
from pathlib import Path
from typing import Any

from tests.fixtures.fake_scheduler import FakeScheduler, FakeSession, a_job


def a_gate(folder: Path) -> str:
    """A command that ends once the gate is opened: `(folder / "open").touch()`; each run leaves a line in `runs`."""
    return f"echo run >> {folder}/runs; while [ ! -e {folder}/open ]; do sleep 0.05; done"


async def a_job_at_the_gate(fake_scheduler: FakeScheduler, folder: Path, **settings: Any) -> FakeSession:
    """The session of a fresh worker that runs job-1, which waits at the gate."""
    await fake_scheduler.run_worker(**settings)
    session = await fake_scheduler.session()
    session.assign(a_job("job-1", a_gate(folder)))
    await session.has_started("job-1")
    return session


async def exists(path: Path) -> None:
    """Wait for a file."""
    async with asyncio.timeout(15):
        while not path.exists():
            await asyncio.sleep(0.01)


async def gone(pid: int) -> None:
    """Wait for the end of a process."""
    async with asyncio.timeout(15):
        while Path("/proc", str(pid)).exists():
            await asyncio.sleep(0.01)
