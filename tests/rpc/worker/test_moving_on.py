"""Make before break: a worker that is sent away opens its next stream while the old one still serves it."""

from pathlib import Path

import pytest

from farhand.api.types.v1 import outcome_pb2
from farhand.api.worker.v1 import session_pb2 as pb
from farhand.kernel.errors import ShuttingDown
from tests.fixtures.fake_scheduler import FakeScheduler, a_job, either, keys
from tests.rpc.worker.gates import a_gate

SUCCESS = outcome_pb2.OUTCOME_STATE_SUCCESS


@pytest.mark.parametrize("reason", [pb.GO_AWAY_REASON_SHUTDOWN, pb.GO_AWAY_REASON_REBALANCE])
async def test_the_old_stream_lives_until_the_new_one_is_welcomed(
    fake_scheduler: FakeScheduler, another: FakeScheduler, tmp_path: Path, reason: pb.GoAwayReason.ValueType
) -> None:
    await fake_scheduler.run_worker(scheduler=(fake_scheduler.address, another.address))
    first, other = await either(fake_scheduler, another)
    first.assign(a_job("job-1", a_gate(tmp_path)))
    await first.has_started("job-1")
    other.welcomes = False
    first.go_away(reason, stay=True)
    second = await other.session()
    assert second.held == {("job-1", 1): pb.HELD_PHASE_RUNNING}
    (tmp_path / "open").touch()
    assert (await first.result("job-1")).outcome.state == SUCCESS  # the old one still carries it
    assert not first.ended.is_set()
    second.welcome()
    await first.over()
    second.assign(a_job("job-2", "true", fence=2))
    assert (await second.result("job-2", 2)).outcome.state == SUCCESS
    assert (tmp_path / "runs").read_text() == "run\n"


async def test_heartbeats_go_on_while_the_next_stream_is_opened(
    fake_scheduler: FakeScheduler, another: FakeScheduler
) -> None:
    fake_scheduler.heartbeat_interval = another.heartbeat_interval = 0.1
    await fake_scheduler.run_worker(scheduler=(fake_scheduler.address, another.address))
    first, other = await either(fake_scheduler, another)
    other.welcomes = False
    first.go_away(stay=True)
    second = await other.session()
    so_far = len(first.of("heartbeat"))
    await first.until(lambda: len(first.of("heartbeat")) >= so_far + 3)
    assert first.of("heartbeat")[-1].answered_sequence >= so_far
    second.welcome()
    await first.over()


async def test_no_credit_is_given_on_a_stream_that_is_being_left(
    fake_scheduler: FakeScheduler, another: FakeScheduler
) -> None:
    await fake_scheduler.run_worker(scheduler=(fake_scheduler.address, another.address))
    first, other = await either(fake_scheduler, another)
    await first.until(lambda: first.credit == 2)
    other.welcomes = False
    first.assign(a_job("job-1", "true"))
    first.go_away(stay=True)
    second = await other.session()
    await first.result("job-1")
    first.send(inventory_request=pb.InventoryRequest())
    await first.expect("inventory")
    assert all(credit.assignment_limit <= 3 for credit in first.of("credit")) and first.of("credit")[-1]
    assert not second.of("credit")
    second.welcome()
    await second.until(lambda: second.credit == 2)


async def test_an_assignment_behind_go_away_breaks_the_protocol_and_never_starts(
    fake_scheduler: FakeScheduler, another: FakeScheduler, tmp_path: Path
) -> None:
    await fake_scheduler.run_worker(scheduler=(fake_scheduler.address, another.address))
    first, other = await either(fake_scheduler, another)
    other.welcomes = False
    first.go_away(stay=True)
    second = await other.session()
    first.assign(a_job("job-1", f"touch {tmp_path}/ran"))
    await first.over()
    second.welcome()
    second.assign(a_job("job-2", "true", fence=2))
    await second.result("job-2", 2)
    second.send(inventory_request=pb.InventoryRequest())
    assert ("job-1", 1) not in keys((await second.expect("inventory")).held)
    assert not (tmp_path / "ran").exists()


async def test_a_job_that_ended_between_the_streams_is_told_on_both_and_forgotten_once(
    fake_scheduler: FakeScheduler, another: FakeScheduler, tmp_path: Path
) -> None:
    fake_scheduler.acknowledges = another.acknowledges = False
    await fake_scheduler.run_worker(scheduler=(fake_scheduler.address, another.address))
    first, other = await either(fake_scheduler, another)
    first.assign(a_job("job-1", a_gate(tmp_path)))
    await first.has_started("job-1")
    other.welcomes = False
    first.go_away(stay=True)
    second = await other.session()
    (tmp_path / "open").touch()
    await first.result("job-1")
    second.welcome()
    await second.result("job-1")
    second.acknowledge(("job-1", 1), status=pb.RESULT_STATUS_DUPLICATE)
    second.send(inventory_request=pb.InventoryRequest())
    assert (await second.expect("inventory")).held == []


async def test_a_longer_lease_on_the_old_stream_does_not_count_once_the_next_hello_is_made(
    fake_scheduler: FakeScheduler, another: FakeScheduler
) -> None:
    fake_scheduler.heartbeat_interval = another.heartbeat_interval = 0.1
    await fake_scheduler.run_worker(scheduler=(fake_scheduler.address, another.address))
    first, other = await either(fake_scheduler, another)
    other.welcomes = False
    first.go_away(stay=True)
    second = await other.session()
    assert second.hello.lease.seconds == 30
    first.scheduler.lease = 3600.0
    so_far = len(first.of("heartbeat"))
    await first.until(lambda: len(first.of("heartbeat")) >= so_far + 3)
    assert {beat.lease.seconds for beat in first.of("heartbeat")} == {30}
    second.welcome()
    await first.over()


async def test_a_worker_that_nobody_else_takes_lets_the_stopping_scheduler_go(
    fake_scheduler: FakeScheduler, tmp_path: Path
) -> None:
    await fake_scheduler.run_worker()
    first = await fake_scheduler.session()
    first.assign(a_job("job-1", a_gate(tmp_path)))
    await first.has_started("job-1")
    fake_scheduler.refusal = ShuttingDown("This scheduler is stopping.")
    first.go_away(stay=True)
    await first.over()
    fake_scheduler.refusal = None
    second = await fake_scheduler.session()
    assert second.held == {("job-1", 1): pb.HELD_PHASE_RUNNING}


async def test_a_worker_that_stops_while_it_moves_says_goodbye_on_the_stream_that_stands(
    fake_scheduler: FakeScheduler, another: FakeScheduler
) -> None:
    worker = await fake_scheduler.run_worker(scheduler=(fake_scheduler.address, another.address))
    first, other = await either(fake_scheduler, another)
    other.welcomes = False
    first.go_away(stay=True)
    second = await other.session()
    worker.terminate()
    await first.expect("draining")
    second.welcome()
    await second.expect("goodbye")
    await worker.ended()
    assert not first.of("goodbye")


async def test_what_runs_is_told_as_started_on_the_next_stream_too(
    fake_scheduler: FakeScheduler, tmp_path: Path
) -> None:
    await fake_scheduler.run_worker()
    first = await fake_scheduler.session()
    first.assign(a_job("job-1", a_gate(tmp_path)))
    await first.has_started("job-1")
    first.close()
    await (await fake_scheduler.session()).has_started("job-1")
