"""A worker, whole and over real gRPC, runs what a scheduler assigns."""

from farhand.api.types.v1 import log_record_pb2, outcome_pb2
from farhand.api.worker.v1 import session_pb2 as pb
from tests.fixtures.fake_scheduler import NOOP, FakeScheduler, a_job


async def test_commands_run_and_their_result_and_log_come_back(fake_scheduler: FakeScheduler) -> None:
    await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    session.assign(a_job("job-1", "echo hello", "echo oops >&2", "pwd", 'echo "$FARHAND_JOB_ID/$FARHAND_FENCE"'))
    result = await session.result("job-1")
    assert result.outcome.state == outcome_pb2.OUTCOME_STATE_SUCCESS
    assert result.outcome.exit_code == 0
    lines = await fake_scheduler.log_reaches("job-1", result.log_end_offset)
    assert result.log_end_offset == 4
    assert "hello" in lines and "job-1/1" in lines
    assert fake_scheduler.lines("job-1", stream=log_record_pb2.LOG_STREAM_STDERR) == ["oops"]


async def test_thousands_of_instant_tasks_ride_in_few_frames(fake_scheduler: FakeScheduler) -> None:
    await fake_scheduler.run_worker(slots=1000)
    session = await fake_scheduler.session()
    await session.until(lambda: session.credit == 1000)
    session.assign(*(a_job(f"job-{n}", type=NOOP, properties={}) for n in range(1000)))
    await session.until(lambda: len(session.results) == 1000)
    assert len(session.of("result")) < 10
    assert all(result.outcome.state == outcome_pb2.OUTCOME_STATE_SUCCESS for result in session.results.values())
    await session.until(lambda: session.credit == 2000)
    assert pb.HELD_PHASE_FINISHED not in session.held.values()
