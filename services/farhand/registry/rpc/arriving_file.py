"""A file on its way in: kept in a temporary file until all of it is here, so that a slow client holds neither memory
nor a connection to the database, and its digest is known before anything is stored."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from farhand.kernel.errors import InvalidArgument, Violation
from farhand.registry.core.namespace_file import check_size

_MOST_IN_A_MESSAGE = 1 << 20
_IN_MEMORY = 1 << 20  # bytes; a larger one goes to the disk


class ArrivingFile:
    """Chunks in, pieces out. `with ArrivingFile() as file: …` removes it at the end."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY, prefix="farhand-")  # noqa: SIM115
        self._digest = hashlib.sha256()
        self.size = 0

    async def add(self, chunk: bytes) -> None:
        """What came next. Raises InvalidArgument where it is too much."""
        if len(chunk) > _MOST_IN_A_MESSAGE:
            raise InvalidArgument.of(Violation("chunk", f"has {len(chunk):,} bytes; at most 1 MiB is allowed"))
        self.size += len(chunk)
        if violations := check_size(self.size):
            raise InvalidArgument.of(*violations)
        await asyncio.to_thread(self._add, chunk)

    def _add(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self._file.write(chunk)

    @property
    def digest(self) -> bytes:
        """The SHA-256 of what came."""
        return self._digest.digest()

    async def pieces(self, size: int) -> AsyncIterator[bytes]:
        """All of it, in pieces of so many bytes, the last one shorter."""
        self._file.seek(0)
        while piece := await asyncio.to_thread(self._file.read, size):
            yield piece

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
