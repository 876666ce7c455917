"""Logs go their own way to the scheduler: whole, in order, and whatever happens to a call."""

import time
from pathlib import Path

from google.protobuf.json_format import MessageToDict

from farhand.api.types.v1 import log_record_pb2, outcome_pb2
from farhand.kernel.errors import InvalidArgument, LogGap, Unavailable
from tests.fixtures.fake_scheduler import FakeScheduler, a_job
from tests.rpc.worker.gates import a_gate, exists

SYSTEM = log_record_pb2.LOG_STREAM_SYSTEM
STDOUT = log_record_pb2.LOG_STREAM_STDOUT


async def test_lines_come_while_the_job_runs(fake_scheduler: FakeScheduler, tmp_path: Path) -> None:
    await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    session.assign(a_job("job-1", "echo first", a_gate(tmp_path), "echo second"))
    assert await fake_scheduler.log_reaches("job-1", 1) == ["first"]
    assert not session.results
    (tmp_path / "open").touch()
    assert await fake_scheduler.log_reaches("job-1", 2) == ["first", "second"]


async def test_a_record_says_when_it_was_read(fake_scheduler: FakeScheduler) -> None:
    before = time.time()
    await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    session.assign(a_job("job-1", "echo x"))
    await fake_scheduler.log_reaches("job-1", 1)
    assert before <= fake_scheduler.logs["job-1", 1][0].time.ToNanoseconds() / 1e9 <= time.time()


async def test_the_result_does_not_wait_for_the_log(fake_scheduler: FakeScheduler) -> None:
    fake_scheduler.log_errors = [Unavailable("Not now.")] * 2
    await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    session.assign(a_job("job-1", "echo a; echo b"))
    assert (await session.result("job-1")).log_end_offset == 2
    assert await fake_scheduler.log_reaches("job-1", 2) == ["a", "b"]


async def test_the_file_goes_once_all_of_it_is_stored(fake_scheduler: FakeScheduler) -> None:
    worker = await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    session.assign(a_job("job-1", "echo a"))
    await session.result("job-1")
    await fake_scheduler.log_reaches("job-1", 1)
    worker.terminate()
    await worker.ended()
    assert list((worker.data / "logs").iterdir()) == []


async def test_output_over_the_limit_is_cut_and_marked_and_the_job_ends_well(fake_scheduler: FakeScheduler) -> None:
    await fake_scheduler.run_worker(max_log_bytes=100_000)
    session = await fake_scheduler.session()
    session.assign(a_job("job-1", "yes 0123456789 | head -n 9000000", """echo '::{"outputs":{"n":1}}::'"""))
    result = await session.result("job-1")
    assert result.outcome.state == outcome_pb2.OUTCOME_STATE_SUCCESS
    assert MessageToDict(result.outcome.outputs)["vars"] == {"n": 1}
    lines = await fake_scheduler.log_reaches("job-1", result.log_end_offset)
    assert "100000 bytes" in lines[-1]
    assert fake_scheduler.lines("job-1", stream=SYSTEM) == lines[-1:]
    size = sum(record.ByteSize() for record in fake_scheduler.logs["job-1", 1])
    assert 90_000 < size < 110_000


async def test_what_is_no_utf_8_and_lines_without_end_are_kept_as_far_as_they_can(
    fake_scheduler: FakeScheduler,
) -> None:
    await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    session.assign(
        a_job("job-1", r"printf 'a\377b\n'; printf 'nul\000\n'; yes x | tr -d '\n' | head -c 200000; printf '\nend'")
    )
    result = await session.result("job-1")
    lines = await fake_scheduler.log_reaches("job-1", result.log_end_offset)
    assert (lines[0], lines[1], lines[3]) == ("a\ufffdb", "nul\ufffd", "end")
    assert lines[2].startswith("x" * 65536) and "cut" in lines[2] and len(lines[2]) < 65536 + 100


async def test_a_gap_makes_the_worker_send_it_all_again(fake_scheduler: FakeScheduler, tmp_path: Path) -> None:
    await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    session.assign(a_job("job-1", "echo a", a_gate(tmp_path), "echo b"))
    await fake_scheduler.log_reaches("job-1", 1)
    fake_scheduler.logs.clear()  # a scheduler that lost what it had acknowledged
    fake_scheduler.log_errors = [LogGap("There is a gap.")]
    (tmp_path / "open").touch()
    assert await fake_scheduler.log_reaches("job-1", 2) == ["a", "b"]


async def test_a_log_that_nobody_wants_is_forgotten(fake_scheduler: FakeScheduler) -> None:
    fake_scheduler.unwanted_logs.add(("job-1", 1))
    worker = await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    session.assign(a_job("job-1", "echo a; sleep 0.3; echo b"))
    await session.result("job-1")
    worker.terminate()
    await worker.ended()
    assert fake_scheduler.lines("job-1") == ["a"]
    assert list((worker.data / "logs").iterdir()) == []


async def test_a_log_that_is_refused_for_good_does_not_hold_up_the_others(fake_scheduler: FakeScheduler) -> None:
    fake_scheduler.refused_logs["job-1", 1] = InvalidArgument("The log of this job has a flaw.")
    worker = await fake_scheduler.run_worker(slots=2)
    session = await fake_scheduler.session()
    session.assign(a_job("job-1", "echo a"), a_job("job-2", "echo b", fence=2))
    await session.result("job-1")
    await session.result("job-2", 2)
    worker.terminate()
    await worker.ended()
    assert fake_scheduler.lines("job-2", 2) == ["b"]
    assert list((worker.data / "logs").iterdir()) == []


async def test_logs_written_while_nobody_is_connected_come_later(fake_scheduler: FakeScheduler, tmp_path: Path) -> None:
    await fake_scheduler.run_worker()
    first = await fake_scheduler.session()
    first.assign(a_job("job-1", a_gate(tmp_path), f"echo away; touch {tmp_path}/wrote", "sleep 0.2"))
    await first.has_started("job-1")
    await fake_scheduler.stop()
    (tmp_path / "open").touch()
    await exists(tmp_path / "wrote")
    await fake_scheduler.start(int(fake_scheduler.address.rpartition(":")[2]))
    assert await fake_scheduler.log_reaches("job-1", 1) == ["away"]
