"""Pages of a list: as many rows as were asked for, or as fit into a message that every client accepts."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from farhand.registry.core import page

Row = TypeVar("Row")
M = TypeVar("M", bound=Message)
M_contra = TypeVar("M_contra", bound=Message, contravariant=True)
_MOST_BYTES = 3 << 20  # gRPC clients refuse messages over 4 MiB unless told otherwise


class Rows(Protocol[M_contra]):
    """A repeated field of a response."""

    def append(self, value: M_contra, /) -> None:
        """Add a message."""


def fill(
    rows: Rows[M],
    found: Sequence[Row],
    size: int,
    message: Callable[[Row], M],
    key: Callable[[Row], str],
    scope: tuple[str, ...],
) -> str:
    """Put a page into a response and give the token for the next one, empty when this is the last.

    ``found`` was read with a limit of ``size`` + 1, so that it shows whether there is more.
    """
    taken = 0
    for index, row in enumerate(found):
        made = message(row)
        taken += made.ByteSize()
        if index and (index >= size or taken > _MOST_BYTES):
            return page.token(scope, key(found[index - 1]))
        rows.append(made)
    return ""
