"""What became of jobs: get, list, wait, watch, kill, explain, and the figures of groups."""

import asyncio
import contextlib
from urllib.parse import urlsplit

import pytest
from google.protobuf.duration_pb2 import Duration

from farhand.api.scheduler.v1 import job_pb2
from farhand.api.scheduler.v1.group_service_pb2 import GetGroupFiguresRequest, ListGroupFiguresRequest
from farhand.api.scheduler.v1.job_service_pb2 import (
    WAIT_REASON_NO_WORKER,
    WAIT_REASON_NOT_WAITING,
    ExplainJobRequest,
    GetJobRequest,
    KillJobRequest,
    ListJobsRequest,
    WaitJobRequest,
    WatchJobsRequest,
)
from farhand.kernel.job_id import encode
from farhand.runtime.security import Identity, Role
from farhand.scheduler.core.declared import Group
from tests.fixtures.job_histories import Histories
from tests.fixtures.scheduler_rows import Rows
from tests.rpc.refusal import refused
from tests.rpc.scheduler.job_house import House, open_house


@pytest.fixture
async def lane(rows: Rows, house: House) -> int:
    return await rows.lane("u-default")


async def test_a_job_is_told_whole(rows: Rows, histories: Histories, house: House, lane: int) -> None:
    key = await rows.waiting(lane)
    await histories.task(key, commands=["false"])
    await histories.assign(key, await rows.session("u-default", worker="w1"), fence=5)
    await histories.lose(key)
    await histories.assign(key, await rows.session("u-default", worker="w2"), fence=6, started=True)
    await histories.end(key, "FAILED", exit_code=3)

    job = (await house.jobs().GetJob(GetJobRequest(id=encode(key)))).job
    assert (job.id, job.state, job.fence, job.worker) == (encode(key), job_pb2.JOB_STATE_FAILED, 6, "w2")
    assert job.lost_deliveries == 1
    assert [(lost.fence, lost.worker, lost.reason) for lost in job.lost] == [(5, "w1", "LEASE_EXPIRED")]
    assert (job.outcome.exit_code, job.outcome.reason, job.outcome.message) == (3, "A_REASON", "A message.")
    assert job.outcome.run_duration == Duration(seconds=1, nanos=500_000_000)
    assert job.spec.task.properties["commands"] == ["false"]
    assert job.HasField("start_time") and job.HasField("end_time") and job.HasField("assign_time")


@pytest.mark.parametrize("job_id", ["", "x", "0000000000000", encode(77), encode(77)[:-1] + "~", "\0" * 13])
async def test_a_job_that_is_not_there_is_not_found(house: House, job_id: str) -> None:
    jobs = house.jobs()
    calls = (
        jobs.GetJob(GetJobRequest(id=job_id)),
        jobs.WaitJob(WaitJobRequest(id=job_id)),
        jobs.KillJob(KillJobRequest(id=job_id)),
        jobs.ExplainJob(ExplainJobRequest(id=job_id)),
    )
    assert {(await refused(call)).reason for call in calls} == {"NOT_FOUND"}


async def test_another_tenants_job_is_not_there(rows: Rows) -> None:
    group = await rows.group("")
    mine, other = [await rows.waiting(await rows.lane(group, tenant)) for tenant in ("acme", "main")]
    async with open_house(rows, callers={"t": Identity("ci", Role.CLIENT, tenants=frozenset({"acme"}))}) as house:
        jobs = house.jobs("t")
        assert (await jobs.GetJob(GetJobRequest(id=encode(mine)))).job.tenant == "acme"
        assert (await refused(jobs.GetJob(GetJobRequest(id=encode(other))))).reason == "NOT_FOUND"
        assert (await refused(jobs.KillJob(KillJobRequest(id=encode(other))))).reason == "NOT_FOUND"
        assert house.kills.killed == []
        assert len((await jobs.ListJobs(ListJobsRequest(tenant="acme"))).jobs) == 1
        assert (await refused(jobs.ListJobs(ListJobsRequest()))).reason == "PERMISSION_DENIED"


