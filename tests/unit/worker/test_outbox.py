"""What goes out first, and in how few frames."""

import asyncio

import pytest

from farhand.api.worker.v1 import session_pb2 as pb
from farhand.worker.frames import FRAME_LIMIT
from farhand.worker.outbox import CONTROL_LIMIT, Outbox, OutboxFull

BEAT = pb.ConnectRequest(heartbeat=pb.Heartbeat(sequence=1))


def an_outbox() -> Outbox:
    return Outbox(lambda: BEAT)


async def kinds(outbox: Outbox) -> list[str]:
    found: list[str] = []
    while True:
        try:
            async with asyncio.timeout(0):
                frame = await outbox.next()
        except TimeoutError:
            return found
        found.append(frame.WhichOneof("frame") or "")


async def test_heartbeats_overtake_everything_and_goodbye_is_the_last() -> None:
    outbox = an_outbox()
    outbox.goodbye(pb.ConnectRequest(goodbye=pb.Goodbye()))
    outbox.credit(3)
    outbox.results([pb.Result(job_id="job-1", fence=1)])
    outbox.started(("job-2", 2))
    outbox.arrived([1, 2])
    outbox.control(pb.ConnectRequest(draining=pb.Draining()))
    outbox.heartbeat()
    assert await kinds(outbox) == [
        "heartbeat",
        "draining",
        "assignment_ack",
        "started",
        "result",
        "credit",
        "goodbye",
    ]


async def test_a_start_whose_result_goes_out_first_is_not_told() -> None:
    outbox = an_outbox()
    outbox.started(("job-1", 1))
    outbox.results([pb.Result(job_id="job-1", fence=1)])
    assert await kinds(outbox) == ["result"]


async def test_results_ride_together_in_frames_below_the_limit() -> None:
    outbox = an_outbox()
    outbox.results([pb.Result(job_id="x" * 100_000, fence=n) for n in range(25)])
    sizes = []
    for _ in range(3):
        frame = await outbox.next()
        sizes.append(frame.ByteSize())
    assert await kinds(outbox) == []
    assert max(sizes) < FRAME_LIMIT


async def test_only_the_last_credit_is_told() -> None:
    outbox = an_outbox()
    for limit in (1, 2, 3):
        outbox.credit(limit)
    assert (await outbox.next()).credit.assignment_limit == 3
    outbox.credit(3)
    assert await kinds(outbox) == []


async def test_a_heartbeat_is_made_when_it_is_sent() -> None:
    made: list[int] = []

    def make() -> pb.ConnectRequest:
        made.append(1)
        return BEAT

    outbox = Outbox(make)
    outbox.heartbeat()
    assert made == []
    await outbox.next()
    assert made == [1]


async def test_a_scheduler_that_does_not_read_ends_the_session() -> None:
    outbox = an_outbox()
    for _ in range(CONTROL_LIMIT):
        outbox.control(pb.ConnectRequest(inventory=pb.Inventory()))
    with pytest.raises(OutboxFull):
        outbox.control(pb.ConnectRequest(inventory=pb.Inventory()))
