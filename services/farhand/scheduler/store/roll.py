"""What the registry's roll is told: sessions whose `report` counter moved, and the newest session of a worker."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from asyncpg import Connection, Record

from farhand.scheduler.core.session import SessionState

# A living session is found by its partial index, a fresh one by its id, whatever became of it since.
_MOVING = """
SELECT id, worker_id, report FROM scheduler.session WHERE state IN ('CONNECTED', 'DRAINING', 'DISCONNECTED')
UNION SELECT id, worker_id, report FROM scheduler.session WHERE id > $1
"""

_NAMED = "SELECT id, worker_id, report FROM scheduler.session WHERE id = ANY ($1::bigint[])"

_NEWEST = """
SELECT DISTINCT ON (s.worker_id) s.worker_id, g.key AS group_key, s.group_uid, s.state, s.draining, s.host, s.version,
       s.slots, s.busy_slots, s.task_types, s.tenants, s.connected_at, s.heartbeat_at, s.subject, s.epoch, s.report
FROM scheduler.session s JOIN scheduler.worker_group g ON g.uid = s.group_uid
WHERE s.worker_id = ANY ($1::text[]) ORDER BY s.worker_id, s.epoch DESC
"""


@dataclass(frozen=True, slots=True)
class Counter:
    """How often a session changed."""

    worker_id: str
    report: int


@dataclass(frozen=True, slots=True)
class RollRow:
    """A worker as the roll shows it: its newest session."""

    worker_id: str
    group_key: str
    group_uid: str
    state: SessionState
    host: str
    version: str
    slots: int
    busy_slots: int
    task_types: list[str]
    tenants: list[str] | None  # that its credential admits; None: every tenant
    connected_at: datetime
    heartbeat_at: datetime
    subject: str
    epoch: int
    report: int


async def read_counters(connection: Connection, *, after: int) -> dict[int, Counter]:
    """The counters of all living sessions, and of all with an id over `after`; by session id."""
    return _counters(await connection.fetch(_MOVING, after))


async def read_counters_of(connection: Connection, sessions: Iterable[int]) -> dict[int, Counter]:
    """The counters of these sessions; by session id."""
    return _counters(await connection.fetch(_NAMED, list(sessions)))


async def read_newest(connection: Connection, workers: Sequence[str]) -> list[RollRow]:
    """The newest session of each of these workers, by worker id."""
    return [
        RollRow(
            worker_id=row["worker_id"],
            group_key=row["group_key"],
            group_uid=row["group_uid"],
            state=_state(row["state"], row["draining"]),
            host=row["host"],
            version=row["version"],
            slots=row["slots"],
            busy_slots=row["busy_slots"],
            task_types=row["task_types"],
            tenants=row["tenants"],
            connected_at=row["connected_at"],
            heartbeat_at=row["heartbeat_at"],
            subject=row["subject"],
            epoch=row["epoch"],
            report=row["report"],
        )
        for row in await connection.fetch(_NEWEST, workers)
    ]


def _counters(rows: Iterable[Record]) -> dict[int, Counter]:
    return {row["id"]: Counter(row["worker_id"], row["report"]) for row in rows}


def _state(state: str, draining: bool) -> SessionState:
    if state == SessionState.CONNECTED and draining:
        return SessionState.DRAINING
    return SessionState(state)
