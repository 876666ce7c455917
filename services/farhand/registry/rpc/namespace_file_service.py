"""NamespaceFileService."""

from collections.abc import AsyncIterator

from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.api.registry.v1 import namespace_file_pb2
from farhand.api.registry.v1 import namespace_file_service_pb2 as api
from farhand.api.registry.v1.namespace_file_service_pb2_grpc import NamespaceFileServiceServicer
from farhand.kernel import names
from farhand.kernel.errors import InvalidArgument, NotFound, Violation
from farhand.kernel.file_paths import check_path
from farhand.registry.core import namespace_file, page
from farhand.registry.core.namespace_file import NamespaceFile
from farhand.registry.rpc import tenant_service
from farhand.registry.rpc.arriving_file import ArrivingFile
from farhand.registry.rpc.callers import visibility
from farhand.registry.rpc.pages import fill
from farhand.registry.store import changes, namespace_files
from farhand.registry.store.transactions import Transactions
from farhand.runtime.wire import timestamp


class NamespaceFileService(NamespaceFileServiceServicer):
    """Keeps files. A tenant that the caller may not see is not found."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def PutNamespaceFile(
        self, request_iterator: AsyncIterator[api.PutNamespaceFileRequest], context: object
    ) -> api.PutNamespaceFileResponse:
        """Take a file in whole, then store it."""
        sees = visibility(context)
        first = await anext(aiter(request_iterator), api.PutNamespaceFileRequest())
        if first.WhichOneof("part") != "file":
            raise InvalidArgument.of(Violation("file", "must come first: which file it is"))
        asked = first.file
        tenant = asked.tenant or names.DEFAULT_TENANT
        if violations := namespace_file.check(asked.namespace, asked.path, asked.digest, asked.size):
            raise InvalidArgument.of(*violations)
        async with self._transactions.reading() as connection:
            await tenant_service.existing(connection, tenant, sees, "file.tenant")
        with ArrivingFile() as arriving:
            async for request in request_iterator:
                if request.WhichOneof("part") != "chunk":
                    raise InvalidArgument.of(Violation("chunk", "must follow the first message, and nothing else"))
                await arriving.add(request.chunk)
            digest = arriving.digest
            if violations := namespace_file.check_content(asked.digest, asked.size, digest, arriving.size):
                raise InvalidArgument.of(*violations)
            new = NamespaceFile(tenant, asked.namespace, asked.path, digest, arriving.size)
            async with self._transactions.changing() as connection:
                # The content first: it may take a second, and the lock is everybody's.
                await namespace_files.store_content(connection, digest, arriving.pieces(namespace_files.PIECE))
                await changes.lock(connection)
                await tenant_service.existing(connection, tenant, sees, "file.tenant")
                stored = await namespace_files.put(connection, new)
                await namespace_files.clear(connection)
        return api.PutNamespaceFileResponse(file=_message(stored))

    async def ListNamespaceFiles(
        self, request: api.ListNamespaceFilesRequest, context: object
    ) -> api.ListNamespaceFilesResponse:
        """Read a page of one namespace's, or of its ancestors' too."""
        tenant = request.tenant or names.DEFAULT_TENANT
        if violations := names.check_namespace("namespace", request.namespace):
            raise InvalidArgument.of(*violations)
        scope = ("namespace files", tenant, request.namespace, "inherited" if request.inherited else "own")
        size, after = page.size(request.page_size), page.after(scope, request.page_token)
        namespaces = names.ancestors(request.namespace) if request.inherited else [request.namespace]
        async with self._transactions.reading() as connection:
            await tenant_service.existing(connection, tenant, visibility(context), "tenant")
            found = await namespace_files.page(connection, tenant, namespaces, after, size + 1)
        response = api.ListNamespaceFilesResponse()
        response.next_page_token = fill(response.files, found, size, _message, lambda file: file.path, scope)
        return response

    async def ReadNamespaceFile(
        self, request: api.ReadNamespaceFileRequest, context: object
    ) -> AsyncIterator[api.ReadNamespaceFileResponse]:
        """Send a file, piece by piece; between two of them no connection is held."""
        tenant = request.tenant or names.DEFAULT_TENANT
        digest, violations = namespace_file.read_digest("digest", request.digest)
        if violations:
            raise InvalidArgument.of(*violations)
        async with self._transactions.reading() as connection:
            await tenant_service.existing(connection, tenant, visibility(context), "tenant")
            if digest is None:
                file = await _existing(connection, tenant, request.namespace, request.path)
            else:
                file = await _version(connection, tenant, request.namespace, request.path, digest)
        yield api.ReadNamespaceFileResponse(file=_message(file))
        sent = number = 0
        while sent < file.size:
            async with self._transactions.reading() as connection:
                piece = await namespace_files.read_piece(connection, file.digest, number)
            if piece is None:  # it was past for 24 hours already, or this caller takes days
                raise NotFound(f"The content of {names.shown(file.path)} was cleared away while it was read.")
            yield api.ReadNamespaceFileResponse(chunk=piece)
            sent += len(piece)
            number += 1

    async def DeleteNamespaceFile(
        self, request: api.DeleteNamespaceFileRequest, context: object
    ) -> api.DeleteNamespaceFileResponse:
        """Remove one."""
        tenant = request.tenant or names.DEFAULT_TENANT
        async with self._transactions.changing() as connection:
            await changes.lock(connection)
            await tenant_service.existing(connection, tenant, visibility(context), "tenant")
            stored = await _existing(connection, tenant, request.namespace, request.path)
            await namespace_files.delete(connection, stored)
            await namespace_files.clear(connection)
        return api.DeleteNamespaceFileResponse()


async def _existing(connection: AsyncConnection, tenant: str, namespace: str, path: str) -> NamespaceFile:
    _check_name(namespace, path)
    found = None if _malformed(namespace, path) else await namespace_files.get(connection, tenant, namespace, path)
    return found or await _not_found(connection, tenant, namespace, path)


async def _version(connection: AsyncConnection, tenant: str, namespace: str, path: str, digest: bytes) -> NamespaceFile:
    _check_name(namespace, path)
    if _malformed(namespace, path):
        return await _not_found(connection, tenant, namespace, path)
    found = await namespace_files.get_version(connection, tenant, namespace, path, digest)
    if found is None and await namespace_files.get(connection, tenant, namespace, path) is not None:
        raise NotFound(f"{names.shown(path)} in the namespace {names.shown(namespace)} has other content by now.")
    return found or await _not_found(connection, tenant, namespace, path)


async def _not_found(connection: AsyncConnection, tenant: str, namespace: str, path: str) -> NamespaceFile:
    known = [] if _malformed(namespace, "x") else await namespace_files.paths_like(connection, tenant, namespace, path)
    raise names.not_found("file", path, known, f"Looked for in the namespace {names.shown(namespace)}.")


def _check_name(namespace: str, path: str) -> None:
    empty = [
        Violation(field, "must not be empty") for field, text in (("namespace", namespace), ("path", path)) if not text
    ]
    if empty:
        raise InvalidArgument.of(*empty)


def _malformed(namespace: str, path: str) -> bool:
    """Nothing can be called so, and PostgreSQL could not even be asked for some of it."""
    return bool(names.check_namespace("", namespace) or check_path("", path))


def _message(file: NamespaceFile) -> namespace_file_pb2.NamespaceFile:
    return namespace_file_pb2.NamespaceFile(
        tenant=file.tenant,
        namespace=file.namespace,
        path=file.path,
        digest=file.digest.hex(),
        size=file.size,
        create_time=timestamp(file.create_time),
        update_time=timestamp(file.update_time),
    )