async def test_jobs_are_listed_in_pages(rows: Rows, histories: Histories, house: House, lane: int) -> None:
    await rows.group("gpu")
    house.registry.add(Group("u-gpu", "gpu"))
    gpu = await rows.lane("u-gpu")
    keys = [await rows.waiting(lane) for _ in range(5)] + [await rows.waiting(gpu)]
    await histories.assign(keys[0], await rows.session("u-default"), fence=5)
    jobs = house.jobs()

    async def everything(request: ListJobsRequest) -> list[str]:
        ids = []
        while True:
            page = await jobs.ListJobs(request)
            ids += [job.id for job in page.jobs]
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return ids

    assert await everything(ListJobsRequest(page_size=2)) == [encode(key) for key in reversed(keys)]
    assert await everything(ListJobsRequest(worker_group="gpu")) == [encode(keys[5])]
    assert await everything(ListJobsRequest(worker_group="_default", page_size=2)) == [
        encode(key) for key in reversed(keys[:5])
    ]
    assert await everything(ListJobsRequest(states=[job_pb2.JOB_STATE_ASSIGNED])) == [encode(keys[0])]
    assert (
        len(await everything(ListJobsRequest(states=[job_pb2.JOB_STATE_UNSPECIFIED, job_pb2.JOB_STATE_ASSIGNED]))) == 6
    )

    token = (await jobs.ListJobs(ListJobsRequest(page_size=2))).next_page_token
    for wrong, field in (
        (ListJobsRequest(page_token="nonsense"), "page_token"),
        (ListJobsRequest(page_token="ÿ"), "page_token"),
        (ListJobsRequest(page_token=token, worker_group="gpu"), "page_token"),
        (ListJobsRequest(page_size=-1), "page_size"),
        (ListJobsRequest(states=[99]), "states"),  # type: ignore[list-item]
    ):
        assert (await refused(jobs.ListJobs(wrong))).violations[0].path == field
    error = await refused(jobs.ListJobs(ListJobsRequest(worker_group="gpuu")))
    assert (error.reason, error.metadata["near"]) == ("NOT_FOUND", "gpu")


async def test_a_wait_ends_when_its_job_does(rows: Rows, histories: Histories, house: House, lane: int) -> None:
    key = await rows.waiting(lane)
    await histories.task(key, commands=["true"])
    session = await rows.session("u-default")
    wait = asyncio.ensure_future(house.jobs().WaitJob(WaitJobRequest(id=encode(key))))
    await house.watched(key)
    await histories.assign(key, session, fence=5)
    house.changes.publish_jobs([key])
    await histories.end(key)
    house.changes.publish_jobs([key])
    job = (await wait).job
    assert job.state == job_pb2.JOB_STATE_SUCCESS
    assert job.spec.task.type == "a.Task"


async def test_a_wait_ends_without_news_too(rows: Rows, histories: Histories) -> None:
    group = await rows.group("")
    key = await rows.waiting(await rows.lane(group))
    async with open_house(rows, poll_seconds=0.01) as house:
        wait = asyncio.ensure_future(house.jobs().WaitJob(WaitJobRequest(id=encode(key))))
        await house.watched(key)
        await histories.assign(key, await rows.session(group), fence=5)
        await histories.end(key)
        assert (await wait).job.state == job_pb2.JOB_STATE_SUCCESS


async def test_a_wait_that_is_over_answers_the_present_state(rows: Rows, house: House, lane: int) -> None:
    key = await rows.waiting(lane)
    jobs = house.jobs()
    for timeout in (Duration(), Duration(nanos=20_000_000)):
        job = (await jobs.WaitJob(WaitJobRequest(id=encode(key), timeout=timeout))).job
        assert job.state == job_pb2.JOB_STATE_CREATED
    for timeout in (Duration(seconds=-1), Duration(seconds=601)):
        error = await refused(jobs.WaitJob(WaitJobRequest(id=encode(key), timeout=timeout)))
        assert error.violations[0].path == "timeout"


