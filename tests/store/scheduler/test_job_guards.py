"""The SQL guards do what the job's table says, pair by pair; and the tally stays exact through all of it."""

import pytest

from farhand.kernel.resolution import Fallback
from farhand.scheduler.core import job as rules
from farhand.scheduler.core.job import Job, JobState
from farhand.scheduler.core.session import SessionEvent
from farhand.scheduler.loops.kills import KILLED
from farhand.scheduler.store.groups import Ending, end_waiting, settle_group
from farhand.scheduler.store.queue import give_back, mark_started
from farhand.scheduler.store.sessions import change_session
from farhand.scheduler.store.sql import SQL
from tests.fixtures.scheduler_rows import no_log
from tests.fixtures.scheduler_store import WRITER, MeshStore

LETTER = {Fallback.WAIT: "W", Fallback.FAIL: "F", Fallback.CANCEL: "C"}
STATES = list(JobState)
EVENTS = ["start", "stale start", "end", "stale end", "lose", "return", "kill", "unavailable", "forbid", "overdue"]


class Played:
    """A job in the tables and the same job in the core, moved together."""

    def __init__(self, store: MeshStore, key: int, session: int, worker: str, job: Job) -> None:
        self.store, self.key, self.session, self.worker, self.job = store, key, session, worker, job
        self.fence = 0

    async def assign(self) -> None:
        [claimed] = await self.store.claim("g", self.session)
        assert claimed.key == self.key
        self.fence = claimed.fence
        self.job, _ = rules.step(self.job, rules.Assign(claimed.fence))

    async def reach(self, state: JobState) -> None:
        """Bring both into this state."""
        if state is JobState.CREATED:
            return
        await self.assign()
        if state in (JobState.RUNNING, JobState.KILLING):
            await self.apply("start")
        if state is JobState.KILLING:
            await self.apply("kill")
        if state in rules.FINAL:
            recorded = await self.store.result(self.key, self.fence, self.worker, state)
            self.job, verdict = rules.step(self.job, rules.End(self.fence, state))
            assert recorded.status == verdict

    async def apply(self, event: str) -> None:
        """The same event to both; where the core answers with a verdict about a result, it must be the same."""
        connection, stale = self.store.connection, max(0, self.fence - 1)
        match event:
            case "start" | "stale start":
                fence = self.fence if event == "start" else stale
                await mark_started(connection, [(self.key, fence)])
                self.job, _ = rules.step(self.job, rules.Start(fence))
            case "end" | "stale end":
                fence = self.fence if event == "end" else stale
                recorded = await self.store.result(self.key, fence, self.worker, "WARNING")
                self.job, verdict = rules.step(self.job, rules.End(fence, JobState.WARNING))
                assert recorded.status == verdict
            case "lose" | "return":
                async with connection.transaction():
                    await give_back(
                        connection,
                        self.session,
                        reason="TEST",
                        costing=None if event == "lose" else [],
                        writer=WRITER,
                        encode_log=no_log,
                    )
                kind = rules.Lose if event == "lose" else rules.Return
                self.job, _ = rules.step(self.job, kind(self.fence))
            case "kill":
                lane = await connection.fetchval(SQL["job_place"], self.key)
                if not await end_waiting(connection, [(lane, self.key)], KILLED, WRITER):
                    await connection.fetchrow(SQL["mark_killing"], self.key, 1000)
                self.job, _ = rules.step(self.job, rules.Kill())
            case "unavailable":
                await change_session(connection, self.session, None, SessionEvent.DRAIN, WRITER, no_log)
                self.job, _ = rules.step(self.job, rules.Unavailable())
            case "overdue":
                lane = await connection.fetchval(SQL["job_place"], self.key)
                await end_waiting(
                    connection,
                    [(lane, self.key)],
                    Ending("FAILED", "GROUP_WAIT_TIMEOUT", "It waited too long.", None),
                    WRITER,
                )
                self.job, _ = rules.step(self.job, rules.Overdue())
            case "forbid":
                await connection.execute("UPDATE scheduler.worker_group SET allowed_tenants = '{other}'")
                async with connection.transaction():
                    await settle_group(connection, "g", WRITER, no_log)
                self.job, _ = rules.step(self.job, rules.Forbid())


@pytest.mark.parametrize("fallback", Fallback)
@pytest.mark.parametrize("deliveries", [1, 3])
@pytest.mark.parametrize("state", STATES)
async def test_the_guards_agree_with_the_table(
    mesh_store: MeshStore, state: JobState, fallback: Fallback, deliveries: int
) -> None:
    for number, event in enumerate(EVENTS):
        await mesh_store.connection.execute(
            "TRUNCATE scheduler.job, scheduler.queue, scheduler.live, scheduler.done, scheduler.log_chunk,"
            " scheduler.tally, scheduler.session, scheduler.lost_delivery, scheduler.worker"
        )
        await mesh_store.connection.execute("UPDATE scheduler.worker_group SET allowed_tenants = '{}'")
        worker = f"worker-{number}"
        session = await mesh_store.a_session("g", worker=worker)
        key = await mesh_store.a_job("g", fallback=LETTER[fallback], max_deliveries=deliveries)
        played = Played(mesh_store, key, session.id, worker, Job(fallback=fallback, max_deliveries=deliveries))
        await played.reach(state)
        assert await mesh_store.state(key) == played.job.state == state
        await played.apply(event)
        assert await mesh_store.state(key) == played.job.state, event
        assert await mesh_store.tally() == await mesh_store.counted(), event
        reason = await mesh_store.connection.fetchval("SELECT reason FROM scheduler.done WHERE key = $1", key)
        if played.job.state in rules.FINAL and state not in rules.FINAL and not event.endswith("end"):
            assert reason == played.job.reason, event
