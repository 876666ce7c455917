"""`farhand namespace files …`."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farhand.cli.command import command, noun
from farhand.cli.failure import CommandFailed, WrongUse
from farhand.cli.fields import every_page, when
from farhand.cli.file_upload import files_below, upload
from farhand.cli.render import document
from farhand.cli.session import DEADLINE, Session

if TYPE_CHECKING:
    from farhand.api.registry.v1.namespace_file_pb2 import NamespaceFile

app = noun(
    "Files of namespaces: what tasks with namespaceFiles have beside them. A namespace inherits those of its "
    "ancestors; of two with one path the nearest counts.",
    [
        "farhand namespace files upload company.team scripts/",
        "farhand namespace files list company.team --inherited",
        "farhand namespace files get company.team main.py",
    ],
)

Name = Annotated[str, typer.Argument(metavar="NAMESPACE", help="The namespace, e.g. company.team; it need not exist.")]
FilePath = Annotated[str, typer.Argument(metavar="PATH", help="The file's path, e.g. data/train.csv.")]

_TRANSFER = 600.0  # seconds for one file


@command(
    app,
    "list",
    examples=[
        "farhand namespace files list company.team",
        "farhand namespace files list company.team --inherited --output json",
    ],
)
def list_files(
    session: Session,
    namespace: Name,
    inherited: Annotated[bool, typer.Option("--inherited", help="Also those of the namespaces above it.")] = False,
) -> None:
    """The files of a namespace."""
    from farhand.api.registry.v1.namespace_file_service_pb2 import ListNamespaceFilesRequest
    from farhand.api.registry.v1.namespace_file_service_pb2_grpc import NamespaceFileServiceStub

    request = ListNamespaceFilesRequest(tenant=session.settings.tenant, namespace=namespace, inherited=inherited)
    with session.registry() as channel:
        call = NamespaceFileServiceStub(channel).ListNamespaceFiles
        files = list(every_page(call, request, "files", timeout=DEADLINE))
    rows = [
        (file.path, file.namespace, f"{file.size:,}", file.digest[:12], when(file, "update_time")) for file in files
    ]
    headers = ("PATH", "NAMESPACE", "BYTES", "SHA-256", "UPDATED")
    session.printer.many([document(file) for file in files], headers, rows, f"The namespace {namespace} has no files.")


@command(
    app,
    "upload",
    examples=[
        "farhand namespace files upload company.team main.py",
        "farhand namespace files upload company.team train.csv --to data/train.csv",
        "farhand namespace files upload company.team scripts/",
    ],
)
def upload_files(
    session: Session,
    namespace: Name,
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A file, or a folder with all that is in it.")],
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="PATH", help="Its path there; of a folder, the folder to put its files into."),
    ] = None,
) -> None:
    """Store a file, or the files of a folder: scripts/a/b.py of scripts/ becomes a/b.py. What is there is left."""
    found = list(_to_upload(source, to))
    with session.registry() as channel:
        stored = upload(channel, session.settings.tenant, namespace, found)
    changed = sum(result.changed for result in stored)
    rows = [
        (result.file.path, f"{result.file.size:,}", "uploaded" if result.changed else "unchanged") for result in stored
    ]
    session.printer.many(
        [document(result.file) for result in stored], ("PATH", "BYTES", ""), rows, f"{source} has no files."
    )
    session.printer.done(f"{changed} uploaded to {namespace}, {len(stored) - changed} unchanged.")


def _to_upload(source: Path, to: str | None) -> Iterator[tuple[Path, str]]:
    """Files and the paths that they get."""
    if source.is_dir():
        prefix = f"{to.rstrip('/')}/" if to else ""
        yield from ((path, f"{prefix}{path.relative_to(source).as_posix()}") for path in files_below(source))
    elif source.is_file():
        yield source, to or source.name
    else:
        raise WrongUse(f"There is no file {source}.")


@command(
    app,
    "get",
    examples=[
        "farhand namespace files get company.team main.py",
        "farhand namespace files get company.team data/train.csv --to train.csv",
    ],
)
def get(
    session: Session,
    namespace: Name,
    path: FilePath,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Write it there instead of to standard output.")
    ] = None,
) -> None:
    """Read a file."""
    from farhand.api.registry.v1.namespace_file_service_pb2 import ReadNamespaceFileRequest
    from farhand.api.registry.v1.namespace_file_service_pb2_grpc import NamespaceFileServiceStub

    if to is None and session.printer.output != "table":
        raise WrongUse("--output json and yaml describe the file; say by --to FILE where its content goes.")
    request = ReadNamespaceFileRequest(tenant=session.settings.tenant, namespace=namespace, path=path)
    with session.registry() as channel, _writing(to) as write:
        answers = NamespaceFileServiceStub(channel).ReadNamespaceFile(request, timeout=_TRANSFER)
        file = next(answers).file
        digest = hashlib.sha256()
        for answer in answers:
            digest.update(answer.chunk)
            write(answer.chunk)
        if digest.hexdigest() != file.digest:
            raise CommandFailed(f"What came of {path} is not what is stored; try again.")
    if to is not None:
        _show(session, file)


@command(app, "delete", examples=["farhand namespace files delete company.team data/train.csv"])
def delete(session: Session, namespace: Name, path: FilePath) -> None:
    """Remove a file."""
    from farhand.api.registry.v1.namespace_file_service_pb2 import DeleteNamespaceFileRequest
    from farhand.api.registry.v1.namespace_file_service_pb2_grpc import NamespaceFileServiceStub

    with session.registry() as channel:
        NamespaceFileServiceStub(channel).DeleteNamespaceFile(
            DeleteNamespaceFileRequest(tenant=session.settings.tenant, namespace=namespace, path=path),
            timeout=DEADLINE,
        )
    session.printer.done(f"File {path} of the namespace {namespace} is deleted.")


@contextmanager
def _writing(to: Path | None) -> Iterator[Any]:
    """What takes the content: standard output, or a file that is there whole or not at all."""
    import sys

    if to is None:
        yield sys.stdout.buffer.write
        sys.stdout.buffer.flush()
        return
    fresh = to.with_name(f".{to.name}.arriving")
    try:
        with fresh.open("wb") as file:
            yield file.write
        fresh.replace(to)
    except OSError as error:
        raise CommandFailed(f"{to} can't be written: {error.strerror}.") from None
    finally:
        fresh.unlink(missing_ok=True)


def _show(session: Session, file: "NamespaceFile") -> None:
    session.printer.one(
        document(file),
        [
            ("tenant", file.tenant),
            ("namespace", file.namespace),
            ("path", file.path),
            ("bytes", f"{file.size:,}"),
            ("SHA-256", file.digest),
            ("created", when(file, "create_time")),
            ("updated", when(file, "update_time")),
        ],
    )