async def test_a_watch_tells_each_change_and_ends_with_the_last_job(
    rows: Rows, histories: Histories, house: House, lane: int
) -> None:
    session = await rows.session("u-default", worker="w1")
    keys = [await rows.waiting(lane) for _ in range(3)]
    ids = [encode(key) for key in keys]
    stream = house.jobs().WatchJobs(WatchJobsRequest(ids=[*ids, ids[0]]))
    answers = stream.__aiter__()
    assert [job.id for job in (await anext(answers)).jobs] == ids

    await histories.assign(keys[1], session, fence=5)
    house.changes.publish_jobs(keys)
    (job,) = (await anext(answers)).jobs
    assert (job.id, job.state, job.worker) == (ids[1], job_pb2.JOB_STATE_ASSIGNED, "w1")
    assert not job.HasField("spec")

    for fence, key in ((6, keys[0]), (7, keys[2])):
        await histories.assign(key, session, fence=fence)
    for key in keys:
        await histories.end(key)
    house.changes.publish_all()
    ended: dict[str, int] = {}
    async for answer in answers:
        ended.update((job.id, job.state) for job in answer.jobs)
    assert ended == dict.fromkeys(ids, job_pb2.JOB_STATE_SUCCESS)


async def test_a_watch_names_the_first_job_that_is_not_there(rows: Rows, house: House, lane: int) -> None:
    ids = [encode(await rows.waiting(lane)), encode(990), encode(991)]
    jobs = house.jobs()
    error = await refused(anext(jobs.WatchJobs(WatchJobsRequest(ids=ids)).__aiter__()))
    assert error.reason == "NOT_FOUND" and encode(990) in error.message
    for wrong in ([], ids * 334):
        error = await refused(anext(jobs.WatchJobs(WatchJobsRequest(ids=wrong)).__aiter__()))
        assert error.violations[0].path == "ids"


async def test_nobody_watches_after_a_caller_is_gone(rows: Rows, house: House, lane: int) -> None:
    key = await rows.waiting(lane)
    stream = house.jobs().WatchJobs(WatchJobsRequest(ids=[encode(key)]))
    await anext(stream.__aiter__())
    await house.watched(key)
    stream.cancel()
    await house.watched(key, by=0)


async def test_a_kill_is_answered_with_what_it_came_to(
    rows: Rows, histories: Histories, house: House, lane: int
) -> None:
    waiting, running, ended = [await rows.waiting(lane) for _ in range(3)]
    session = await rows.session("u-default")
    for fence, key in ((5, running), (6, ended)):
        await histories.assign(key, session, fence=fence, started=True)
    await histories.end(ended)
    jobs = house.jobs()
    states = [
        (await jobs.KillJob(KillJobRequest(id=encode(key), grace=Duration(seconds=2)))).job.state
        for key in (waiting, running, ended)
    ]
    assert states == [job_pb2.JOB_STATE_KILLED, job_pb2.JOB_STATE_KILLING, job_pb2.JOB_STATE_SUCCESS]
    assert house.kills.killed == [(waiting, 2000), (running, 2000)]
    await jobs.KillJob(KillJobRequest(id=encode(running)))
    assert house.kills.killed[-1] == (running, 10_000)
    error = await refused(jobs.KillJob(KillJobRequest(id=encode(running), grace=Duration(seconds=601))))
    assert error.violations[0].path == "grace"


