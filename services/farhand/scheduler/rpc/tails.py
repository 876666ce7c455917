"""The tail of a job's log: what is stored, then what comes, until the job has ended and its last line was sent.

A result says how many lines its assignment wrote, and logs travel apart from it; so
a tail waits for the rest, but not for ever: a worker that died after its result
takes the last lines with it.
"""

from collections.abc import AsyncIterator

from farhand.api.scheduler.v1.job_service_pb2 import TailLogsResponse
from farhand.runtime.security import Identity
from farhand.scheduler.core.log import START, Chunk, Position, is_complete
from farhand.scheduler.core.record import JobRecord
from farhand.scheduler.rpc.fields import make_token, read_token, wrong_token
from farhand.scheduler.rpc.ports import Changes
from farhand.scheduler.rpc.visible_jobs import VisibleJobs
from farhand.scheduler.rpc.watching import Poll
from farhand.scheduler.rpc.wire import job_message, log_records
from farhand.scheduler.store.logs import read_chunks
from farhand.scheduler.store.reading import Reading

PATIENCE_SECONDS = 10.0  # after a job's end, for lines that have not come
_ANSWER_BYTES = 1 << 20
_KIND = "log"


class Tails:
    """Reads logs for callers."""

    def __init__(self, jobs: VisibleJobs, reading: Reading, changes: Changes, poll: Poll) -> None:
        self._jobs = jobs
        self._reading = reading
        self._changes = changes
        self._poll = poll

    async def tail(self, job_id: str, caller: Identity, token: str, *, follow: bool) -> AsyncIterator[TailLogsResponse]:
        """The log from a position on. Raises NotFound, InvalidArgument for a position that is not ours,
        Unavailable."""
        record = await self._jobs.find(job_id, caller)
        position = _position(token, record.key)
        with self._changes.watch([record.key], logs=True) as watch:
            while True:
                record = await self._jobs.again(record.key)
                async for chunk in self._chunks(record.key, position, ended=False):
                    position = Position(chunk.fence, chunk.end)
                    yield _answer(record.key, chunk)
                complete = is_complete(record, position)
                left = _patience(record)
                if not follow or (record.ended and (complete or left <= 0)):
                    break
                pause = self._poll.pause()
                await watch.changed(min(pause, left) if record.ended else pause)
        async for chunk in self._chunks(record.key, position, ended=record.ended):
            position = Position(chunk.fence, chunk.end)
            yield _answer(record.key, chunk)
        last = TailLogsResponse(position=_token(record.key, position), fence=0 if position == START else position.fence)
        if follow:
            last.job.CopyFrom(job_message(record))
            last.incomplete = not complete
        yield last

    async def _chunks(self, key: int, position: Position, *, ended: bool) -> AsyncIterator[Chunk]:
        """What is stored from a position on, each of one assignment and within an answer's size."""
        while True:
            async with self._reading.connection() as connection:
                chunks = await read_chunks(connection, key, position, _ANSWER_BYTES, ended=ended)
            if not chunks:
                return
            while chunks:
                fence = chunks[0].fence
                same = [chunk for chunk in chunks if chunk.fence == fence]
                chunks = chunks[len(same) :]
                position = Position(fence, same[-1].end)
                yield Chunk(fence, same[0].start, same[-1].end, b"".join(chunk.records for chunk in same))


def _patience(record: JobRecord) -> float:
    """Seconds for which a job's last lines are still waited for, by the database's clock."""
    if record.ended_at is None:
        return PATIENCE_SECONDS
    return PATIENCE_SECONDS - (record.read_at - record.ended_at).total_seconds()


def _answer(key: int, chunk: Chunk) -> TailLogsResponse:
    return TailLogsResponse(
        records=log_records(chunk.records),
        position=_token(key, Position(chunk.fence, chunk.end)),
        fence=chunk.fence,
    )


def _token(key: int, position: Position) -> str:
    return make_token(_KIND, key, position.fence, position.offset)


def _position(token: str, key: int) -> Position:
    if not token:
        return START
    of, fence, offset = read_token("position", token, _KIND, 3)
    if of != key:
        raise wrong_token("position")
    return Position(fence, offset)
