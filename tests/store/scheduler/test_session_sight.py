"""Workers that are silent, and workers whose heartbeats nobody could write down: the two are told apart."""

from typing import Any, cast

import pytest

from farhand.runtime.database import connect
from farhand.scheduler.core.lease import AVAILABLE_WITHIN, LONGEST_GAP, LeaseTerms
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.loops.sessions import Sessions
from farhand.scheduler.loops.stream import Streams
from tests.fixtures.scheduler_store import WRITER, MeshStore


class Lent:
    """A pool of one connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def acquire(self) -> "Lent":
        return self

    async def __aenter__(self) -> Any:
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        return None


class Told:
    """Takes what sessions tell."""

    def moved(self, *_: object) -> None:
        return None


@pytest.mark.parametrize("gap", [0.0, LONGEST_GAP + 1])
async def test_old_heartbeats_end_jobs_only_when_nothing_was_missed(
    mesh_store: MeshStore, fresh_database: str, gap: float
) -> None:
    await mesh_store.a_session("g")
    job = await mesh_store.a_job("g", fallback="F")
    await mesh_store.connection.execute("UPDATE scheduler.session SET heartbeat_at = now() - interval '1 minute'")
    connection = await connect(fresh_database)
    sessions = Sessions(
        cast(Any, Lent(connection)),
        HotConnection(""),
        Streams(),
        cast(Any, Told()),
        lambda uid: 60_000,
        writer=WRITER,
        encode_log=str.encode,
    )
    now = 1000.0

    def clock() -> float:
        return now

    async def look_for(seconds: float) -> None:
        nonlocal now
        end = now + seconds
        while now < end:
            now += 1
            await sessions.expire(clock)
            await sessions.settle()

    await look_for(AVAILABLE_WITHIN)
    assert await mesh_store.state(job) == "CREATED"  # it has just begun to look
    now += gap  # the database was away, or we stood still
    await look_for(1)
    assert await mesh_store.state(job) == ("CREATED" if gap else "FAILED")
    await look_for(AVAILABLE_WITHIN)
    assert await mesh_store.state(job) == "FAILED"  # now the worker's silence is its own
    await connection.close()


def test_offers_that_are_never_answered_take_no_more_room() -> None:
    terms = LeaseTerms(60_000)
    assert [terms.offer(sequence, 60_000 - sequence % 2) for sequence in range(1000)] == [60_000] * 1000
    assert len(terms._offers) <= 2
    terms.heard(998, 60_000 - 1)
    assert terms.offer(1000, 10_000) == 60_000 - 1  # the offer of 999 may be counted with
    terms.heard(1000, 10_000)
    assert terms.offer(1001, 10_000) == 10_000
