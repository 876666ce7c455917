"""Namespace files, which are the registry's, handed on to workers, which know the scheduler alone."""

from collections.abc import AsyncIterator

import grpc

from farhand.api.registry.v1 import namespace_file_service_pb2 as api
from farhand.api.registry.v1.namespace_file_service_pb2_grpc import NamespaceFileServiceStub
from farhand.api.worker.v1.file_service_pb2 import JobNamespaceFile
from farhand.kernel.errors import InvalidArgument, NotFound, Unavailable, Violation
from farhand.kernel.names import ancestors, shown
from farhand.runtime.grpc_channel import remote_error

MOST_LISTED = 10_000  # files; a message has 16 MiB, and a file in it is below 1 KiB
_LIST_SECONDS = 15.0


class NamespaceFiles:
    """Asks the registry at `channel`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = NamespaceFileServiceStub(channel)

    async def of(self, tenant: str, namespace: str) -> list[JobNamespaceFile]:
        """Those that a namespace has or inherits, by path; none where it is empty. Raises InvalidArgument where
        there are too many, Unavailable."""
        files: list[JobNamespaceFile] = []
        request = api.ListNamespaceFilesRequest(tenant=tenant, namespace=namespace, inherited=True, page_size=1000)
        while namespace:
            try:
                page = await self._stub.ListNamespaceFiles(request, timeout=_LIST_SECONDS)
            except grpc.aio.AioRpcError as error:
                raise _meaning(error) from error
            files += [
                JobNamespaceFile(namespace=file.namespace, path=file.path, digest=file.digest, size=file.size)
                for file in page.files
            ]
            if len(files) > MOST_LISTED:
                raise InvalidArgument.of(
                    Violation("job_id", f"its namespace {shown(namespace)} has more than {MOST_LISTED:,} files")
                )
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        return files

    async def read(self, tenant: str, namespace: str, file: JobNamespaceFile) -> AsyncIterator[bytes]:
        """The content of one that the namespace has, or inherits. Raises NotFound, Unavailable."""
        if not namespace or file.namespace not in ancestors(namespace):
            raise NotFound(f"The job's namespace {shown(namespace)} inherits nothing from {shown(file.namespace)}.")
        request = api.ReadNamespaceFileRequest(
            tenant=tenant, namespace=file.namespace, path=file.path, digest=file.digest
        )
        call = self._stub.ReadNamespaceFile(request)
        try:
            async for answer in call:
                if answer.chunk:
                    yield answer.chunk
        except grpc.aio.AioRpcError as error:
            raise _meaning(error) from error
        finally:
            call.cancel()


def _meaning(error: grpc.aio.AioRpcError) -> Exception:
    match error.code():
        case grpc.StatusCode.NOT_FOUND:
            return NotFound(remote_error(error).message)
        case grpc.StatusCode.INVALID_ARGUMENT:
            return InvalidArgument(remote_error(error).message)
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED | grpc.StatusCode.CANCELLED:
            return Unavailable("The registry can't be reached now. Try again.", retry_delay=1.0)
    return error
