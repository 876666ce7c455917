"""A worker's sessions, over real gRPC: they come and go, and what it holds stays right."""

import asyncio
from pathlib import Path

import grpc
import pytest

from farhand.api.types.v1 import outcome_pb2
from farhand.api.worker.v1 import session_pb2 as pb
from farhand.kernel.errors import NotFound, PermissionDenied, Unavailable
from farhand.runtime.service import StartupError
from tests.fixtures.fake_scheduler import NOOP, FakeScheduler, a_job, either, keys
from tests.rpc.worker.gates import a_gate, a_job_at_the_gate

SUCCESS = outcome_pb2.OUTCOME_STATE_SUCCESS


async def test_hello_says_who_dials(fake_scheduler: FakeScheduler) -> None:
    await fake_scheduler.run_worker(worker_group="gpu", worker_id="w-1", slots=3)
    hello = (await fake_scheduler.session()).hello
    assert (hello.protocol_version, hello.worker_id, hello.worker_group, hello.slots) == (1, "w-1", "gpu", 3)
    assert len(hello.incarnation) == 16
    assert {NOOP, "io.kestra.plugin.scripts.shell.Commands"} <= set(hello.task_types)
    assert hello.boot_id and hello.version
    assert not hello.HasField("lease")


async def test_a_broken_stream_is_resumed_and_the_job_goes_on(fake_scheduler: FakeScheduler, tmp_path: Path) -> None:
    first = await a_job_at_the_gate(fake_scheduler, tmp_path)
    first.close()
    second = await fake_scheduler.session()
    assert second.hello.incarnation == first.hello.incarnation
    assert second.held == {("job-1", 1): pb.HELD_PHASE_RUNNING}
    assert second.hello.lease.seconds == 30
    (tmp_path / "open").touch()
    assert (await second.result("job-1")).outcome.state == SUCCESS
    assert (tmp_path / "runs").read_text() == "run\n"


async def test_a_scheduler_that_restarts_finds_the_worker_again(fake_scheduler: FakeScheduler, tmp_path: Path) -> None:
    await a_job_at_the_gate(fake_scheduler, tmp_path)
    await fake_scheduler.restart()
    second = await fake_scheduler.session()
    (tmp_path / "open").touch()
    assert (await second.result("job-1")).outcome.state == SUCCESS


async def test_kept_jobs_take_slots_and_the_credit_starts_anew(fake_scheduler: FakeScheduler, tmp_path: Path) -> None:
    await fake_scheduler.run_worker(slots=2)
    first = await fake_scheduler.session()
    await first.until(lambda: first.credit == 2)
    first.assign(a_job("job-1", a_gate(tmp_path)))
    await first.has_started("job-1")
    first.close()
    second = await fake_scheduler.session()
    await second.until(lambda: second.of("credit"))
    assert second.of("credit")[0].assignment_limit == 1


async def test_a_verdict_stop_ends_the_run_and_nothing_comes_of_it(
    fake_scheduler: FakeScheduler, tmp_path: Path
) -> None:
    first = await a_job_at_the_gate(fake_scheduler, tmp_path, slots=1)
    fake_scheduler.welcomes = False
    first.close()
    second = await fake_scheduler.session()
    second.welcome({("job-1", 1): pb.VERDICT_ACTION_STOP})
    await second.until(lambda: second.credit == 1)
    second.close()
    third = await fake_scheduler.session()
    assert third.held == {}
    assert not second.results


async def test_no_credit_is_given_before_welcome(fake_scheduler: FakeScheduler) -> None:
    fake_scheduler.welcomes = False
    await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    session.welcome()
    await session.until(lambda: session.of("credit"))
    assert session.frames[0].WhichOneof("frame") == "credit"


async def test_assignments_of_an_older_epoch_are_dropped(fake_scheduler: FakeScheduler, tmp_path: Path) -> None:
    await fake_scheduler.run_worker()
    (await fake_scheduler.session()).close()
    session = await fake_scheduler.session()
    session.assign(a_job("job-1", f"touch {tmp_path}/ran"), epoch=session.epoch - 1)
    session.assign(a_job("job-2", "true", fence=2))
    await session.result("job-2", 2)
    assert session.of("assignment_ack")[0].fences == [2]
    session.send(inventory_request=pb.InventoryRequest())
    assert keys((await session.expect("inventory")).held) == []
    assert not (tmp_path / "ran").exists()


