"""The writer of logs: what arrives while a transaction is in flight rides in the next one.

Memory is bounded twice: a call waits while too many bytes are on their way, and
how large a log is already is remembered for the latest logs alone (it is counted
anew when asked for again). The limit of a log is kept per replica that its worker
went through: a backstop behind the worker's own limit, not an accounting.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence

from asyncpg import Connection

from farhand.kernel.errors import LogGap
from farhand.runtime.crash_points import reach
from farhand.scheduler.core.log import Append, LogLimits, LogName, Stored, plan_appends
from farhand.scheduler.loops.group_commit import GroupCommit, HotConnection
from farhand.scheduler.store.logs import insert_chunks, read_known, read_sizes

_REMEMBERED = 10_000  # logs whose size is remembered


class LogWriter:
    """`append` answers when the records are durable. Run `commits.run()` beside it."""

    def __init__(
        self,
        connection: HotConnection,
        limits: LogLimits,
        publish_log: Callable[[int], None],
        *,
        bytes_on_their_way: int = 32 << 20,
        batch_bytes: int = 4 << 20,
    ) -> None:
        self._limits = limits
        self._publish = publish_log
        self._room = _Room(bytes_on_their_way)
        self._sizes: OrderedDict[LogName, int] = OrderedDict()
        self.commits: GroupCommit[Append, Stored] = GroupCommit(
            "logs", connection, self.write, limit=batch_bytes, weigh=lambda append: 256 + len(append.records)
        )

    async def append(self, append: Append) -> Stored:
        """Store the records. Raises LogGap, Unavailable."""
        size = len(append.records)
        await self._room.enter(size)
        try:
            return await self.commits.put(append)
        finally:
            self._room.leave(size)

    async def write(self, connection: Connection, batch: Sequence[Append]) -> list[Stored | Exception]:
        """One batch; an answer for each append, in their order."""
        answers: dict[int, Stored | LogGap] = {}
        grown: set[LogName] = set()
        try:
            while len(answers) < len(batch):
                places = [place for place in range(len(batch)) if place not in answers]
                await self._round(connection, batch, places, answers, grown)
        finally:
            if grown:
                reach("logs committed")
            for key in {key for key, _ in grown}:
                self._publish(key)
        return [answers[place] for place in range(len(batch))]

    async def _round(
        self,
        connection: Connection,
        batch: Sequence[Append],
        places: Sequence[int],
        answers: dict[int, Stored | LogGap],
        grown: set[LogName],
    ) -> None:
        appends = [batch[place] for place in places]
        known = await read_known(connection, ((a.key, a.fence, a.subject) for a in appends))
        old = {(key, fence) for (key, fence, _), fact in known.items() if fact.wanted and fact.end}
        if counted := sorted(old - self._sizes.keys()):
            self._sizes.update(await read_sizes(connection, counted))
        plan = plan_appends(appends, known, self._sizes, self._limits)
        for index, answer in plan.answers.items():
            answers[places[index]] = answer
        if plan.chunks:
            stored = await insert_chunks(connection, plan.chunks)
            for chunk in plan.chunks:
                name = (chunk.key, chunk.fence)
                if name in stored:
                    self._remember(name, chunk.size)
                else:
                    self._sizes.pop(name, None)
            grown |= stored
            for index, name in plan.riding.items():
                if name in stored:
                    answers[places[index]] = Stored(appends[index].end)

    def _remember(self, name: LogName, size: int) -> None:
        self._sizes[name] = size
        self._sizes.move_to_end(name)
        while len(self._sizes) > _REMEMBERED:
            self._sizes.popitem(last=False)


class _Room:
    """So many bytes may be on their way at once; one item alone always may."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._freed = asyncio.Event()
        self._turn = asyncio.Lock()  # first come, first served: the messages of a call keep their order

    async def enter(self, size: int) -> None:
        async with self._turn:
            while self._taken and self._taken + size > self._limit:
                self._freed.clear()
                await self._freed.wait()
            self._taken += size

    def leave(self, size: int) -> None:
        self._taken -= size
        self._freed.set()
