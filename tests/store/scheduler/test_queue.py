"""The queue on real PostgreSQL: order, one live assignment, fences, drains, and who may have what."""

import asyncio

import asyncpg
import pytest

from farhand.kernel.errors import WorkerIdTaken
from farhand.runtime.database import connect
from farhand.scheduler.core.lease import Renewal
from farhand.scheduler.core.session import SessionEvent
from farhand.scheduler.store.groups import lanes_of, settle_group
from farhand.scheduler.store.queue import assign, heads, lock_for_claim
from farhand.scheduler.store.sessions import (
    Beat,
    change_session,
    expire_session,
    living_sessions,
    renew,
    return_unstarted,
)
from farhand.scheduler.store.sql import SQL
from tests.fixtures.scheduler_rows import no_log
from tests.fixtures.scheduler_store import WRITER, MeshStore

INCARNATION = b"i" * 16


async def test_jobs_are_assigned_in_the_order_of_their_submits(mesh_store: MeshStore) -> None:
    session = await mesh_store.a_session("g")
    keys = [*await mesh_store.jobs("g", 3), await mesh_store.a_job("g", tenant="other"), *await mesh_store.jobs("g", 2)]
    assert [job.key for job in await mesh_store.claim("g", session.id, credit=10)] == keys


async def test_a_lost_assignment_returns_to_its_old_place(mesh_store: MeshStore) -> None:
    lost = await mesh_store.a_session("g")
    first, *others = await mesh_store.jobs("g", 3)
    await mesh_store.claim("g", lost.id)
    await change_session(mesh_store.connection, lost.id, None, SessionEvent.GOODBYE, WRITER, no_log)
    session = await mesh_store.a_session("g")
    assert [job.key for job in await mesh_store.claim("g", session.id)] == [first]
    assert [job.key for job in await mesh_store.claim("g", session.id, credit=2)] == others


async def test_two_claimers_never_overtake_each_other(mesh_store: MeshStore, fresh_database: str) -> None:
    keys = await mesh_store.jobs("g", 200)
    stores = [mesh_store, MeshStore(await connect(fresh_database, hot=True))]
    sessions = [await store.a_session("g") for store in stores]
    order: list[tuple[int, int]] = []

    async def claim_all(store: MeshStore, session: int) -> None:
        while claimed := await store.claim("g", session, credit=3):
            order.extend((job.fence, job.key) for job in claimed)

    await asyncio.gather(*(claim_all(store, one.id) for store, one in zip(stores, sessions, strict=True)))
    await stores[1].connection.close()
    # P5: in the order of assignment commits, which is that of the fences: they are drawn under the group's lock.
    assert [key for _, key in sorted(order)] == keys


async def test_a_claim_waits_for_another_one_of_its_group(mesh_store: MeshStore, fresh_database: str) -> None:
    first, second = await mesh_store.jobs("g", 2)
    other = MeshStore(await connect(fresh_database, hot=True))
    session, its = await mesh_store.a_session("g"), await other.a_session("g")
    connection = mesh_store.connection
    async with connection.transaction():
        await lock_for_claim(connection, "g")
        rows = await heads(connection, [lane.id for lane in await lanes_of(connection, "g")], 1, 1 << 20)
        claiming = asyncio.create_task(other.claim("g", its.id))
        while not claiming.done() and not await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        ):
            await asyncio.sleep(0)
        [sooner] = await assign(connection, rows, [session.id], WRITER)
    [later] = await claiming
    await other.connection.close()
    assert (sooner.key, later.key) == (first, second) and sooner.fence < later.fence  # P5


async def test_a_job_has_at_most_one_live_assignment(mesh_store: MeshStore) -> None:
    session = await mesh_store.a_session("g")
    key = await mesh_store.a_job("g")
    [claimed] = await mesh_store.claim("g", session.id)
    with pytest.raises(asyncpg.UniqueViolationError):
        await mesh_store.connection.execute(
            "INSERT INTO scheduler.live (key, lane_id, fence, session_id, lost, assigned_at)"
            " VALUES ($1, 1, $2, 1, 0, now())",
            key,
            claimed.fence + 1,
        )


