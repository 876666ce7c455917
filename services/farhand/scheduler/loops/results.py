"""Results and starts, as workers report them: recorded in groups, then acknowledged.

A result's acknowledgement is written to the stream only after it committed
(rule 3). A start is worth a transaction only while its result isn't there yet, so
starts gather for a moment and those that were overtaken are dropped.
"""

from collections.abc import Callable, Sequence

from asyncpg import Connection

from farhand.runtime.crash_points import reach
from farhand.scheduler.loops.frames import ResultAcks
from farhand.scheduler.loops.group_commit import GroupCommit, HotConnection
from farhand.scheduler.loops.stream import Outstanding, Stream
from farhand.scheduler.store import queue
from farhand.scheduler.store.queue import Completion, Recorded

GATHER_STARTS_SECONDS = 0.02


class Results:
    """See the module. `on_ended` is told the keys of jobs that ended, `on_started` of those that started; `on_due`
    that executions are to be looked at, `on_trigger_due` that triggers are, `on_room` the group (uid) in which jobs
    ended."""

    def __init__(
        self,
        completions: HotConnection,
        starts: HotConnection,
        *,
        writer: str,
        on_ended: Callable[[list[int]], None],
        on_started: Callable[[list[int]], None],
        on_due: Callable[[], None],
        on_room: Callable[[str], None],
        on_trigger_due: Callable[[], None],
        on_recorded: Callable[[Outstanding, Completion, Recorded], None],
    ) -> None:
        self._writer = writer
        self._on_ended = on_ended
        self._on_started = on_started
        self._on_due = on_due
        self._on_room = on_room
        self._on_trigger_due = on_trigger_due
        self._on_recorded = on_recorded
        self.completions: GroupCommit[Sequence[Completion], list[Recorded]] = GroupCommit(
            "complete", completions, self._write, weigh=len
        )
        self.starts: GroupCommit[list[tuple[int, int]], None] = GroupCommit(
            "start", starts, self._start, weigh=len, gather=GATHER_STARTS_SECONDS
        )

    async def record(self, stream: Stream, completions: Sequence[Completion]) -> None:
        """Record results and acknowledge them on the stream. Raises Unavailable: nothing is acknowledged."""
        answers = await self.completions.put(completions)
        for completion, answer in zip(completions, answers, strict=True):
            if answer.status != "UNKNOWN":
                outstanding = stream.outstanding.pop(completion.fence, None)
                if outstanding is not None and answer.status == "RECORDED" and _worth_telling(outstanding, completion):
                    self._on_recorded(outstanding, completion, answer)
        if any(answer.status == "RECORDED" for answer in answers):
            self._on_room(stream.group_uid)
        stream.put(ResultAcks([(c.key, c.fence, a.status) for c, a in zip(completions, answers, strict=True)]))
        reach("result answered")

    def started(self, stream: Stream, refs: Sequence[tuple[int, int]]) -> None:
        """Note that jobs (key, fence) started. Nobody waits for it: a start that is lost with the connection is
        told again by the result."""
        self.starts.put([ref for ref in refs if ref[1] in stream.outstanding])

    async def _write(
        self, connection: Connection, batch: Sequence[Sequence[Completion]]
    ) -> list[list[Recorded] | Exception]:
        flat = [completion for completions in batch for completion in completions]
        answers = await queue.complete(connection, flat, self._writer)
        reach("result committed")
        self._on_ended([c.key for c, a in zip(flat, answers, strict=True) if a.status == "RECORDED"])
        if any(answer.due for answer in answers):
            self._on_due()
        if any(answer.trigger_due for answer in answers):
            self._on_trigger_due()
        parts: list[list[Recorded] | Exception] = []
        start = 0
        for completions in batch:
            parts.append(answers[start : start + len(completions)])
            start += len(completions)
        return parts

    async def _start(self, connection: Connection, batch: Sequence[list[tuple[int, int]]]) -> list[None]:
        refs = sorted({ref for part in batch for ref in part})
        if refs:
            started = await queue.mark_started(connection, refs)
            reach("start committed")
            self._on_started(started)
        return [None] * len(batch)


def _worth_telling(outstanding: Outstanding, completion: Completion) -> bool:
    """Most jobs are not traced and go well: nothing is done about those."""
    return bool(outstanding.traceparent) or completion.state != "SUCCESS"
