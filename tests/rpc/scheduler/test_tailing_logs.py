"""TailLogs and AppendLogs: what a worker sends is what a caller reads, to the last line."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from farhand.api.scheduler.v1.job_service_pb2 import TailLogsRequest, TailLogsResponse
from farhand.api.types.v1.log_record_pb2 import LOG_STREAM_STDERR, LogRecord
from farhand.api.worker.v1.worker_service_pb2 import AppendLogsRequest, AppendLogsResponse, LogAck
from farhand.kernel.errors import InvalidArgument, LogGap
from farhand.kernel.job_id import encode
from farhand.runtime.security import Identity, Role
from farhand.scheduler.core.log import Append, LogLimits, Stored
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.loops.logs import LogWriter
from farhand.scheduler.rpc.append_logs import AppendLogs
from tests.fixtures.job_histories import Histories, log_lines
from tests.fixtures.scheduler_rows import Rows
from tests.rpc.refusal import refused
from tests.rpc.scheduler.job_house import House

WORKER = Identity("a token", Role.WORKER)  # the subject of the sessions that `rows` builds


@pytest.fixture
async def session(rows: Rows, house: House) -> int:
    return await rows.session("u-default")


@pytest.fixture
async def key(rows: Rows, histories: Histories, house: House, session: int) -> int:
    """A job that runs under fence 5."""
    key = await rows.waiting(await rows.lane("u-default"))
    await histories.assign(key, session, fence=5, started=True)
    return key


@pytest.fixture
async def logs(rows: Rows, house: House) -> AsyncIterator[AppendLogs]:
    connection = HotConnection(rows.url)
    writer = LogWriter(connection, LogLimits(1 << 20, log_lines("cut")), house.changes.publish_log)
    task = asyncio.create_task(writer.commits.run())
    yield AppendLogs(writer)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    connection.drop()


def a_request(key: int, offset: int, *lines: str, fence: int = 5) -> AppendLogsRequest:
    records = [LogRecord(text=line, stream=LOG_STREAM_STDERR) for line in lines]
    return AppendLogsRequest(job_id=encode(key), fence=fence, offset=offset, records=records)


async def append(logs: AppendLogs, *requests: AppendLogsRequest, caller: Identity = WORKER) -> AppendLogsResponse:
    async def stream() -> AsyncIterator[AppendLogsRequest]:
        for request in requests:
            yield request

    return await logs.append_logs(stream(), caller)


class Tail:
    """A tail, read as it comes."""

    def __init__(self, house: House, key: int, *, follow: bool = True, position: str = "") -> None:
        self._answers = (
            house.jobs().TailLogs(TailLogsRequest(id=encode(key), position=position, follow=follow)).__aiter__()
        )
        self.lines: list[str] = []
        self.fences: list[int] = []
        self.last = TailLogsResponse()

    async def until(self, line: str) -> None:
        while line not in self.lines:
            await self._next()

    async def to_the_end(self) -> TailLogsResponse:
        while True:
            try:
                await self._next()
            except StopAsyncIteration:
                return self.last

    async def _next(self) -> None:
        self.last = await anext(self._answers)
        self.lines += [record.text for record in self.last.records]
        self.fences += [self.last.fence] * len(self.last.records)


async def test_a_tail_follows_a_job_to_its_last_line(
    histories: Histories, house: House, logs: AppendLogs, key: int
) -> None:
    tail = Tail(house, key)
    await append(logs, a_request(key, 0, "one", "two"))
    await tail.until("two")
    await append(logs, a_request(key, 2, "three"))
    await tail.until("three")
    await histories.end(key, log_end=4)
    house.changes.publish_jobs([key])
    await append(logs, a_request(key, 3, "four"))
    async with asyncio.timeout(8):  # by the news of it; without, it would be 10 seconds
        last = await tail.to_the_end()
    assert tail.lines == ["one", "two", "three", "four"]
    assert set(tail.fences) == {5}
    assert (last.job.id, last.incomplete) == (encode(key), False)
    assert last.job.HasField("outcome") and not last.job.HasField("spec")


async def test_a_tail_goes_on_where_another_stopped(histories: Histories, house: House, key: int) -> None:
    await histories.log(key, 5, 0, "one", "two")
    await histories.log(key, 5, 2, "three")
    first = Tail(house, key, follow=False)
    last = await first.to_the_end()
    assert first.lines == ["one", "two", "three"]
    assert not last.HasField("job")
    await histories.log(key, 5, 3, "four")
    second = Tail(house, key, follow=False, position=last.position)
    assert (await second.to_the_end()).position != last.position
    assert second.lines == ["four"]


async def test_a_tail_of_nothing_has_a_position_too(house: House, key: int) -> None:
    last = await Tail(house, key, follow=False).to_the_end()
    assert last.position and not last.records and last.fence == 0


async def test_the_lines_of_each_assignment_are_told_apart(
    histories: Histories, house: House, session: int, key: int
) -> None:
    await histories.log(key, 5, 0, "first try")
    await histories.lose(key)
    await histories.assign(key, session, fence=9)
    await histories.log(key, 9, 0, "second try")
    await histories.lose(key, again=False)
    tail = Tail(house, key)
    last = await tail.to_the_end()
    assert list(zip(tail.lines, tail.fences, strict=True)) == [
        ("first try", 5),
        ("second try", 9),
        ("Its worker was lost.", 0),
    ]
    assert not last.incomplete


async def test_lines_that_never_come_are_waited_for_ten_seconds_after_the_end(
    histories: Histories, house: House, key: int
) -> None:
    await histories.log(key, 5, 0, "one")
    await histories.end(key, log_end=2, seconds_ago=9.9)
    tail = Tail(house, key)
    last = await tail.to_the_end()
    assert tail.lines == ["one"]
    assert last.incomplete and last.job.id == encode(key)


async def test_a_big_log_comes_in_pieces_of_bounded_size(histories: Histories, house: House, key: int) -> None:
    for offset in range(5):
        await histories.log(key, 5, offset, f"{offset}" * 400_000)
    await histories.end(key, log_end=5)
    answers = [answer async for answer in house.jobs().TailLogs(TailLogsRequest(id=encode(key), follow=True))]
    assert [len(answer.records) for answer in answers] == [2, 2, 1, 0]
    assert max(answer.ByteSize() for answer in answers) < 1 << 20


async def test_a_position_of_elsewhere_is_refused(histories: Histories, rows: Rows, house: House, key: int) -> None:
    await histories.log(key, 5, 0, "one")
    position = (await Tail(house, key, follow=False).to_the_end()).position
    other = await rows.waiting(await rows.lane("u-default", "acme"))
    for job, wrong in ((other, position), (key, "nonsense"), (key, position[:-2])):
        error = await refused(Tail(house, job, position=wrong).to_the_end())
        assert (error.reason, error.violations[0].path) == ("INVALID_ARGUMENT", "position")
    error = await refused(Tail(house, 991).to_the_end())
    assert error.reason == "NOT_FOUND"


async def test_a_call_with_several_logs_acknowledges_each(
    rows: Rows, histories: Histories, logs: AppendLogs, session: int, key: int
) -> None:
    other = await rows.waiting(await rows.lane("u-default", "acme"))
    await histories.assign(other, session, fence=6)
    many = [a_request(key, offset, f"line {offset}") for offset in range(20)]
    stale = a_request(key, 0, "stale", fence=4)
    unknown = AppendLogsRequest(job_id="nonsense", fence=1, records=[LogRecord(text="a")])
    response = await append(logs, *many, a_request(other, 0, "a", "b", fence=6), stale, unknown)
    assert {(ack.job_id, ack.fence): (ack.offset, ack.refused) for ack in response.acks} == {
        (encode(key), 5): (20, False),
        (encode(other), 6): (2, False),
        (encode(key), 4): (0, True),
        ("nonsense", 1): (0, True),
    }


async def test_a_gap_fails_the_call_and_keeps_what_was_right(house: House, logs: AppendLogs, key: int) -> None:
    with pytest.raises(LogGap) as caught:
        await append(logs, a_request(key, 0, "one"), a_request(key, 5, "six"))
    assert caught.value.metadata["job_id"] == encode(key)
    assert (await append(logs, a_request(key, 0, "one", "two"))).acks[0] == LogAck(
        job_id=encode(key), fence=5, offset=2
    )


async def test_another_workers_credential_is_refused(logs: AppendLogs, key: int) -> None:
    response = await append(logs, a_request(key, 0, "forged"), caller=Identity("another", Role.WORKER))
    assert [ack.refused for ack in response.acks] == [True]


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (a_request(1, 0, "a", fence=0), "fence"),
        (a_request(1, -1, "a"), "offset"),
        (a_request(1, 2**60, "a"), "offset"),
        (a_request(1, 0, "a" * (1 << 20)), "records"),
    ],
)
async def test_what_is_wrong_with_an_append_is_named(request_: AppendLogsRequest, path: str) -> None:
    class Sink:
        async def append(self, append: Append) -> Stored:
            raise AssertionError("it came through")

    with pytest.raises(BaseExceptionGroup) as caught:
        await append(AppendLogs(Sink()), request_)
    error = caught.value.exceptions[0]
    assert isinstance(error, InvalidArgument) and error.violations[0].path == path


async def test_a_call_does_not_read_ahead_of_what_is_on_its_way() -> None:
    taken: list[int] = []
    in_the_end: list[int] = []
    stored = asyncio.Event()

    class Sink:
        async def append(self, append: Append) -> Stored:
            await stored.wait()
            return Stored(append.end)

    async def stream() -> AsyncIterator[AppendLogsRequest]:
        for offset in range(50):
            taken.append(offset)
            if offset == 4:
                asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, check)
            yield a_request(1, offset, "a")

    def check() -> None:
        in_the_end.append(len(taken))
        stored.set()

    response = await AppendLogs(Sink()).append_logs(stream(), WORKER)
    assert in_the_end == [5]
    assert response.acks[0].offset == 50
