"""Files of checked records: append, read back, and stop at the first record that is not whole.

A record is its length and its CRC-32 (both 32 bits, little endian) and then its
bytes. A process that dies in the middle of a write leaves a tail that is not
whole; whoever opens the file next cuts it off. Nothing is fsynced: what these
files hold must outlive kill -9, which the page cache does; it need not outlive
the machine, since whatever ran there is dead then, and its jobs run again.
"""

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

_HEAD = struct.Struct("<II")
HEAD_SIZE = _HEAD.size
LONGEST_RECORD = 16 << 20  # bytes; a longer length is damage


def pack(record: bytes) -> bytes:
    """A record as it lies in the file."""
    return _HEAD.pack(len(record), zlib.crc32(record)) + record


def unpack(data: bytes | memoryview, start: int = 0) -> Iterator[tuple[bytes, int]]:
    """The whole records of `data` from `start`, each with the offset of its end. Stops at what is not whole."""
    view = memoryview(data)
    while start + HEAD_SIZE <= len(view):
        length, checksum = _HEAD.unpack_from(view, start)
        end = start + HEAD_SIZE + length
        if length > LONGEST_RECORD or end > len(view):
            return
        record = bytes(view[start + HEAD_SIZE : end])
        if zlib.crc32(record) != checksum:
            return
        yield record, end
        start = end


def recover(path: Path) -> tuple[list[bytes], int]:
    """All whole records and their size in the file, whose torn tail is cut off. No file: nothing."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    records: list[bytes] = []
    size = 0
    for record, end in unpack(data):
        records.append(record)
        size = end
    if size < len(data):
        os.truncate(path, size)
    return records, size


class AppendFile:
    """An open file of records. Each append is one write, so it is there whole or torn at its own end."""

    def __init__(self, path: Path, size: int) -> None:
        """`size`: where to go on, as `recover` told; anything beyond is overwritten."""
        self.path = path
        self.size = size
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def append(self, records: Iterable[bytes]) -> None:
        """Write records behind the last one. Raises OSError (a full disk), and then nothing was appended."""
        data = b"".join([pack(record) for record in records])
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self._descriptor, data[written:], self.size + written)
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size += written

    def clear(self) -> None:
        """Forget all records."""
        os.ftruncate(self._descriptor, 0)
        self.size = 0

    def close(self) -> None:
        """Close the file; what was written stays."""
        os.close(self._descriptor)
