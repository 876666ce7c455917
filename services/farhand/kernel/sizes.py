"""Sizes of memory as flows write them: 512MB, 64m, 1GiB, 536870912. All units are powers of 1024, as in Docker."""

import re

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])i?)?b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_LARGEST = (1 << 63) - 1

LEAST_MEMORY = 6 << 20
"""Bytes. Docker refuses a container that may have less."""


def parse_size(text: str) -> int:
    """Bytes; ValueError says what is accepted."""
    if match := _SIZE.fullmatch(text.strip()):
        number, unit = match.groups(default="")
        size = float(number) * 1024 ** _POWERS[unit.lower()]
        if size <= _LARGEST:
            return int(size)
    raise ValueError(f"{text!r} is not a size; write 512MB, 2GB or a number of bytes")