async def test_the_inventory_is_told_when_asked_for(fake_scheduler: FakeScheduler, tmp_path: Path) -> None:
    session = await a_job_at_the_gate(fake_scheduler, tmp_path)
    session.send(inventory_request=pb.InventoryRequest())
    held = (await session.expect("inventory")).held
    assert [(job.job_id, job.fence, job.phase) for job in held] == [("job-1", 1, pb.HELD_PHASE_RUNNING)]


async def test_an_unacknowledged_result_is_sent_again_on_the_next_stream(fake_scheduler: FakeScheduler) -> None:
    fake_scheduler.acknowledges = False
    await fake_scheduler.run_worker()
    first = await fake_scheduler.session()
    first.assign(a_job("job-1", "exit 3"))
    await first.result("job-1")
    first.close()
    second = await fake_scheduler.session()
    assert second.held == {("job-1", 1): pb.HELD_PHASE_FINISHED}
    assert (await second.result("job-1")).outcome.exit_code == 3
    second.acknowledge(("job-1", 1), status=pb.RESULT_STATUS_DUPLICATE)
    second.send(inventory_request=pb.InventoryRequest())
    assert (await second.expect("inventory")).held == []


async def test_a_result_that_could_not_be_recorded_is_kept_and_sent_again(fake_scheduler: FakeScheduler) -> None:
    fake_scheduler.acknowledges = False
    fake_scheduler.heartbeat_interval = 0.2
    await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    session.assign(a_job("job-1", type=NOOP, properties={}))
    await session.result("job-1")
    session.acknowledge(("job-1", 1), status=pb.RESULT_STATUS_UNSPECIFIED)
    await session.until(lambda: len(session.of("result")) == 2)


async def test_heartbeats_are_numbered_and_echo_what_was_answered(fake_scheduler: FakeScheduler) -> None:
    fake_scheduler.heartbeat_interval = 0.1
    await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    await session.until(lambda: len(session.of("heartbeat")) == 3)
    beats = session.of("heartbeat")[:3]
    assert [beat.sequence for beat in beats] == [1, 2, 3]
    assert [beat.answered_sequence for beat in beats] == [0, 1, 2]
    assert all(beat.lease.seconds == 30 for beat in beats)


async def test_after_two_unanswered_heartbeats_the_next_address_is_dialed(
    fake_scheduler: FakeScheduler, another: FakeScheduler, tmp_path: Path
) -> None:
    for each in (fake_scheduler, another):
        each.heartbeat_interval = 0.1
        each.answers_heartbeats = False
    await fake_scheduler.run_worker(scheduler=(fake_scheduler.address, another.address))
    first, other = await either(fake_scheduler, another)
    first.assign(a_job("job-1", a_gate(tmp_path)))
    await first.has_started("job-1")
    second = await other.session()
    assert second.held == {("job-1", 1): pb.HELD_PHASE_RUNNING}
    assert len(first.of("heartbeat")) == 2


async def test_a_scheduler_that_is_dialed_again_is_reached_over_another_connection(
    fake_scheduler: FakeScheduler,
) -> None:
    fake_scheduler.heartbeat_interval, fake_scheduler.answers_heartbeats = 0.1, False
    await fake_scheduler.run_worker()
    first, second = await fake_scheduler.session(), await fake_scheduler.session()
    assert first.peer != second.peer  # whatever swallowed the answers on the old one


async def test_when_the_lease_runs_out_the_jobs_are_killed_and_told_as_fenced(
    fake_scheduler: FakeScheduler, tmp_path: Path
) -> None:
    fake_scheduler.lease, fake_scheduler.heartbeat_interval = 2.0, 10.0
    await fake_scheduler.run_worker()
    first = await fake_scheduler.session()
    first.assign(a_job("job-1", f"trap '' TERM; while :; do date > {tmp_path}/alive; sleep 0.05; done"))
    await first.has_started("job-1")
    second = await fake_scheduler.session()
    (tmp_path / "alive").unlink(missing_ok=True)
    assert second.held == {("job-1", 1): pb.HELD_PHASE_SELF_FENCED}
    assert not first.results
    second.assign(a_job("job-2", "true", fence=2))
    await second.result("job-2", 2)
    assert not second.results.keys() - {("job-2", 2)}
    assert not (tmp_path / "alive").exists(), "the job lives on"


async def test_a_result_from_before_the_end_of_the_lease_stays_valid(fake_scheduler: FakeScheduler) -> None:
    fake_scheduler.lease, fake_scheduler.heartbeat_interval = 1.5, 10.0
    fake_scheduler.acknowledges = False
    worker = await fake_scheduler.run_worker()
    first = await fake_scheduler.session()
    first.assign(a_job("job-1", "true"), a_job("job-2", "sleep 60", fence=2))
    await first.result("job-1")
    second = await fake_scheduler.session()
    assert second.held == {("job-1", 1): pb.HELD_PHASE_FINISHED, ("job-2", 2): pb.HELD_PHASE_SELF_FENCED}
    assert (await second.result("job-1")).outcome.state == SUCCESS
    assert ("job-2", 2) not in second.results
    await worker.crash()


