"""FileService: files between workers and what keeps them.

Everything is asked under the fence of an assignment that the caller's credential has
now, and happens in that job's tenant (P10). A stored file's address has the fence in
it, so a run that lost its job can't touch what its successor stored (P4).
"""

import asyncio
from collections.abc import AsyncIterator

import asyncpg

from farhand.api.worker.v1 import file_service_pb2 as api
from farhand.api.worker.v1 import file_service_pb2_grpc
from farhand.kernel.errors import FileTooLarge, InvalidArgument, StaleFence, Unavailable, Violation
from farhand.kernel.file_paths import check_path
from farhand.kernel.file_uri import FileUri
from farhand.kernel.job_id import decode, encode
from farhand.runtime.crash_points import reach
from farhand.runtime.file_store import FileStore, KeyRefused
from farhand.runtime.security import Identity, identity
from farhand.scheduler.rpc.file_reads import FileReads
from farhand.scheduler.rpc.namespace_files import NamespaceFiles
from farhand.scheduler.store.files import HeldJob, read_held

_MOST_IN_A_MESSAGE = 1 << 20
_UPLOADS_AT_ONCE = 64  # each may hold a part of some MiB in memory; the others wait, and so do their workers
_SILENCE_SECONDS = 60.0  # after which an upload that brings nothing gives up its place


class FileService(file_service_pb2_grpc.FileServiceServicer):
    """farhand.api.worker.v1.FileService; the access table lets only workers call it."""

    def __init__(
        self, pool: asyncpg.Pool, store: FileStore, reads: FileReads, namespace_files: NamespaceFiles, largest: int
    ) -> None:
        """`largest`: bytes of an output file."""
        self._pool = pool
        self._store = store
        self._reads = reads
        self._namespace_files = namespace_files
        self._largest = largest
        self._room = asyncio.Semaphore(_UPLOADS_AT_ONCE)

    async def UploadFile(
        self, request_iterator: AsyncIterator[api.UploadFileRequest], context: object
    ) -> api.UploadFileResponse:
        """See the proto."""
        caller = identity(context)
        first = await _next(request_iterator)
        if first is None or first.WhichOneof("part") != "header":
            raise InvalidArgument.of(Violation("header", "must come first: which file it is"))
        header = first.header
        if violations := check_path("header.path", header.path):
            raise InvalidArgument.of(*violations)
        if header.size > self._largest:
            raise self._too_large("header.size")
        async with self._room:
            job = await self._held(header.job_id, header.fence, caller, storing=True)
            uri = FileUri(job.tenant, encode(job.key), encode(job.key), job.fence, header.path)
            try:
                size = await self._store.write(uri.key, self._content(request_iterator, header.size))
            except KeyRefused as error:
                raise InvalidArgument.of(Violation("header.path", f"can't be stored: {error}")) from None
        reach("file stored")
        return api.UploadFileResponse(uri=str(uri), size=size)

    async def _content(self, requests: AsyncIterator[api.UploadFileRequest], announced: int) -> AsyncIterator[bytes]:
        """Raises InvalidArgument where it is not as long as announced, so nothing is stored then."""
        size = 0
        while (request := await _next(requests)) is not None:
            if request.WhichOneof("part") != "chunk":
                raise InvalidArgument.of(Violation("chunk", "must follow the header, and nothing else"))
            chunk = request.chunk
            if len(chunk) > _MOST_IN_A_MESSAGE:
                raise InvalidArgument.of(Violation("chunk", f"has {len(chunk):,} bytes; at most 1 MiB is allowed"))
            size += len(chunk)
            if size > self._largest:
                raise self._too_large("chunk")
            if chunk:
                yield chunk
                reach("file arriving")
        if size != announced:
            raise InvalidArgument.of(Violation("header.size", f"is {announced:,}, but {size:,} bytes came"))

    def _too_large(self, path: str) -> FileTooLarge:
        return FileTooLarge(
            f"The file is over {self._largest:,} bytes, the most that this scheduler takes (--max-file).",
            violations=[Violation(path, "is too large")],
        )

    async def DownloadFile(
        self, request: api.DownloadFileRequest, context: object
    ) -> AsyncIterator[api.DownloadFileResponse]:
        """See the proto."""
        job = await self._held(request.job_id, request.fence, identity(context))
        match request.WhichOneof("file"):
            case "uri":
                async with self._reads.opened(request.uri, job.tenant.__eq__) as file:
                    async for piece in file.content:
                        yield api.DownloadFileResponse(chunk=piece)
            case "namespace_file":
                async for piece in self._namespace_files.read(job.tenant, job.namespace, request.namespace_file):
                    yield api.DownloadFileResponse(chunk=piece)
            case _:
                raise InvalidArgument.of(Violation("file", "must be set: which file"))

    async def ListNamespaceFiles(
        self, request: api.ListNamespaceFilesRequest, context: object
    ) -> api.ListNamespaceFilesResponse:
        """See the proto."""
        job = await self._held(request.job_id, request.fence, identity(context))
        return api.ListNamespaceFilesResponse(files=await self._namespace_files.of(job.tenant, job.namespace))

    async def _held(self, job_id: str, fence: int, caller: Identity, *, storing: bool = False) -> HeldJob:
        """The job, if it is the caller's now. Raises StaleFence; nothing tells why, since it may be another's."""
        key = decode(job_id)
        job = None
        if key is not None and fence > 0:
            async with self._pool.acquire() as connection:
                job = await read_held(connection, key, fence, caller.subject, storing=storing)
        if job is None:
            raise StaleFence("The job is not assigned to this worker under this fence, or not any more.")
        return job


async def _next(requests: AsyncIterator[api.UploadFileRequest]) -> api.UploadFileRequest | None:
    """The next message; None at the end. Raises Unavailable where none comes for a minute."""
    try:
        async with asyncio.timeout(_SILENCE_SECONDS):
            return await anext(requests, None)
    except TimeoutError:
        raise Unavailable(f"Nothing came for {_SILENCE_SECONDS:.0f} s; send the file again.") from None
