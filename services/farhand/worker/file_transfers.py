"""Files between this worker and the scheduler: FileService, called again until it answers.

A scheduler that is away comes back, and so does what keeps its files; a run waits
for that as long as its lease and its timeout allow (its coroutine is cancelled
then). What a scheduler refuses for good ends the transfer with its own words. A
scheduler that is there and can't serve for ten minutes counts as that too, or a
job without a timeout would hold its slot for ever.
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypeVar

import grpc

from farhand.api.worker.v1 import file_service_pb2 as api
from farhand.kernel.durations import format_duration
from farhand.runtime.grpc_channel import remote_error
from farhand.worker.core.redial import bound
from farhand.worker.core.slots import JobKey
from farhand.worker.tasks.base import FileFailed

if TYPE_CHECKING:
    from farhand.api.worker.v1.file_service_pb2_grpc import FileServiceAsyncStub

T = TypeVar("T")

PIECE = 256 * 1024  # bytes in one message
AT_ONCE = 8  # transfers of one worker
PATIENCE = 600.0  # seconds that a connected scheduler may be unable to serve
LIST_SECONDS = 30.0

# Trying again would bring the same; everything else may pass. INTERNAL too: grpc.aio says that of a write which
# met a refusal, and so hides it; the next try is told.
_FINAL = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


class Connected(Protocol):
    """Waits until there is a session, and gives the stub to call."""

    def __call__(self) -> "Awaitable[FileServiceAsyncStub]": ...


Waiting = Callable[[str], None]
"""Told why a transfer has to be tried again."""


class FileTransfers:
    """All transfers of one worker. Each raises FileFailed where there is no hope."""

    def __init__(self, connected: Connected, jitter: Callable[[], float] = random.random) -> None:
        self._connected = connected
        self._jitter = jitter
        self._room = asyncio.Semaphore(AT_ONCE)

    async def upload(self, key: JobKey, path: str, file: BinaryIO, waiting: Waiting) -> str:
        """Store what the file holds now under this path of the job; answers where it is then."""
        size = os.fstat(file.fileno()).st_size
        header = api.UploadFileHeader(job_id=key[0], fence=key[1], path=path, size=size)

        async def attempt(stub: "FileServiceAsyncStub") -> str:
            answer = await stub.UploadFile(_upload(header, file))
            return answer.uri

        return await self._patiently(attempt, waiting)

    async def download(self, request: api.DownloadFileRequest, to: Path, waiting: Waiting) -> None:
        """Write a file to `to`, a new one."""

        async def attempt(stub: "FileServiceAsyncStub") -> None:
            with await asyncio.to_thread(to.open, "wb") as file:
                async for answer in stub.DownloadFile(request):
                    await asyncio.to_thread(file.write, answer.chunk)
                await asyncio.to_thread(file.flush)

        try:
            await self._patiently(attempt, waiting)
        except OSError as error:
            raise FileFailed(f"it can't be written on this worker: {error.strerror}") from None

    async def namespace_files(self, key: JobKey, waiting: Waiting) -> list[api.JobNamespaceFile]:
        """The files of the job's namespace, by path."""
        request = api.ListNamespaceFilesRequest(job_id=key[0], fence=key[1])

        async def attempt(stub: "FileServiceAsyncStub") -> list[api.JobNamespaceFile]:
            return list((await stub.ListNamespaceFiles(request, timeout=LIST_SECONDS)).files)

        return await self._patiently(attempt, waiting)

    async def _patiently(self, attempt: "Callable[[FileServiceAsyncStub], Awaitable[T]]", waiting: Waiting) -> T:
        failures = 0
        patience = PATIENCE
        while True:
            stub = await self._connected()  # time without a session is the lease's affair, not that of our patience
            began = time.monotonic()
            try:
                async with self._room:
                    return await _once(attempt(stub))
            except grpc.aio.AioRpcError as error:
                if error.code() in _FINAL:
                    raise FileFailed(remote_error(error).message) from None
                why = error.details() or error.code().name
            except _SessionEnded as error:
                why = str(error)
            waiting(why)
            await asyncio.sleep(self._jitter() * bound(failures, None))
            failures += 1
            patience -= time.monotonic() - began
            if patience <= 0:
                raise FileFailed(f"the scheduler could not serve for {format_duration(PATIENCE)}: {why}")


class _SessionEnded(Exception):
    """The session's channel was closed under the call."""


async def _once(call: Awaitable[T]) -> T:
    """One call. Raises AioRpcError, and _SessionEnded where grpc says that by cancelling who waits."""
    try:
        return await call
    except grpc.aio.UsageError as error:
        raise _SessionEnded(str(error)) from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise _SessionEnded("the session with the scheduler ended") from None


async def _upload(header: api.UploadFileHeader, file: BinaryIO) -> AsyncIterator[api.UploadFileRequest]:
    yield api.UploadFileRequest(header=header)
    position = 0
    while position < header.size:
        piece = await asyncio.to_thread(os.pread, file.fileno(), min(PIECE, header.size - position), position)
        if not piece:  # it shrank; the scheduler refuses what is not as long as announced
            return
        position += len(piece)
        yield api.UploadFileRequest(chunk=piece)
