"""The simulation's store does what PostgreSQL does: moves by chance, the same on both, leave the same rows."""

import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from farhand.kernel.quotas import EVERYONE, Quota
from farhand.runtime.database import connect
from farhand.scheduler.core.session import SessionEvent
from farhand.scheduler.loops.kills import KILLED
from farhand.scheduler.store.groups import end_waiting
from farhand.scheduler.store.queue import mark_started
from farhand.scheduler.store.sessions import Beat, change_session, expire_session, living_sessions, renew
from farhand.scheduler.store.sql import SQL
from tests.fixtures._either_store import EitherStore, InMemory
from tests.fixtures.scheduler_rows import no_log
from tests.fixtures.scheduler_store import WRITER

MOVES = (
    "jobs",
    "connect",
    "claim",
    "start",
    "result",
    "stale result",
    "kill",
    "ack",
    "leave",
    "renew",
    "expire",
    "group",
)

QUOTAS = ((), (), (Quota("other", 1, 2),), (Quota(EVERYONE, max_running=1), Quota("main", max_queued=3)))


@pytest_asyncio.fixture
async def both_stores(fresh_database: str) -> AsyncIterator[tuple[EitherStore, EitherStore]]:
    """A store on PostgreSQL and one in memory, both empty."""
    connection = await connect(fresh_database, hot=True)
    yield EitherStore(connection), InMemory()
    await connection.close()


async def play(store: EitherStore, seed: int) -> list[object]:
    """A seed's moves on one store: what each answered, and the rows after it."""
    chance = random.Random(seed)
    told: list[object] = []
    for group in ("g", "h"):
        await store.a_group(group)
    keys: list[int] = []
    sessions: list[tuple[int, int, str, str]] = []  # id, epoch, worker, group
    claimed: list[tuple[int, int, str]] = []  # key, fence, worker
    for _ in range(40):
        move, group = chance.choice(MOVES), chance.choice(("g", "h"))
        connection = store.connection
        answer: object = None
        if move == "jobs":
            fallback, tenant = chance.choice("WWFC"), chance.choice(("main", "other"))
            most = chance.choice((1, 3))
            answer = await store.jobs(
                group, chance.randint(1, 3), fallback=fallback, max_deliveries=most, tenant=tenant
            )
            keys += answer
        elif move == "connect":
            worker = f"w-{group}-{chance.randint(1, 2)}"
            incarnation = bytes([chance.randint(1, 2)]) * 16
            held = {f: (k, chance.choice(("RUNNING", "FINISHED", "SELF_FENCED"))) for k, f, w in claimed if w == worker}
            dead = [bytes([3 - incarnation[0]]) * 16] if chance.random() < 0.3 else []
            drains = chance.random() < 0.2
            try:
                opened = await store.a_session(
                    group, worker=worker, incarnation=incarnation, held=held, dead=dead, draining=drains
                )
            except Exception as error:
                answer = type(error).__name__
            else:
                sessions.append((opened.id, opened.epoch, worker, group))
                answer = (opened.id, opened.epoch, opened.draining, sorted(opened.verdicts.items()), opened.superseded)
        elif move == "claim" and sessions:
            id, _, worker, group = chance.choice(sessions)
            jobs = await store.claim(group, id, chance.randint(1, 3))
            claimed += [(job.key, job.fence, worker) for job in jobs]
            answer = [(job.key, job.fence, job.session_id) for job in jobs]
        elif move == "start" and claimed:
            key, fence, _ = chance.choice(claimed)
            answer = await mark_started(connection, [(key, fence)])
        elif move in ("result", "stale result") and claimed:
            key, fence, worker = chance.choice(claimed)
            answer = (await store.result(key, fence - (move != "result"), worker)).status
        elif move == "kill" and keys:
            key = chance.choice(keys)
            lane = await connection.fetchval(SQL["job_place"], key)
            answer = await end_waiting(connection, [(lane, key)], KILLED, WRITER)
            if not answer:
                row = await connection.fetchrow(SQL["mark_killing"], key, 500)
                answer = row and (row["fence"], row["session_id"])
        elif move == "ack" and claimed:
            key, fence, _ = chance.choice(claimed)
            answer = [row["key"] for row in await connection.fetch(SQL["ack_kills"], [key], [fence])]
        elif move == "leave" and sessions:
            id, epoch, _, _ = chance.choice(sessions)
            event = chance.choice(
                [each for each in SessionEvent if each.value in ("DRAIN", "CLOSE", "FENCE", "GOODBYE")]
            )
            left = await change_session(connection, id, epoch, event, WRITER, no_log)
            answer = (left.changed, sorted(left.ended), sorted(left.returned))
        elif move == "renew" and sessions:
            id, epoch, _, _ = chance.choice(sessions)
            answer = await renew(connection, [Beat(id, epoch, 30_000, 1)])
        elif move == "expire" and (living := sorted(await living_sessions(connection), key=lambda e: e[0].session_id)):
            seen, where = chance.choice(living)
            left = await expire_session(connection, seen, where, WRITER, no_log)
            answer = (left.changed, sorted(left.ended), sorted(left.returned))
        elif move == "group":
            allowed, quotas = chance.choice(((), ("main",))), chance.choice(QUOTAS)
            paused = chance.random() < 0.3
            answer = sorted(await store.change_group(group, allowed=allowed, paused=paused, quotas=quotas))
        told.append((move, answer, await store.rows()))
    return told


@pytest.mark.parametrize("seed", range(15))
async def test_both_stores_answer_alike_and_hold_the_same_rows(
    both_stores: tuple[EitherStore, EitherStore], seed: int
) -> None:
    reference, memory = [await play(store, seed) for store in both_stores]
    for number, (expected, found) in enumerate(zip(reference, memory, strict=True)):
        assert found == expected, f"move {number}"
