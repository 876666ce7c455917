"""Output files, read by their addresses: for a worker that brings one to a task, and for people.

An address is no permission. Whoever asks says which tenants it may read; a file of
another tenant's is not there.
"""

import contextlib
from collections.abc import AsyncIterator, Callable

from farhand.api.scheduler.v1.execution_service_pb2 import ReadFileRequest, ReadFileResponse
from farhand.kernel.errors import InvalidArgument, NotFound, Violation
from farhand.kernel.file_uri import FileUri, parse_uri
from farhand.kernel.names import shown
from farhand.runtime.file_store import FileStore, KeyRefused, NoSuchFile, StoredFile
from farhand.runtime.security import Identity


class FileReads:
    """Opens files."""

    def __init__(self, store: FileStore) -> None:
        self._store = store

    @contextlib.asynccontextmanager
    async def opened(self, uri: str, admits: Callable[[str], bool]) -> AsyncIterator[StoredFile]:
        """The file; `admits` tells of a tenant whether the caller may read its files. Raises InvalidArgument for
        what is no address, NotFound, Unavailable."""
        found = _parsed(uri)
        if not admits(found.tenant):
            raise _not_found(uri)
        async with contextlib.AsyncExitStack() as stack:
            try:
                file = await stack.enter_async_context(self._store.reading(found.key))
            except (NoSuchFile, KeyRefused):
                raise _not_found(uri) from None
            yield file

    async def read(self, request: ReadFileRequest, caller: Identity) -> AsyncIterator[ReadFileResponse]:
        """The answers of ExecutionService.ReadFile. Raises as `opened` does."""
        async with self.opened(request.uri, caller.admits_tenant) as file:
            yield ReadFileResponse(size=file.size)
            async for piece in file.content:
                yield ReadFileResponse(chunk=piece)


def _parsed(uri: str) -> FileUri:
    try:
        return parse_uri(uri)
    except ValueError as error:
        raise InvalidArgument.of(Violation("uri", f"{shown(uri, 200)} {error}")) from None


def _not_found(uri: str) -> NotFound:
    return NotFound(f"There is no file {shown(uri, 200)}. Files are deleted with the job that wrote them.")
