"""Asking before something that can't be taken back."""

import sys

from farhand.cli.failure import CommandFailed


def confirm(question: str, *, otherwise: str) -> None:
    """Ask on the terminal, if there is one; anything but yes ends the command with these words."""
    if not sys.stdin.isatty():
        return
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandFailed(otherwise)
