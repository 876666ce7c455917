"""Sessions that change hands: a worker that was restarted, a group that was made anew, a group that is gone."""

import pytest

from farhand.kernel.errors import NotFound
from farhand.scheduler.core.session import SessionEvent
from farhand.scheduler.store.sessions import change_session
from farhand.scheduler.store.sql import SQL
from tests.fixtures.scheduler_rows import no_log
from tests.fixtures.scheduler_store import WRITER, MeshStore

OLD, NEW = b"o" * 16, b"n" * 16


async def test_a_restarted_worker_keeps_what_had_ended_before_its_process_died(mesh_store: MeshStore) -> None:
    old = await mesh_store.a_session("g", worker="w", incarnation=OLD)
    ended, cut = await mesh_store.jobs("g", 2)
    claimed = {job.key: job.fence for job in await mesh_store.claim("g", old.id, credit=2)}
    new = await mesh_store.a_session(
        "g", worker="w", incarnation=NEW, dead=[OLD], held={claimed[ended]: (ended, "FINISHED")}
    )
    assert new.verdicts == {claimed[ended]: "RESEND"} and new.returned == [cut]
    assert [job.key for job in new.kept] == [ended]
    assert (await mesh_store.result(ended, claimed[ended], "w")).status == "RECORDED"  # it is not run again
    assert await mesh_store.tally() == await mesh_store.counted()


async def test_what_a_restarted_worker_has_lost_after_all_goes_back_with_its_next_hello(mesh_store: MeshStore) -> None:
    old = await mesh_store.a_session("g", worker="w", incarnation=OLD)
    key = await mesh_store.a_job("g")
    [job] = await mesh_store.claim("g", old.id)
    await mesh_store.a_session("g", worker="w", incarnation=NEW, dead=[OLD], held={job.fence: (key, "FINISHED")})
    again = await mesh_store.a_session("g", worker="w", incarnation=NEW)
    assert again.returned == [key]


async def test_what_another_worker_holds_is_not_taken_over_by_naming_it(mesh_store: MeshStore) -> None:
    other = await mesh_store.a_session("g", worker="other")
    key = await mesh_store.a_job("g")
    [job] = await mesh_store.claim("g", other.id)
    await mesh_store.a_session("g", worker="w", incarnation=NEW, dead=[OLD], held={job.fence: (key, "FINISHED")})
    assert (await mesh_store.result(key, job.fence, "w")).status == "UNKNOWN"
    assert (await mesh_store.result(key, job.fence, "other")).status == "RECORDED"


async def test_a_worker_that_comes_back_to_a_group_made_anew_makes_that_available(mesh_store: MeshStore) -> None:
    before = await mesh_store.a_session("g", worker="w", incarnation=OLD)
    await mesh_store.a_group("again")  # the worker names a key; another uid stands behind it now
    after = await mesh_store.a_session("again", worker="w", incarnation=OLD)
    assert after.id == before.id
    waits = await mesh_store.a_job("again", fallback="F")
    assert await mesh_store.state(waits) == "CREATED"  # P11
    assert await mesh_store.state(await mesh_store.a_job("g", fallback="F")) == "FAILED"
    # The change of availability is settled where the worker is, too.
    await change_session(mesh_store.connection, after.id, after.epoch, SessionEvent.GOODBYE, WRITER, no_log)
    assert await mesh_store.state(waits) == "FAILED"


async def test_no_session_opens_in_a_group_that_went_while_its_connect_waited(mesh_store: MeshStore) -> None:
    await mesh_store.connection.execute("UPDATE scheduler.worker_group SET gone = true")
    with pytest.raises(NotFound):
        await mesh_store.a_session("g")
    assert await mesh_store.connection.fetch(SQL["living_sessions"]) == []