async def test_a_stale_fence_changes_nothing(mesh_store: MeshStore) -> None:
    first = await mesh_store.a_session("g", worker="first")
    key = await mesh_store.a_job("g")
    [old] = await mesh_store.claim("g", first.id)
    await change_session(mesh_store.connection, first.id, None, SessionEvent.GOODBYE, WRITER, no_log)
    assert (await mesh_store.result(key, old.fence, "first")).status == "STALE"
    assert await mesh_store.state(key) == "CREATED"
    second = await mesh_store.a_session("g", worker="second")
    [new] = await mesh_store.claim("g", second.id)
    assert new.fence > old.fence
    assert (await mesh_store.result(key, old.fence, "first")).status == "STALE"
    assert await mesh_store.state(key) == "ASSIGNED"
    assert (await mesh_store.result(key, new.fence, "second")).status == "RECORDED"
    assert (await mesh_store.result(key, new.fence, "second")).status == "DUPLICATE"
    assert (await mesh_store.result(key, old.fence, "first")).status == "STALE"


async def test_only_the_worker_that_was_assigned_a_job_is_heard(mesh_store: MeshStore) -> None:
    session = await mesh_store.a_session("g", worker="mine")
    key = await mesh_store.a_job("g")
    [claimed] = await mesh_store.claim("g", session.id)
    assert (await mesh_store.result(key, claimed.fence, "another")).status != "RECORDED"
    assert await mesh_store.state(key) == "ASSIGNED"


async def test_an_older_epoch_is_given_nothing_and_renews_nothing(mesh_store: MeshStore) -> None:
    first = await mesh_store.a_session("g", worker="w", incarnation=INCARNATION)
    await mesh_store.a_session("g", worker="w", incarnation=INCARNATION)
    await mesh_store.a_job("g")
    mesh_store.epochs[first.id] = first.epoch
    assert await mesh_store.claim("g", first.id) == []
    assert await renew(mesh_store.connection, [Beat(first.id, first.epoch, 60_000, 0)]) == set()


async def test_another_incarnation_supersedes_and_waits_out_the_lease(mesh_store: MeshStore) -> None:
    old = await mesh_store.a_session("g", worker="w")
    key = await mesh_store.a_job("g")
    await mesh_store.claim("g", old.id)
    await mesh_store.a_session("g", worker="w")
    assert await renew(mesh_store.connection, [Beat(old.id, old.epoch, 60_000, 0)]) == set()
    assert await mesh_store.state(key) == "ASSIGNED"


async def test_an_incarnation_that_is_proven_dead_gives_its_jobs_back_at_once(mesh_store: MeshStore) -> None:
    old = await mesh_store.a_session("g", worker="w", incarnation=INCARNATION)
    key = await mesh_store.a_job("g")
    await mesh_store.claim("g", old.id)
    opened = await mesh_store.a_session("g", worker="w", dead=[INCARNATION])
    assert opened.returned == [key]
    assert await mesh_store.state(key) == "CREATED"


async def test_a_resume_keeps_gives_back_and_stops_by_difference(mesh_store: MeshStore) -> None:
    session = await mesh_store.a_session("g", worker="w", incarnation=INCARNATION)
    keys = await mesh_store.jobs("g", 4)
    running, finished, fenced, missing = await mesh_store.claim("g", session.id, credit=4)
    foreign = missing.fence + 1000
    again = await mesh_store.a_session(
        "g",
        worker="w",
        incarnation=INCARNATION,
        held={
            running.fence: (running.key, "RUNNING"),
            finished.fence: (finished.key, "FINISHED"),
            fenced.fence: (fenced.key, "SELF_FENCED"),
            foreign: (keys[0], "RUNNING"),
        },
    )
    assert again.id == session.id and again.epoch > session.epoch
    assert again.verdicts == {
        running.fence: "KEEP",
        finished.fence: "RESEND",
        fenced.fence: "STOP",
        foreign: "STOP",
    }
    assert {job.key for job in again.kept} == {running.key, finished.key}
    assert set(again.returned) == {fenced.key, missing.key}
    lost = dict(await mesh_store.connection.fetch("SELECT key, lost FROM scheduler.queue"))
    assert lost == {fenced.key: 1, missing.key: 0}  # what was never received costs no delivery


