"""Which logs ride in which call, and what becomes of them when a call fails."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pytest

from farhand.api.types.v1 import log_record_pb2
from farhand.api.worker.v1 import worker_service_pb2 as pb
from farhand.worker.log_sender import CALL_LIMIT, LogSender

OUT = log_record_pb2.LOG_STREAM_STDOUT
BAD, GOOD = ("job-bad", 2), ("job-good", 1)


class FakeStub:
    """Stores logs; a call that has one of `flawed` is refused for good."""

    def __init__(self) -> None:
        self.calls: list[list[tuple[str, int]]] = []
        self.stored: dict[tuple[str, int], int] = {}
        self.flawed: set[tuple[str, int]] = set()
        self.stores = True

    async def AppendLogs(self, requests: AsyncIterator[pb.AppendLogsRequest], timeout: float) -> pb.AppendLogsResponse:
        came = [request async for request in requests]
        self.calls.append([(request.job_id, request.fence) for request in came])
        if self.flawed & set(self.calls[-1]):
            raise grpc.aio.AioRpcError(
                grpc.StatusCode.INVALID_ARGUMENT, grpc.aio.Metadata(), grpc.aio.Metadata(), details="A flaw."
            )
        answer = pb.AppendLogsResponse()
        for request in came:
            key = (request.job_id, request.fence)
            if self.stores:
                self.stored[key] = request.offset + len(request.records)
            answer.acks.add(job_id=key[0], fence=key[1], offset=self.stored.get(key, 0))
        return answer


def a_sender(folder: Path) -> LogSender:
    async def never() -> NoReturn:
        raise AssertionError("once() is given its stub")

    return LogSender(folder, 100 << 20, never)


async def send_all(sender: LogSender, stub: Any, most: int = 10) -> None:
    for _ in range(most):
        await sender.once(stub)
        if not sender.unsent:
            return
    raise AssertionError(f"still {sender.unsent} logs to send after {most} calls")


async def test_all_that_is_at_hand_rides_in_one_call(tmp_path: Path) -> None:
    sender, stub = a_sender(tmp_path), FakeStub()
    for number in range(20):
        log = sender.open((f"job-{number}", number))
        log.output(OUT, [b"a", b"b"])
        log.close()
    await send_all(sender, stub)
    assert len(stub.calls) == 1
    assert set(stub.stored.values()) == {2}
    assert list(tmp_path.iterdir()) == []


async def test_the_one_that_is_refused_is_found_and_dropped_and_the_others_arrive(tmp_path: Path) -> None:
    sender, stub = a_sender(tmp_path), FakeStub()
    stub.flawed.add(BAD)
    for key in (GOOD, BAD):
        log = sender.open(key)
        log.output(OUT, [b"a"])
        log.close()
    await send_all(sender, stub)
    assert stub.stored == {GOOD: 1}
    assert list(tmp_path.iterdir()) == []


async def test_a_large_log_goes_in_several_calls_and_lets_small_ones_pass(tmp_path: Path) -> None:
    sender, stub = a_sender(tmp_path), FakeStub()
    large, small = sender.open(("large", 1)), sender.open(("small", 2))
    large.output(OUT, [b"x" * 1_000] * 10_000)
    small.output(OUT, [b"a"])
    await sender.once(stub)  # type: ignore[arg-type]
    assert stub.stored[("small", 2)] == 1
    assert 0 < stub.stored[("large", 1)] < 10_000
    await send_all(sender, stub, most=10_000_000 // (CALL_LIMIT // 16))
    assert stub.stored[("large", 1)] == 10_000


async def test_a_scheduler_that_answers_and_stores_nothing_is_an_error_to_wait_after(tmp_path: Path) -> None:
    sender, stub = a_sender(tmp_path), FakeStub()
    stub.stores = False
    sender.open(GOOD).output(OUT, [b"a"])
    with pytest.raises(OSError, match="stored nothing"):
        await sender.once(stub)  # type: ignore[arg-type]


async def test_logs_of_an_earlier_process_are_found_and_sent(tmp_path: Path) -> None:
    log = a_sender(tmp_path).open(GOOD)
    log.output(OUT, [b"a", b"b"])
    (tmp_path / "not-a-log").touch()
    sender, stub = a_sender(tmp_path), FakeStub()
    await send_all(sender, stub)
    assert stub.stored == {GOOD: 2}


async def test_an_empty_file_of_an_earlier_process_is_removed(tmp_path: Path) -> None:
    (tmp_path / "job-1-1.log").touch()
    assert a_sender(tmp_path).unsent == 0
    assert list(tmp_path.iterdir()) == []
