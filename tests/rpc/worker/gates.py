"""Jobs that wait for the test, and waiting for what they leave."""

import asyncio
from pathlib import Path


def a_gate(folder: Path) -> str:
    """A command that ends once the gate is opened: `(folder / "open").touch()`; each run leaves a line in `runs`."""
    return f"echo run >> {folder}/runs; while [ ! -e {folder}/open ]; do sleep 0.05; done"


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