async def test_a_worker_id_belongs_to_the_credential_that_used_it_first(mesh_store: MeshStore) -> None:
    await mesh_store.a_session("g", worker="w", subject="mine")
    with pytest.raises(WorkerIdTaken):
        await mesh_store.a_session("g", worker="w", subject="theirs")


async def test_nothing_is_assigned_after_a_drain_committed(mesh_store: MeshStore, fresh_database: str) -> None:
    session = await mesh_store.a_session("g")
    await mesh_store.jobs("g", 50)
    other = MeshStore(await connect(fresh_database, hot=True))
    other.epochs = mesh_store.epochs
    drained = asyncio.Event()
    late: list[int] = []

    async def claims() -> None:
        while True:
            after = drained.is_set()
            claimed = await other.claim("g", session.id)
            if not claimed:
                return
            if after:
                late.extend(job.key for job in claimed)

    async def drain() -> None:
        await change_session(mesh_store.connection, session.id, None, SessionEvent.DRAIN, WRITER, no_log)
        drained.set()

    await asyncio.gather(claims(), drain())
    await other.connection.close()
    assert late == []  # P8
    assert await mesh_store.claim("g", session.id) == []


async def test_a_lease_expires_only_while_its_counter_stands(mesh_store: MeshStore) -> None:
    session = await mesh_store.a_session("g")
    key = await mesh_store.a_job("g")
    await mesh_store.claim("g", session.id)
    [(seen, group)] = await living_sessions(mesh_store.connection)
    await renew(mesh_store.connection, [Beat(session.id, session.epoch, 60_000, 1)])
    assert not (await expire_session(mesh_store.connection, seen, group, WRITER, no_log)).changed
    assert await mesh_store.state(key) == "ASSIGNED"
    [(seen, group)] = await living_sessions(mesh_store.connection)
    assert (await expire_session(mesh_store.connection, seen, group, WRITER, no_log)).returned == (key,)
    assert not (await expire_session(mesh_store.connection, seen, group, WRITER, no_log)).changed


async def test_a_lost_session_renews_nothing(mesh_store: MeshStore) -> None:
    session = await mesh_store.a_session("g")
    await expire_session(mesh_store.connection, Renewal(session.id, session.epoch, 1, 60.0), "g", WRITER, no_log)
    assert await renew(mesh_store.connection, [Beat(session.id, session.epoch, 60_000, 0)]) == set()


async def test_a_requeued_job_stays_in_its_group_also_under_the_same_key_made_anew(mesh_store: MeshStore) -> None:
    session = await mesh_store.a_session("g")
    key = await mesh_store.a_job("g")
    await mesh_store.claim("g", session.id)
    await mesh_store.a_group("other")
    stranger = await mesh_store.a_session("other")
    own = await mesh_store.a_job("other")
    await change_session(mesh_store.connection, session.id, None, SessionEvent.GOODBYE, WRITER, no_log)
    assert [job.key for job in await mesh_store.claim("other", stranger.id, credit=5)] == [own]  # P10
    assert await mesh_store.state(key) == "CREATED"


async def test_a_tenant_that_is_no_longer_allowed_is_not_claimed(mesh_store: MeshStore) -> None:
    session = await mesh_store.a_session("g")
    allowed = await mesh_store.a_job("g", tenant="main")
    forbidden = await mesh_store.a_job("g", tenant="other")
    await mesh_store.connection.execute("UPDATE scheduler.worker_group SET allowed_tenants = '{main}'")
    assert [job.key for job in await mesh_store.claim("g", session.id, credit=5)] == [allowed]
    async with mesh_store.connection.transaction():
        assert await settle_group(mesh_store.connection, "g", WRITER, no_log) == [forbidden]
    assert await mesh_store.state(forbidden) == "FAILED"


@pytest.mark.parametrize(("fallback", "state"), [("W", "CREATED"), ("F", "FAILED"), ("C", "KILLED")])
async def test_a_fallback_is_decided_with_the_enqueue(mesh_store: MeshStore, fallback: str, state: str) -> None:
    alone = await mesh_store.a_job("g", fallback=fallback)
    assert await mesh_store.state(alone) == state
    await mesh_store.a_session("g")
    served = await mesh_store.a_job("g", fallback=fallback)
    assert await mesh_store.state(served) == "CREATED"


