"""A job's pipe, read to its end: end-of-file, or all that it holds when the run is over."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from farhand.worker.pipe_reader import PipeReader

PATIENCE = 60.0
CAPACITY = 65_536


class Pipe:
    """A pipe whose other end this test holds, as a stranger to the job might."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.write_fd, False)
        self.reader = PipeReader(self.read_fd)

    async def write(self, size: int) -> None:
        """Write as the reader makes room; returns when all is in the pipe or beyond it."""
        async with asyncio.timeout(PATIENCE):
            while size:
                try:
                    size -= os.write(self.write_fd, bytes(size))
                except BlockingIOError:
                    await asyncio.sleep(0)

    async def read(self) -> int:
        async with asyncio.timeout(PATIENCE):
            return len(await self.reader.stream.read())


@pytest.fixture
async def pipe() -> AsyncIterator[Pipe]:
    pipe = Pipe()
    yield pipe
    os.close(pipe.write_fd)
    pipe.reader.close()
    assert pipe.reader.is_closing()


async def test_the_end_of_the_run_is_the_end_of_an_empty_pipe(pipe: Pipe) -> None:
    pipe.reader.run_ended()
    assert await pipe.read() == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(pipe.read_fd)


async def test_what_the_pipe_holds_at_the_end_of_the_run_is_read(pipe: Pipe) -> None:
    await pipe.write(CAPACITY)
    pipe.reader.run_ended()
    pipe.reader.run_ended()
    assert await pipe.read() == CAPACITY


async def test_a_reader_that_was_full_at_the_end_of_the_run_still_finds_it(pipe: Pipe) -> None:
    await pipe.write(3 * CAPACITY)
    while pipe.reader.is_reading():
        await asyncio.sleep(0)  # until it is full, and the pipe empty
    pipe.reader.run_ended()
    assert await pipe.read() == 3 * CAPACITY


async def test_a_reader_whose_consumer_is_behind_lets_the_pipe_fill(pipe: Pipe) -> None:
    await pipe.write(3 * CAPACITY)
    while pipe.reader.is_reading():
        await asyncio.sleep(0)
    await pipe.write(CAPACITY)
    await asyncio.sleep(0)
    with pytest.raises(BlockingIOError):
        os.write(pipe.write_fd, b"one more")
    pipe.reader.run_ended()
    assert await pipe.read() == 4 * CAPACITY


async def test_a_closed_reader_ends_its_stream(pipe: Pipe) -> None:
    pipe.reader.close()
    pipe.reader.close()
    pipe.reader.run_ended()
    assert await pipe.read() == 0
