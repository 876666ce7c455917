"""Log records as bytes: how they are cut, joined and counted, and what became of an append.

A chunk is some consecutive records of one assignment, serialized as an
AppendLogsRequest that holds records alone: each is a tag, a length and the record.
Joining two chunks is joining their bytes, and dropping the first records is
finding where the others begin, so nothing is parsed on the way into the database.

Chunks of one assignment stand end to end: each starts at the offset at which the
one before it ends. So two writers that append at once meet on the same start, and
the primary key lets one of them pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from farhand.kernel.errors import LogGap
from farhand.kernel.job_id import encode
from farhand.scheduler.core.record import JobRecord

LogName = tuple[int, int]  # the job's key, the assignment's fence

# The end of the last chunk of a log that reached its limit: it covers whatever the worker still sends.
CUT = 2**62

_TAG = (4 << 3) | 2  # field 4 (records), length-delimited


@dataclass(frozen=True, slots=True)
class Append:
    """Records of one assignment, and by whose credential they came."""

    key: int
    fence: int
    offset: int  # how many records come before the first one here
    records: bytes
    count: int
    subject: str

    @property
    def end(self) -> int:
        """The offset behind the last record."""
        return self.offset + self.count


@dataclass(frozen=True, slots=True)
class Stored:
    """How far the log of an assignment is stored. Refused: its fence is stale, its job not known or not the
    caller's, and nothing more of it is wanted."""

    end: int
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some consecutive records of one assignment."""

    fence: int
    start: int
    end: int
    records: bytes


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a job's log: before the record `offset` of the assignment `fence`. The lines of fence 0, the
    scheduler's own, come last: they tell why a job ended without a result."""

    fence: int
    offset: int


START = Position(1, 0)


def is_complete(job: JobRecord, position: Position) -> bool:
    """Whether the lines of the assignment whose result was recorded all lie before the position. A job without
    a result has none that are missing: what its lost assignments had not sent is not wanted any more."""
    if not job.ended:
        return False
    if job.result_fence == 0 or job.log_end == 0 or position.fence == 0:
        return True
    return (position.fence, position.offset) >= (job.result_fence, job.log_end)


def drop_first(records: bytes, count: int) -> bytes:
    """The records without their first `count`. Raises ValueError where there are not so many."""
    place = 0
    for _ in range(count):
        if place >= len(records) or records[place] != _TAG:
            raise ValueError(f"a chunk of {len(records)} bytes does not hold {count} records")
        place += 1
        length = shift = 0
        while True:
            byte = records[place]
            place += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        place += length
    return records[place:]


@dataclass(frozen=True, slots=True)
class Known:
    """What the database knows of one log for one credential."""

    wanted: bool  # the fence is the job's, and its session the credential's (P4)
    end: int  # the offset behind the last stored record


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A chunk to be stored; `size` is what the log comes to with it, in bytes."""

    key: int
    fence: int
    start: int
    end: int
    records: bytes
    size: int


@dataclass(slots=True)
class Plan:
    """What to do with some appends: `answers` has those that need no write, by their place, and `riding` the
    places of those that are answered once their log's chunk is stored. The rest waits for another round."""

    answers: dict[int, Stored | LogGap] = field(default_factory=dict)
    chunks: list[NewChunk] = field(default_factory=list)
    riding: dict[int, LogName] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LogLimits:
    """How much of a log is kept."""

    log_bytes: int  # of one assignment
    cut_line: bytes  # the chunk of one line that stands where a log was cut
    chunk_bytes: int = 1 << 20


@dataclass(slots=True)
class _Growing:
    start: int
    end: int
    size: int
    parts: list[bytes] = field(default_factory=list)
    length: int = 0


def plan_appends(
    appends: Sequence[Append],
    known: Mapping[tuple[int, int, str], Known],
    sizes: Mapping[LogName, int],
    limits: LogLimits,
) -> Plan:
    """Decide for each append, in their order, and join what can be stored into one chunk per log.

    `known` by key, fence and subject; `sizes` are the bytes that each log has already."""
    plan = Plan()
    growing: dict[LogName, _Growing] = {}
    full: set[LogName] = set()
    for place, append in enumerate(appends):
        name = (append.key, append.fence)
        fact = known[append.key, append.fence, append.subject]
        if not fact.wanted:
            plan.answers[place] = Stored(0, refused=True)
            continue
        if name in full:
            continue
        log = growing.get(name)
        if append.offset > (log.end if log else fact.end):
            plan.answers[place] = _gap(append, fact.end)
        elif append.end <= fact.end:
            plan.answers[place] = Stored(append.end if fact.end >= CUT else fact.end)
        else:
            if log is None:
                log = growing[name] = _Growing(fact.end, fact.end, sizes.get(name, 0))
            if log.parts and log.length + len(append.records) > limits.chunk_bytes:
                full.add(name)
                continue
            _grow(log, append, limits)
            plan.riding[place] = name
    plan.chunks = [
        NewChunk(key, fence, log.start, log.end, b"".join(log.parts), log.size)
        for (key, fence), log in sorted(growing.items())
    ]
    return plan


def _grow(log: _Growing, append: Append, limits: LogLimits) -> None:
    if append.end <= log.end:  # covered by what rides in front of it
        return
    records = drop_first(append.records, log.end - append.offset) if append.offset < log.end else append.records
    log.end = append.end
    if log.size + len(records) > limits.log_bytes:
        records = limits.cut_line
        log.end = CUT
    log.parts.append(records)
    log.length += len(records)
    log.size += len(records)


def _gap(append: Append, stored: int) -> LogGap:
    return LogGap(
        f"Log records from offset {append.offset} do not follow the stored ones, which end at {stored}. Send from "
        "there.",
        metadata={"job_id": encode(append.key), "fence": str(append.fence), "offset": str(stored)},
    )