@pytest.mark.parametrize(("fallback", "state"), [("W", "CREATED"), ("F", "FAILED"), ("C", "KILLED")])
async def test_a_fallback_is_decided_again_when_a_lost_job_comes_back(
    mesh_store: MeshStore, fallback: str, state: str
) -> None:
    session = await mesh_store.a_session("g")
    key = await mesh_store.a_job("g", fallback=fallback)
    await mesh_store.claim("g", session.id)
    await change_session(mesh_store.connection, session.id, None, SessionEvent.GOODBYE, WRITER, no_log)
    assert await mesh_store.state(key) == state


async def test_a_fallback_and_the_last_worker_s_leaving_never_miss_each_other(
    mesh_store: MeshStore, fresh_database: str
) -> None:
    session = await mesh_store.a_session("g")
    other = MeshStore(await connect(fresh_database, hot=True))
    await other.a_job("g")  # makes the lane, which locks the group for a moment too
    leaving = change_session(mesh_store.connection, session.id, None, SessionEvent.DRAIN, WRITER, no_log)
    async with other.connection.transaction():
        key = await other.a_job("g", fallback="F")  # it saw the worker, and has not committed
        assert await other.state(key) == "CREATED"
        left = asyncio.create_task(leaving)
        waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
        while not left.done() and not await other.connection.fetchval(waits):
            await asyncio.sleep(0.01)
    await left
    assert await mesh_store.state(key) == "FAILED"  # P11
    await other.connection.close()


async def test_a_fail_leaves_an_error_line_and_a_cancel_does_not(mesh_store: MeshStore) -> None:
    failed, cancelled = await mesh_store.a_job("g", fallback="F"), await mesh_store.a_job("g", fallback="C")
    rows = await mesh_store.connection.fetch("SELECT key, records FROM scheduler.log_chunk")
    assert [row["key"] for row in rows] == [failed] and b"Worker group g has no available worker" in rows[0]["records"]
    assert await mesh_store.state(cancelled) == "KILLED"


async def test_a_job_that_takes_its_workers_down_ends_failed(mesh_store: MeshStore) -> None:
    key = await mesh_store.a_job("g", max_deliveries=2)
    for expected in ("CREATED", "FAILED"):
        session = await mesh_store.a_session("g")
        await mesh_store.claim("g", session.id)
        await change_session(mesh_store.connection, session.id, None, SessionEvent.GOODBYE, WRITER, no_log)
        assert await mesh_store.state(key) == expected
    row = await mesh_store.connection.fetchrow("SELECT reason, message, lost FROM scheduler.done")
    assert row["reason"] == "WORKER_LOST" and row["lost"] == 2 and "2 times" in row["message"]


async def test_what_was_not_started_goes_back_at_no_cost(mesh_store: MeshStore) -> None:
    session = await mesh_store.a_session("g")
    key = await mesh_store.a_job("g", max_deliveries=1)
    await mesh_store.claim("g", session.id)
    await return_unstarted(mesh_store.connection, session.id, [key], WRITER, no_log)
    assert await mesh_store.state(key) == "CREATED"


async def test_a_claim_that_reads_after_a_million_ineligible_jobs_stays_cheap(mesh_store: MeshStore) -> None:
    await mesh_store.connection.execute(
        "INSERT INTO scheduler.lane (group_uid, tenant, task_type) VALUES ('g', 'main', 'unknown.Type')"
    )
    await mesh_store.connection.execute(
        "INSERT INTO scheduler.queue SELECT 1, nextval('scheduler.job_key'), 'W', 0 FROM generate_series(1, 20000)"
    )
    await mesh_store.jobs("g", 5)
    plan = await mesh_store.connection.fetch("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) " + SQL["heads"], [2], 5, 1 << 20)
    text = "\n".join(row[0] for row in plan)
    shared = next(line for line in text.splitlines() if "Buffers: shared" in line)
    assert int(shared.split("hit=")[1].split()[0]) < 100, text