async def test_a_scheduler_that_says_the_lease_is_over_is_believed(
    fake_scheduler: FakeScheduler, tmp_path: Path
) -> None:
    first = await a_job_at_the_gate(fake_scheduler, tmp_path)
    first.go_away(pb.GO_AWAY_REASON_LEASE_EXPIRED)
    second = await fake_scheduler.session()
    assert second.held == {("job-1", 1): pb.HELD_PHASE_SELF_FENCED}


async def test_a_refusal_at_the_first_dial_ends_the_worker_with_the_schedulers_words(
    fake_scheduler: FakeScheduler,
) -> None:
    fake_scheduler.refusal = NotFound("There is no worker group 'gpuu'. Did you mean 'gpu'?")
    worker = await fake_scheduler.run_worker(worker_group="gpuu")
    with pytest.raises(ExceptionGroup) as caught:
        await worker.ended()
    assert caught.group_contains(StartupError, match="Did you mean 'gpu'")


async def test_a_worker_that_was_accepted_once_keeps_trying(fake_scheduler: FakeScheduler, tmp_path: Path) -> None:
    first = await a_job_at_the_gate(fake_scheduler, tmp_path)
    fake_scheduler.refusal = PermissionDenied("The group was taken away.")
    first.close()
    await first.over()
    await asyncio.sleep(0.6)  # time for a first retry, which is refused
    fake_scheduler.refusal = None
    second = await fake_scheduler.session()
    assert second.held == {("job-1", 1): pb.HELD_PHASE_RUNNING}


async def test_a_scheduler_that_is_away_at_first_is_waited_for(fake_scheduler: FakeScheduler) -> None:
    fake_scheduler.refusal = Unavailable("Not yet.")
    await fake_scheduler.run_worker()
    await asyncio.sleep(0.2)
    fake_scheduler.refusal = None
    await fake_scheduler.session()


async def test_a_go_away_is_obeyed_with_its_delay(fake_scheduler: FakeScheduler) -> None:
    await fake_scheduler.run_worker()
    first = await fake_scheduler.session()
    loop = asyncio.get_running_loop()
    sent = loop.time()
    first.go_away(retry_delay=pb.GoAway().retry_delay.__class__(seconds=1))
    await fake_scheduler.session()
    assert loop.time() - sent >= 1.0


async def test_a_scheduler_that_breaks_the_protocol_costs_a_session_and_no_job(
    fake_scheduler: FakeScheduler, tmp_path: Path
) -> None:
    first = await a_job_at_the_gate(fake_scheduler, tmp_path)
    first.welcome()
    second = await fake_scheduler.session()
    assert second.held == {("job-1", 1): pb.HELD_PHASE_RUNNING}


async def test_no_frame_is_larger_than_a_mebibyte(fake_scheduler: FakeScheduler) -> None:
    fake_scheduler.acknowledges = False
    await fake_scheduler.run_worker(slots=12)
    first = await fake_scheduler.session()
    large = """printf '::{"outputs":{"a":"%060000d"}}::\\n::{"outputs":{"b":"%060000d"}}::\\n' 0 0"""
    first.assign(*(a_job(f"job-{n}", large, fence=n + 1) for n in range(12)))
    await first.until(lambda: len(first.results) == 12)
    first.close()
    second = await fake_scheduler.session()
    await second.until(lambda: len(second.results) == 12)
    assert len(second.of("result")) > 1
    assert max(frame.ByteSize() for frame in second.frames) <= 1 << 20


async def test_two_workers_never_share_a_data_folder(fake_scheduler: FakeScheduler, tmp_path: Path) -> None:
    await fake_scheduler.run_worker(data=tmp_path / "shared")
    await fake_scheduler.session()
    second = await fake_scheduler.run_worker(data=tmp_path / "shared")
    with pytest.raises(StartupError, match=r"in use by another worker \(pid"):
        await second.ended()


def test_the_codes_that_end_a_first_dial_are_those_that_waiting_cant_mend() -> None:
    from farhand.worker.link import FINAL

    assert grpc.StatusCode.UNAVAILABLE not in FINAL
    assert grpc.StatusCode.RESOURCE_EXHAUSTED not in FINAL
