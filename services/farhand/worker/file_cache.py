"""Namespace files that this worker has fetched, by digest, so that the next run needs no network for them.

A task gets a copy: what it does to that changes nothing here. A copy is compared
with its digest as it is made, so what was damaged on the disk, or by a job that
found its way here, is fetched anew. What was used last stays, up to a limit.
"""

import asyncio
import hashlib
import os
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from weakref import WeakValueDictionary

from farhand.worker.tasks.base import FileFailed

_PIECE = 1 << 20
_ARRIVING = "arriving-"


class FileCache:
    """A folder of files that are called by their digests."""

    def __init__(self, folder: Path, limit: int) -> None:
        """`folder` exists; `limit`: bytes that stay in it."""
        self._folder = folder
        self._limit = limit
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        for left in folder.glob(f"{_ARRIVING}*"):
            left.unlink(missing_ok=True)

    async def copy(self, digest: str, to: Path, fetch: Callable[[Path], Awaitable[None]]) -> None:
        """Put a copy to `to`, a new file; `fetch` is called for what is not here, and writes it to the path that it
        is given. Runs that want the same wait for one fetch. Raises FileFailed, OSError."""
        lock = self._locks.setdefault(digest, asyncio.Lock())
        async with lock:
            if await asyncio.to_thread(self._copy, digest, to):
                return
            arriving = self._folder / f"{_ARRIVING}{secrets.token_hex(8)}"
            try:
                await fetch(arriving)
                if not await asyncio.to_thread(self._take, arriving, digest, to):
                    raise FileFailed("what came does not have its digest")
            finally:
                arriving.unlink(missing_ok=True)

    def _take(self, arriving: Path, digest: str, to: Path) -> bool:
        if not _copied(arriving, digest, to):
            return False
        arriving.replace(self._folder / digest)
        self._make_room()
        return True

    def _copy(self, digest: str, to: Path) -> bool:
        kept = self._folder / digest
        try:
            if _copied(kept, digest, to):
                os.utime(kept)  # used now
                return True
            kept.unlink(missing_ok=True)
        except FileNotFoundError:
            if not to.parent.exists():
                raise
        return False

    def _make_room(self) -> None:
        found: list[tuple[float, int, Path]] = []
        for path in self._folder.iterdir():
            if not path.name.startswith(_ARRIVING):
                with suppress(FileNotFoundError):
                    status = path.stat()
                    found.append((status.st_mtime, status.st_size, path))
        kept = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if kept <= self._limit:
                break
            path.unlink(missing_ok=True)
            kept -= size


def _copied(source: Path, digest: str, to: Path) -> bool:
    """Copy a file; False, and no copy, where it is not what its digest says."""
    found = hashlib.sha256()
    with source.open("rb") as reading, to.open("wb") as writing:
        while piece := reading.read(_PIECE):
            found.update(piece)
            writing.write(piece)
    if found.hexdigest() == digest:
        return True
    to.unlink()
    return False
