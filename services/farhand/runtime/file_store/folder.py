"""Files in a folder, which several schedulers may share (a volume, NFS).

A file is written beside the others under a name of its own, made durable, and then
renamed to its place. So readers see an old file or a new one, and one who holds the
old one open reads it to its end. What a killed process left half-written goes after
a day.
"""

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, TypeVar

from farhand.kernel.errors import Unavailable
from farhand.runtime.file_store import PIECE, KeyRefused, NoSuchFile, StoredFile, parts_of
from farhand.runtime.service import StartupError

T = TypeVar("T")

_ARRIVING = ".arriving"  # no tenant can be called so
_ABANDONED = 24 * 3600.0  # seconds after which nobody can still be writing
_THREADS = 16
_TRIES = 5

# What a key itself is to blame for: it is too long, or one of its folders is a file.
_REFUSED = frozenset({errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EINVAL, errno.ENOTEMPTY})

log = logging.getLogger(__name__)


class FolderStore:
    """See `FileStore`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Threads of its own: a folder that hangs (NFS) must not take those of the whole process.
        self._threads = ThreadPoolExecutor(_THREADS, "files")

    @classmethod
    def open(cls, folder: Path) -> "FolderStore":
        """Make the folder where it is missing. StartupError where it can't be written to."""
        try:
            (folder / _ARRIVING).mkdir(mode=0o700, parents=True, exist_ok=True)
            with (folder / _ARRIVING / secrets.token_hex(8)).open("xb") as file:
                Path(file.name).unlink()
            _remove_abandoned(folder / _ARRIVING)
        except OSError as error:
            raise StartupError(f"--files {folder} can't be used: {error.strerror}.") from None
        return cls(folder)

    async def write(self, key: str, content: AsyncIterator[bytes]) -> int:
        """See FileStore.write."""
        place = self._folder.joinpath(*parts_of(key))
        arriving = self._folder / _ARRIVING / secrets.token_hex(16)
        file = await self._do(lambda: arriving.open("xb", buffering=0))
        try:
            size = 0
            async for piece in content:
                await self._do(_write_all, file, piece)
                size += len(piece)
            await self._do(_settle, file, arriving, place)
        except BaseException:
            # Not awaited: this may be the end of a cancelled call.
            self._threads.submit(_drop, file, arriving)
            raise
        return size

    @contextlib.asynccontextmanager
    async def reading(self, key: str) -> AsyncIterator[StoredFile]:
        """See FileStore.reading."""
        place = self._folder.joinpath(*parts_of(key))
        file = await self._do(_open, place)
        try:
            yield StoredFile(os.fstat(file.fileno()).st_size, self._pieces(file))
        finally:
            file.close()

    async def _pieces(self, file: BinaryIO) -> AsyncIterator[bytes]:
        while piece := await self._do(file.read, PIECE):
            yield piece

    async def delete(self, prefix: str) -> None:
        """See FileStore.delete."""
        await self._do(_remove, self._folder, self._folder.joinpath(*parts_of(prefix)))

    async def close(self) -> None:
        """See FileStore.close."""
        await asyncio.to_thread(self._threads.shutdown)

    async def _do(self, function: Callable[..., T], *arguments: object) -> T:
        """Call in a thread. Raises NoSuchFile, KeyRefused, Unavailable."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: function(*arguments))
        except OSError as error:
            if error.errno in _REFUSED:
                raise KeyRefused(error.strerror) from error
            log.error("the folder of files can't be used", extra={"folder": str(self._folder), "error": str(error)})
            raise Unavailable(f"The file store can't be used now: {error.strerror}.", retry_delay=1.0) from error


def _write_all(file: BinaryIO, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[file.write(view) :]


def _settle(file: BinaryIO, arriving: Path, place: Path) -> None:
    """Make a file durable, and then put it into its place."""
    os.fsync(file.fileno())
    file.close()
    for tries_left in reversed(range(_TRIES)):
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            arriving.replace(place)
            break
        except FileNotFoundError:  # a deletion took the folder that was empty for a moment
            if not tries_left:
                raise
    folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _drop(file: BinaryIO, arriving: Path) -> None:
    file.close()
    arriving.unlink(missing_ok=True)


def _open(place: Path) -> BinaryIO:
    try:
        file = place.open("rb", buffering=0)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise NoSuchFile(str(place)) from None
    return file


def _remove(root: Path, place: Path) -> None:
    """Remove a file, or a folder and all in it; then the folders above that are empty."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink()
    for folder in place.parents:
        if folder == root:
            break
        try:
            folder.rmdir()
        except OSError:  # not empty, or gone
            break


def _remove_abandoned(arriving: Path) -> None:
    for file in arriving.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if file.stat().st_mtime < time.time() - _ABANDONED:
                file.unlink()
