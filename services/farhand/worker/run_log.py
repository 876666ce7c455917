"""The log of one run: a file of records on this machine, written by the run and read by the sender.

It is on disk so that a job that writes 100 MB costs no memory, and so that a
scheduler that is away, or the death of this worker, loses no line. Records are
known by their offset: 0, 1, 2, … within one assignment (protos: AppendLogs).

The run's output is kept up to a limit, then a SYSTEM line says that the rest is
not. Farhand's own lines (why a job failed) still come in after that.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import quote, unquote

from google.protobuf.timestamp_pb2 import Timestamp

from farhand.api.types.v1 import log_record_pb2
from farhand.worker.core.slots import JobKey
from farhand.worker.journal_file import AppendFile, recover, unpack
from farhand.worker.log_lines import text_of
from farhand.worker.masking import NOTHING, Mask

log = logging.getLogger(__name__)

SUFFIX = ".log"
SYSTEM_LINES_BEYOND = 100  # of Farhand's own lines, after the limit
LONGEST_SYSTEM_LINE = 4_000  # characters


def file_name(key: JobKey) -> str:
    """The name of a run's log file."""
    return f"{quote(key[0], safe='')}-{key[1]}{SUFFIX}"


def key_of(name: str) -> JobKey | None:
    """The run whose log file has this name; None where it is no name of a log file."""
    job_id, dash, fence = name.removesuffix(SUFFIX).rpartition("-")
    if not name.endswith(SUFFIX) or not dash or not fence.isdecimal():
        return None
    return unquote(job_id), int(fence)


class RunLog:
    """One run's log. `end` is how many records it has; `acked` how many of them the scheduler has stored."""

    def __init__(
        self, key: JobKey, path: Path, limit: int, changed: Callable[["RunLog"], None], mask: Mask = NOTHING
    ) -> None:
        """`limit`: bytes of output that are kept. `changed` is called when there is something to send. `mask`: what
        must not come into it."""
        self.key = key
        self.path = path
        self.end = 0
        self.acked = 0
        self.closed = False
        self.refused = False
        self._acked_position = 0
        self._room = limit
        self._limit = limit
        self._full = False
        self._system_left = SYSTEM_LINES_BEYOND
        self._lost = False
        self._changed = changed
        self._mask = mask
        self._file: AppendFile | None = None

    @classmethod
    def left_behind(cls, key: JobKey, path: Path, changed: Callable[["RunLog"], None]) -> "RunLog":
        """The log of a run of an earlier process, to be sent as far as it is whole."""
        run_log = cls(key, path, 0, changed)
        records, _ = recover(path)
        run_log.end = len(records)
        run_log.closed = True
        return run_log

    # ── writing ──

    @property
    def full(self) -> bool:
        """The limit is reached: output is not kept any more."""
        return self._full or self.refused

    def output(
        self,
        stream: log_record_pb2.LogStream.ValueType,
        lines: Iterable[bytes],
        level: log_record_pb2.LogLevel.ValueType = log_record_pb2.LOG_LEVEL_UNSPECIFIED,
    ) -> None:
        """Keep lines of the program's output, as far as the limit allows. No level: the stream tells it."""
        if self.full:
            return
        stamp = _now()
        records: list[bytes] = []
        for line in lines:
            text = text_of(line, self._mask.text)
            record = log_record_pb2.LogRecord(time=stamp, stream=stream, text=text, level=level).SerializeToString()
            self._room -= len(record)
            if self._room < 0:
                self._full = True
                break
            records.append(record)
        self._append(records)
        if self._full:
            self.system(
                f"[the output is longer than {self._limit} bytes (the worker's --max-log-bytes): "
                "the rest is not kept; the job goes on]"
            )

    def system(
        self, text: str, level: log_record_pb2.LogLevel.ValueType = log_record_pb2.LOG_LEVEL_UNSPECIFIED
    ) -> None:
        """Keep a line of Farhand's own."""
        if self.refused or self._system_left == 0:
            return
        if self._full:
            self._system_left -= 1
        text = self._mask.text(text, cut=True)
        if len(text) > LONGEST_SYSTEM_LINE:
            text = text[:LONGEST_SYSTEM_LINE] + " …"
        text = text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
        stamp = _now()
        self._append(
            [
                log_record_pb2.LogRecord(
                    time=stamp, stream=log_record_pb2.LOG_STREAM_SYSTEM, text=line, level=level
                ).SerializeToString()
                for line in text.splitlines() or [""]
            ]
        )

    def _append(self, records: list[bytes]) -> None:
        if not records or self.refused:
            return
        try:
            if self._file is None:
                self._file = AppendFile(self.path, 0)
            self._file.append(records)
        except OSError as error:
            # A full disk costs lines, never the job.
            if not self._lost:
                self._lost = True
                log.error("lines of a job's log are lost", extra={"job": self.key[0], "error": str(error)})
            return
        self.end += len(records)
        self._changed(self)

    def close(self) -> None:
        """The run is over: no record follows."""
        if self.closed:
            return
        if self._lost:
            self.system("[lines are missing above: the worker's disk did not take them]")
        self.closed = True
        if self._file is not None:
            self._file.close()
            self._file = None
        self._changed(self)

    # ── sending ──

    @property
    def unsent(self) -> bool:
        """There are records that the scheduler has not stored."""
        return not self.refused and self.acked < self.end

    @property
    def done(self) -> bool:
        """Nothing will ever be sent again: the file can go."""
        return self.closed and not self.unsent

    def read(self, most: int) -> list[log_record_pb2.LogRecord]:
        """Records from `acked` on, up to `most` bytes of the file (a record is always shorter than 256 KiB)."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return []
        try:
            data = os.pread(descriptor, most, self._acked_position)
        finally:
            os.close(descriptor)
        return [log_record_pb2.LogRecord.FromString(record) for record, _ in unpack(data)]

    def stored(self, offset: int) -> None:
        """The scheduler has the records below `offset`."""
        if not self.acked < offset <= self.end:
            return
        self._acked_position = self._position(offset)
        self.acked = offset

    def _position(self, offset: int) -> int:
        """Where the record with this offset begins in the file. Raises OSError where the file is damaged."""
        position = self._acked_position
        missing = offset - self.acked
        with self.path.open("rb") as file:
            while missing:
                file.seek(position)
                ends = [end for _, end in unpack(file.read(1 << 20))][:missing]
                if not ends:
                    raise OSError(f"{self.path} is damaged at byte {position}")
                position += ends[-1]
                missing -= len(ends)
        return position

    def rewind(self) -> None:
        """Send it all again: the scheduler misses records that it had acknowledged. What it has it skips."""
        self.acked = 0
        self._acked_position = 0

    def refuse(self) -> None:
        """Nobody wants it any more: what comes is not kept."""
        self.refused = True
        self._changed(self)

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)


def _now() -> Timestamp:
    seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=nanos)
