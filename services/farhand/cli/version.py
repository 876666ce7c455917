"""`farhand version`."""

import importlib.metadata
import platform
import sys

from farhand.cli.command import command, single
from farhand.cli.session import Session

app = single()


def version() -> str:
    """The version of the installed package."""
    return importlib.metadata.version("farhand")


@command(app, "version", examples=["farhand version", "farhand version --output json"])
def show(session: Session) -> None:
    """The version of this program, and what it runs on."""
    data = {
        "version": version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "executable": sys.executable,
    }
    session.printer.one(data, list(data.items()))
