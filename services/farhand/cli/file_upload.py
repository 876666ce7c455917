"""Files on their way to a namespace: what is there already is left, and long ways show how far they are."""

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from farhand.cli.failure import CommandFailed
from farhand.cli.fields import every_page
from farhand.cli.session import DEADLINE
from farhand.kernel.file_paths import check_path

if TYPE_CHECKING:
    import grpc

    from farhand.api.registry.v1.namespace_file_pb2 import NamespaceFile
    from farhand.api.registry.v1.namespace_file_service_pb2 import PutNamespaceFileRequest

_CHUNK = 256 * 1024
_TRANSFER = 600.0  # seconds for one file
_SHOWN_FROM = 1 << 20  # bytes in all, from which a terminal is shown how far it is


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A file as it is stored now; `changed`: it was not so before."""

    file: "NamespaceFile"
    changed: bool


class _Advance(Protocol):
    def __call__(self, count: int) -> None: ...


def files_below(folder: Path) -> list[Path]:
    """The files of a folder and of those below it, sorted. Links to files are followed, links to folders are not.
    CommandFailed for a folder that can't be read."""
    found: list[Path] = []
    try:
        for place, folders, names in os.walk(folder, onerror=_raise):
            folders.sort()
            found += (Path(place, name) for name in names if Path(place, name).is_file())
    except OSError as error:
        raise CommandFailed(f"{error.filename} can't be read: {error.strerror}.") from None
    return sorted(found)


def upload(channel: "grpc.Channel", tenant: str, namespace: str, files: Sequence[tuple[Path, str]]) -> list[Uploaded]:
    """Store files, each under its path, one after another. CommandFailed for paths that can't be and files that can't
    be read, before anything is stored; RpcError."""
    from farhand.api.registry.v1.namespace_file_service_pb2 import ListNamespaceFilesRequest
    from farhand.api.registry.v1.namespace_file_service_pb2_grpc import NamespaceFileServiceStub

    wrong = [violation.description for _, path in files for violation in check_path("", path)]
    if wrong:
        raise CommandFailed("Not all of these can be files of a namespace; nothing was uploaded.", *wrong)
    stub = NamespaceFileServiceStub(channel)
    request = ListNamespaceFilesRequest(tenant=tenant, namespace=namespace)
    there = {file.path: file for file in every_page(stub.ListNamespaceFiles, request, "files", timeout=DEADLINE)}
    stored: list[Uploaded] = []
    try:
        described = [(source, path, digest_of(source), source.stat().st_size) for source, path in files]
        new = [size for _, path, digest, size in described if path not in there or there[path].digest != digest]
        with _progress(sum(new)) as advance:
            for source, path, digest, size in described:
                if path in there and there[path].digest == digest:
                    stored.append(Uploaded(there[path], changed=False))
                    continue
                requests = _requests(source, tenant, namespace, path, digest, size, advance)
                answer = stub.PutNamespaceFile(requests, timeout=_TRANSFER)
                stored.append(Uploaded(answer.file, changed=True))
    except OSError as error:
        raise CommandFailed(f"{error.filename} can't be read: {error.strerror}.") from None
    return stored


def _requests(
    source: Path, tenant: str, namespace: str, path: str, digest: str, size: int, advance: _Advance
) -> "Iterator[PutNamespaceFileRequest]":
    from farhand.api.registry.v1.namespace_file_pb2 import NamespaceFile
    from farhand.api.registry.v1.namespace_file_service_pb2 import PutNamespaceFileRequest

    # With its digest and size, so that what changes on the way is refused and not stored by halves.
    yield PutNamespaceFileRequest(
        file=NamespaceFile(tenant=tenant, namespace=namespace, path=path, digest=digest, size=size)
    )
    with source.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield PutNamespaceFileRequest(chunk=chunk)
            advance(len(chunk))


def digest_of(source: Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits. OSError."""
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _progress(total: int) -> Iterator[_Advance]:
    """A bar on a terminal for what takes a while."""
    if total < _SHOWN_FROM or not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda count: progress.advance(task, count)


def _raise(error: OSError) -> None:
    raise error