async def test_a_waiting_job_is_explained(rows: Rows, histories: Histories, house: House, lane: int) -> None:
    first, second = await rows.waiting(lane), await rows.waiting(lane)
    jobs = house.jobs()
    answer = await jobs.ExplainJob(ExplainJobRequest(id=encode(second)))
    assert (answer.reason, answer.position) == (WAIT_REASON_NO_WORKER, 2)
    assert "farhand server worker" in answer.message
    assert answer.HasField("head_wait") and answer.figures.queued_jobs == 2
    await histories.assign(first, await rows.session("u-default", worker="w9"), fence=5, started=True)
    answer = await jobs.ExplainJob(ExplainJobRequest(id=encode(first)))
    assert (answer.reason, answer.position) == (WAIT_REASON_NOT_WAITING, 0)
    assert "'w9'" in answer.message


async def test_figures_of_groups(rows: Rows, house: House, lane: int) -> None:
    await rows.group("gpu")
    house.registry.late.append(Group("u-gpu", "gpu"))  # made a moment ago
    await rows.waiting(lane)
    await rows.session("u-default")
    groups = house.groups()
    assert (await groups.GetGroupFigures(GetGroupFiguresRequest(worker_group="gpu"))).figures.worker_group == "gpu"
    for group_id in ("", "_default"):
        figures = (await groups.GetGroupFigures(GetGroupFiguresRequest(worker_group=group_id))).figures
        assert (figures.active_workers, figures.slots, figures.queued_jobs) == (1, 4, 1)
        assert figures.HasField("oldest_wait")
    assert [f.worker_group for f in (await groups.ListGroupFigures(ListGroupFiguresRequest())).figures] == ["", "gpu"]
    error = await refused(groups.GetGroupFigures(GetGroupFiguresRequest(worker_group="gpuu")))
    assert (error.reason, error.metadata["near"]) == ("NOT_FOUND", "gpu")


async def test_a_client_sees_the_groups_that_its_tenants_may_use(rows: Rows) -> None:
    for key, allowed in (("", ()), ("ours", ("acme", "x")), ("theirs", ("main",))):
        await rows.group(key, allowed=allowed)
    async with open_house(rows, callers={"t": Identity("ci", Role.CLIENT, tenants=frozenset({"acme"}))}) as house:
        house.registry.add(
            Group("u-ours", "ours", frozenset({"acme"})), Group("u-theirs", "theirs", frozenset({"main"}))
        )
        groups = house.groups("t")
        answer = await groups.ListGroupFigures(ListGroupFiguresRequest())
        assert [figures.worker_group for figures in answer.figures] == ["", "ours"]
        error = await refused(groups.GetGroupFigures(GetGroupFiguresRequest(worker_group="theirs")))
        assert error.reason == "NOT_FOUND" and "theirs" not in error.metadata.get("near", "")


class Road:
    """A way to the database that can be cut: a port that passes bytes on while it is open."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._ends: set[asyncio.StreamWriter] = set()

    async def open(self) -> str:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        user = f"{self._parts.username}:{self._parts.password}"
        return self._parts._replace(netloc=f"{user}@127.0.0.1:{self._port}").geturl()

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for end in self._ends:
            end.transport.abort()
        await self._server.wait_closed()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        self._ends |= {writer, other_writer}

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(1 << 16):
                    sink.write(data)
            sink.close()

        await asyncio.gather(copy(reader, other_writer), copy(other_reader, writer))


async def test_reads_end_unavailable_while_the_database_is_away_and_recover(rows: Rows) -> None:
    key = await rows.waiting(await rows.lane(await rows.group("")))
    road = Road(rows.url)
    async with open_house(rows, database_url=await road.open()) as house:
        jobs = house.jobs()
        await jobs.GetJob(GetJobRequest(id=encode(key)))
        await road.cut()
        calls = (
            jobs.GetJob(GetJobRequest(id=encode(key))),
            jobs.ListJobs(ListJobsRequest()),
            jobs.WaitJob(WaitJobRequest(id=encode(key))),
            house.groups().ListGroupFigures(ListGroupFiguresRequest()),
        )
        assert {(await refused(call)).reason for call in calls} == {"UNAVAILABLE"}
        await road.open()
        assert (await jobs.GetJob(GetJobRequest(id=encode(key)))).job.id == encode(key)
        await road.cut()
