"""Results on disk until the scheduler has settled them (design.md, rule 4).

A result that was promised to nobody but this worker must outlive this worker:
each batch of results is one write to a journal before it is sent, and each batch
of settlements another. The next process of the same data folder replays the
journal and sends what is left. kill -9 loses nothing and tears at most the last
record, whose result was then not sent either.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from farhand.api.worker.v1 import session_pb2
from farhand.worker.core.slots import JobKey
from farhand.worker.journal_file import AppendFile, recover

log = logging.getLogger(__name__)

_RESULT = b"R"  # a serialized Result
_SETTLED = b"S"  # a serialized Started, used for its list of jobs

COMPACT_AT = 16 << 20  # bytes
CLEAR_AT = 64 << 10  # bytes


class ResultJournal:
    """The unsettled results of this data folder."""

    def __init__(self, path: Path) -> None:
        """Open the journal and replay it. Raises OSError."""
        self._path = path
        self._results: dict[JobKey, session_pb2.Result] = {}
        records, size = recover(path)
        for record in records:
            self._replay(record)
        self._file = AppendFile(path, size)
        self._compact_at = COMPACT_AT
        self._compact()

    def _replay(self, record: bytes) -> None:
        kind, body = record[:1], record[1:]
        if kind == _RESULT:
            result = session_pb2.Result.FromString(body)
            self._results[result.job_id, result.fence] = result
        elif kind == _SETTLED:
            for job in session_pb2.Started.FromString(body).jobs:
                self._results.pop((job.job_id, job.fence), None)

    @property
    def unsettled(self) -> Sequence[JobKey]:
        """What is here, oldest first."""
        return list(self._results)

    def get(self, key: JobKey) -> session_pb2.Result | None:
        """The result, if it is not settled."""
        return self._results.get(key)

    def record(self, results: Sequence[session_pb2.Result]) -> bool:
        """Keep a batch: one write. False where the disk took it not; it is then kept in memory alone."""
        for result in results:
            self._results[result.job_id, result.fence] = result
        return self._append([_RESULT + result.SerializeToString() for result in results])

    def settle(self, keys: Iterable[JobKey]) -> None:
        """Forget these: the scheduler has recorded them, or never will."""
        gone = [key for key in keys if self._results.pop(key, None) is not None]
        if not gone:
            return
        if not self._results and self._file.size >= CLEAR_AT:
            self._file.clear()
            return
        jobs = [session_pb2.JobRef(job_id=job_id, fence=fence) for job_id, fence in gone]
        self._append([_SETTLED + session_pb2.Started(jobs=jobs).SerializeToString()])
        if self._file.size >= self._compact_at:
            self._compact()

    def _append(self, records: list[bytes]) -> bool:
        try:
            self._file.append(records)
        except OSError as error:
            # A result that is only in memory is still sent; it is lost only if this process dies first,
            # and then its job runs again. A settlement that is lost is a result sent twice: DUPLICATE.
            log.error("the result journal can't be written", extra={"path": str(self._path), "error": str(error)})
            return False
        return True

    def _compact(self) -> None:
        """Write what is unsettled to a new file and put it in the place of the old."""
        fresh = self._path.with_suffix(".new")
        try:
            fresh.unlink(missing_ok=True)
            file = AppendFile(fresh, 0)
            try:
                file.append([_RESULT + result.SerializeToString() for result in self._results.values()])
                fresh.replace(self._path)
            except OSError:
                file.close()
                raise
        except OSError as error:
            log.error("the result journal can't be compacted", extra={"path": str(self._path), "error": str(error)})
            return
        self._file.close()
        self._file = file
        self._compact_at = max(COMPACT_AT, 2 * file.size)

    def close(self) -> None:
        """Close the file; what is unsettled stays for the next process."""
        self._file.close()
