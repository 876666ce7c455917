"""The named statements of the `.sql` files beside this one: `SQL["assign"]`.

A statement starts at a line `-- name: NAME` and ends at the next one; no name is
given twice. Comments stay in the text, so that they can be read in the server's
log too.
"""

import re
from importlib import resources

_FILES = ("queue.sql", "executions.sql", "places.sql", "repeats.sql", "triggers.sql", "secrets.sql")


def _load() -> dict[str, str]:
    statements: dict[str, str] = {}
    for file in _FILES:
        text = resources.files(__package__).joinpath(file).read_text()
        parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
        for name, statement in zip(parts[1::2], parts[2::2], strict=True):
            if name in statements:
                raise ValueError(f"{file} names a second statement {name!r}")
            statements[name] = statement.strip().rstrip(";")
    return statements


SQL = _load()
