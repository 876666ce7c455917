"""The scheduler's schema in memory: tables, transactions that can be undone, and connections like asyncpg's.

What `queue.sql` says in SQL, `memory_statements` says in Python, statement by
statement and by the same names, so that the scheduler's own store and loops run on
either. tests/store/scheduler/test_contract.py holds the two to one another.

A transaction is one step here: nothing of another comes between. What PostgreSQL's
locks do to transactions that run side by side is tested on PostgreSQL alone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Row = dict[str, Any]
Touched = tuple["Table", Any, Row | None]  # a table, a row's key, and the row as it was; None: there was none
Statement = Callable[..., list[Row]]

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)


class Table(dict[Any, Row]):
    """Rows by their key. A row is never changed in place, so that a row once read stays as it was read."""

    def __init__(self, name: str, journal: list[Touched]) -> None:
        super().__init__()
        self.name = name
        self._journal = journal

    def put(self, key: Any, row: Row) -> None:
        """Insert or replace a row."""
        self._journal.append((self, key, self.get(key)))
        self[key] = row

    def change(self, key: Any, **values: Any) -> Row:
        """Update a row; answers it."""
        before = self[key]
        self._journal.append((self, key, before))
        row = self[key] = {**before, **values}
        return row

    def take(self, key: Any) -> Row:
        """Delete a row; answers it."""
        row = self.pop(key)
        self._journal.append((self, key, row))
        return row


class MemoryStore:
    """The tables, the sequences and the transaction that is open. `now` is the database's clock."""

    def __init__(self, now: Callable[[], datetime] = lambda: EPOCH) -> None:
        from tests.simulation.memory_statements import statements

        self.journal: list[Touched] = []
        for name in (
            "worker_group",
            "lane",
            "worker",
            "session",
            "job",
            "queue",
            "live",
            "done",
            "lost_delivery",
            "request",
        ):
            setattr(self, name, Table(name, self.journal))
        self.sequences = dict.fromkeys(("lane", "session", "job_key", "fence", "epoch"), 0)
        self.now = now()
        self.open = False
        self.on_commit: list[Callable[[Sequence[Touched]], None]] = []
        self._clock = now
        self._statements = statements()

    if TYPE_CHECKING:
        worker_group: Table  # by uid
        lane: Table  # by id
        worker: Table  # by id
        session: Table  # by id
        job: Table  # by key
        queue: Table  # by key
        live: Table  # by key
        done: Table  # by key
        lost_delivery: Table  # by key and fence
        request: Table  # by tenant and request id

    def nextval(self, sequence: str) -> int:
        """As in PostgreSQL, a number that was drawn is never drawn again, also if its transaction is undone."""
        self.sequences[sequence] += 1
        return self.sequences[sequence]

    def begin(self) -> None:
        """A transaction begins; its now() stands still."""
        assert not self.open, "transactions are one step: none begins inside of another"
        self.open = True
        self.now = self._clock()
        self.journal.clear()

    def commit(self) -> None:
        """What the transaction did stands, and whoever watches is told."""
        assert self.open
        self.open = False
        for watch in self.on_commit if self.journal else ():
            watch(self.journal)

    def rollback(self) -> None:
        """What the transaction did is undone."""
        self.open = False
        for table, key, before in reversed(self.journal):
            if before is None:
                dict.__delitem__(table, key) if key in table else None
            else:
                dict.__setitem__(table, key, before)
        self.journal.clear()

    def run(self, text: str, arguments: Sequence[Any]) -> list[Row]:
        """Run one statement inside of the transaction that is open."""
        assert self.open
        statement = self._statements.get(text)
        if statement is None:
            raise NotImplementedError(f"the store in memory does not know this statement: {text}")
        return statement(self, *arguments)

    def age_heartbeat(self, session_id: int, seconds: float) -> None:
        """A session's last heartbeat was that much earlier. For tests."""
        row = self.session[session_id]
        self.session[session_id] = {**row, "heartbeat_at": row["heartbeat_at"] - timedelta(seconds=seconds)}


class MemoryConnection:
    """A connection to a MemoryStore, without any delay: for the contract tests."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store

    async def fetch(self, text: str, *arguments: Any) -> list[Row]:
        """All rows."""
        if self.store.open:
            return self.store.run(text, arguments)
        with self._alone():
            return self.store.run(text, arguments)

    async def fetchrow(self, text: str, *arguments: Any) -> Row | None:
        """The first row."""
        rows = await self.fetch(text, *arguments)
        return rows[0] if rows else None

    async def fetchval(self, text: str, *arguments: Any) -> Any:
        """The first value of the first row."""
        row = await self.fetchrow(text, *arguments)
        return None if row is None else next(iter(row.values()))

    async def execute(self, text: str, *arguments: Any) -> str:
        """No rows."""
        await self.fetch(text, *arguments)
        return ""

    @asynccontextmanager
    async def transaction(self) -> "AsyncIterator[None]":
        """A transaction around statements."""
        with self._alone():
            yield

    def _alone(self) -> "_Alone":
        return _Alone(self.store)


class _Alone:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def __enter__(self) -> None:
        self._store.begin()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._store.commit()
        else:
            self._store.rollback()


def touched_jobs(touched: Sequence[Touched]) -> Iterator[int]:
    """The keys of the jobs whose place was touched, each once, in the order of the touches."""
    seen: set[int] = set()
    for table, key, _ in touched:
        if table.name in ("queue", "live", "done") and key not in seen:
            seen.add(key)
            yield key
