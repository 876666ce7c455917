"""The named statements of `queue.sql`: `SQL["assign"]`.

A statement starts at a line `-- name: NAME` and ends at the next one. Comments
stay in the text, so that they can be read in the server's log too.
"""

import re
from importlib import resources


def _load() -> dict[str, str]:
    text = resources.files(__package__).joinpath("queue.sql").read_text()
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], (part.strip().rstrip(";") for part in parts[2::2]), strict=True))


SQL = _load()
