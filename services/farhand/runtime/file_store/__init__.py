"""Where output files are kept: a port, and how a setting names what is behind it.

A store is a flat map from keys to contents. A key is a path without tricks
(`main/0abc…/0abc…/42/plots/loss.png`); what is written under it is there whole or
not at all, and replaces what was there. `folder.py` keeps it in a folder, `s3.py` in
a bucket of anything that speaks S3; tests/store/test_file_stores.py holds both to
the same. For the server's extra only.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from farhand.runtime.service import StartupError

PIECE = 1 << 20  # bytes; what is read at once, and the most that goes into one message


class NoSuchFile(Exception):
    """Nothing is stored under the key."""


class KeyRefused(ValueError):
    """The store can't have such a key, or not beside the others: its message says why."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as it was when it was opened, whatever is written under its key meanwhile."""

    size: int
    content: AsyncIterator[bytes]  # pieces of 1 MiB at most, none empty; raises Unavailable


class FileStore(Protocol):
    """Files by key. Every method raises `kernel.errors.Unavailable` where the store can't be reached now."""

    async def write(self, key: str, content: AsyncIterator[bytes]) -> int:
        """Store all that comes, and answer its size in bytes; it is durable then. Where `content` raises, nothing
        is stored and that is raised. Raises KeyRefused."""
        ...

    def reading(self, key: str) -> AbstractAsyncContextManager[StoredFile]:
        """Open what is stored. Raises NoSuchFile."""
        ...

    async def delete(self, prefix: str) -> None:
        """Remove every file whose key is `prefix` or begins with it and a "/". Done again it does nothing."""
        ...

    async def close(self) -> None:
        """Let go of what it holds."""
        ...


def parts_of(key: str) -> list[str]:
    """The parts of a key. Raises KeyRefused for one that is no plain path."""
    parts = key.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise KeyRefused(f"{key!r} is no key of a file")
    return parts


def open_store(place: str) -> FileStore:
    """The store that a setting names: `s3://BUCKET/PREFIX`, or a folder. StartupError where it can't be used."""
    if place.startswith("s3://"):
        from farhand.runtime.file_store.s3 import S3Store

        bucket, _, prefix = place.removeprefix("s3://").partition("/")
        return S3Store.open(bucket, prefix.strip("/"))
    if "://" in place:
        raise StartupError(f"--files {place}: files are kept in a folder or in s3://BUCKET/PREFIX.")
    from farhand.runtime.file_store.folder import FolderStore

    return FolderStore.open(Path(place).expanduser())
