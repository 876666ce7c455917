"""`farhand admin …`."""

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from farhand.cli.command import command, noun
from farhand.cli.failure import CommandFailed
from farhand.cli.health import health
from farhand.cli.server import DATABASE, PassOn, become
from farhand.cli.session import Session
from farhand.kernel.names import DEFAULT_GROUP_ID, group_key

app = noun(
    "What an operator does now and then.",
    [
        "farhand admin dev-certs ./dev-certs --host scheduler.example.com --host 10.0.0.7",
        "farhand admin health 127.0.0.1:7402",
        "farhand admin rotate-key --secrets-key-file secrets.key",
        "farhand admin bump-fences --help",
    ],
)
command(
    app,
    "health",
    examples=["farhand admin health 127.0.0.1:7402", "farhand admin health scheduler:7402 --tls-ca dev-certs/ca.crt"],
)(health)


@command(
    app,
    "dev-certs",
    examples=[
        "farhand admin dev-certs ./dev-certs",
        "farhand admin dev-certs ./dev-certs --host scheduler --host 10.0.0.7",
        "farhand job list --tls-ca dev-certs/ca.crt --token-file dev-certs/admin.token",
    ],
)
def dev_certs(
    session: Session,
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Where to write; nothing there is overwritten.")],
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host",
            metavar="NAME",
            help="A host name or address that clients dial; may be given several times. localhost is always in.",
        ),
    ] = None,
    worker_group: Annotated[
        list[str] | None,
        typer.Option(
            "--worker-group",
            metavar="KEY",
            help="A worker group to make a token for; may be given several times. _default and gpu unless said.",
        ),
    ] = None,
) -> None:
    """Make a small certificate authority, a server certificate and tokens, to try TLS with.

    Whoever has the folder's files can do everything: they are for tests, not for production.
    """
    if importlib.util.find_spec("cryptography") is None:
        raise CommandFailed(
            "`farhand admin dev-certs` needs a package that is not installed: cryptography.",
            "pip install 'farhand[server]' brings it.",
        )
    from farhand.runtime import dev_certs as authority
    from farhand.runtime.service import StartupError

    path = Path(folder)
    try:
        groups = [group_key(group) for group in worker_group or (DEFAULT_GROUP_ID, "gpu")]
        written = authority.make(path, host or [], groups)
    except StartupError as error:
        raise CommandFailed(str(error)) from None
    except OSError as error:
        raise CommandFailed(f"{error.filename or path}: {error.strerror or error}") from None
    files = {file.name: str(file) for file in written}
    session.printer.one({"files": list(files.values())}, list(files.items()))


@app.command("bump-fences", cls=PassOn)
def bump_fences(context: typer.Context) -> None:
    """After a restore from a backup: no number that was handed out since passes for new (P4)."""
    become("farhand.scheduler.bump_fences", context.args, command="admin bump-fences", needs=DATABASE)


@app.command("rotate-key", cls=PassOn)
def rotate_key(context: typer.Context) -> None:
    """Encrypt the secrets in the database under the first of the keys, so that the others can go."""
    become("farhand.scheduler.rotate_key", context.args, command="admin rotate-key", needs=(*DATABASE, "cryptography"))
