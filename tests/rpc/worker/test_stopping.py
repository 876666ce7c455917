"""A worker stops in order, or not at all in order, and nothing is lost by either."""

import asyncio
import signal
from pathlib import Path

from farhand.api.types.v1 import outcome_pb2
from farhand.api.worker.v1 import session_pb2 as pb
from tests.fixtures.fake_scheduler import FakeScheduler, a_job
from tests.rpc.worker.gates import a_gate, exists, gone

SUCCESS = outcome_pb2.OUTCOME_STATE_SUCCESS


async def test_an_idle_worker_drains_says_goodbye_and_ends(fake_scheduler: FakeScheduler) -> None:
    worker = await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    worker.terminate()
    await worker.ended()
    kinds = [frame.WhichOneof("frame") for frame in session.frames]
    assert kinds[-1] == "goodbye" and "draining" in kinds
    assert not session.of("goodbye")[0].abandoned


async def test_a_stop_waits_for_what_runs_and_for_its_result_to_be_recorded(
    fake_scheduler: FakeScheduler, tmp_path: Path
) -> None:
    worker = await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    session.assign(a_job("job-1", a_gate(tmp_path), "echo done"))
    await session.has_started("job-1")
    worker.terminate()
    await session.expect("draining")
    (tmp_path / "open").touch()
    await worker.ended()
    assert session.results["job-1", 1].outcome.state == SUCCESS
    assert fake_scheduler.lines("job-1") == ["done"]
    assert not session.of("goodbye")[0].abandoned
    assert (worker.data / "results.journal").exists()
    assert list((worker.data / "logs").iterdir()) == []


async def test_what_was_under_way_when_the_drain_began_is_run_before_goodbye(fake_scheduler: FakeScheduler) -> None:
    fake_scheduler.acknowledges_drains = False
    worker = await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    await session.until(lambda: session.credit)
    worker.terminate()
    await session.expect("draining")
    session.assign(a_job("job-1", "true"))
    assert (await session.result("job-1")).outcome.state == SUCCESS
    assert not session.of("goodbye")
    session.send(drain_ack=pb.DrainAck(epoch=session.epoch))
    await worker.ended()
    assert session.of("goodbye")


async def test_credit_does_not_rise_while_draining(fake_scheduler: FakeScheduler, tmp_path: Path) -> None:
    await fake_scheduler.run_worker(slots=1)
    session = await fake_scheduler.session()
    await session.until(lambda: session.credit == 1)
    session.assign(a_job("job-1", a_gate(tmp_path)))
    await session.has_started("job-1")
    session.send(drain=pb.Drain())
    await session.expect("draining")
    (tmp_path / "open").touch()
    await session.result("job-1")
    session.send(inventory_request=pb.InventoryRequest())
    await session.expect("inventory")
    assert session.credit == 1


async def test_a_drain_that_the_scheduler_asks_for_ends_nothing(fake_scheduler: FakeScheduler) -> None:
    await fake_scheduler.run_worker()
    first = await fake_scheduler.session()
    first.send(drain=pb.Drain())
    await first.expect("draining")
    first.close()
    second = await fake_scheduler.session()
    assert second.hello.draining
    await second.expect("draining")
    assert not second.of("goodbye")
    assert second.credit == 0


async def test_what_outlasts_the_drain_is_killed_and_told_as_abandoned(
    fake_scheduler: FakeScheduler, tmp_path: Path
) -> None:
    worker = await fake_scheduler.run_worker(drain_timeout=0.2)
    session = await fake_scheduler.session()
    session.assign(a_job("job-1", f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 60"))
    await exists(tmp_path / "pid")
    worker.terminate()
    await worker.ended()
    goodbye = session.of("goodbye")[0]
    assert [(job.job_id, job.fence) for job in goodbye.abandoned] == [("job-1", 1)]
    assert goodbye.abandoned[0].phase != pb.HELD_PHASE_RECEIVED
    assert not session.results
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


async def test_what_has_not_started_when_the_drain_is_over_goes_back(
    fake_scheduler: FakeScheduler, tmp_path: Path
) -> None:
    fake_scheduler.acknowledges = False
    worker = await fake_scheduler.run_worker(slots=1, drain_timeout=0.2)
    session = await fake_scheduler.session()
    # More than the credit, which a scheduler never does; it makes an assignment wait here.
    session.assign(a_job("job-1", a_gate(tmp_path)), a_job("job-2", "true", fence=2))
    await session.has_started("job-1")
    worker.terminate()
    await worker.ended()
    assert session.results["job-2", 2].returned
    assert not session.results["job-2", 2].HasField("outcome")
    phases = {job.job_id: job.phase for job in session.of("goodbye")[0].abandoned}
    assert phases["job-2"] == pb.HELD_PHASE_RECEIVED
    assert ("job-2", 2) not in session.started


async def test_a_worker_that_is_stopped_before_it_ever_connected_ends(fake_scheduler: FakeScheduler) -> None:
    worker = await fake_scheduler.run_worker(scheduler=("127.0.0.1:1",))
    await asyncio.sleep(0.1)
    worker.terminate()
    await worker.ended()


async def test_sigterm_ends_the_process_with_0(fake_scheduler: FakeScheduler, tmp_path: Path) -> None:
    worker = await fake_scheduler.spawn_worker(data=tmp_path / "w")
    session = await fake_scheduler.session()
    worker.process.terminate()
    assert await worker.ended() == 0
    await session.expect("goodbye")


async def test_a_second_sigterm_stops_at_once_and_takes_the_jobs_along(
    fake_scheduler: FakeScheduler, tmp_path: Path
) -> None:
    worker = await fake_scheduler.spawn_worker(data=tmp_path / "w")
    session = await fake_scheduler.session()
    session.assign(a_job("job-1", f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 60"))
    await exists(tmp_path / "pid")
    worker.process.terminate()
    await session.expect("draining")
    worker.process.terminate()
    assert await worker.ended() == 128 + signal.SIGTERM
    await gone(int((tmp_path / "pid").read_text()))


async def test_a_refused_worker_exits_1_with_one_line(fake_scheduler: FakeScheduler, tmp_path: Path) -> None:
    from farhand.kernel.errors import NotFound

    fake_scheduler.refusal = NotFound("There is no worker group 'gpuu'. Did you mean 'gpu'?")
    worker = await fake_scheduler.spawn_worker("--worker-group", "gpuu", data=tmp_path / "w")
    assert await worker.ended() == 1
    log = (tmp_path / "worker.log").read_text()
    assert "Did you mean 'gpu'?" in log
    assert "Traceback" not in log


async def test_after_kill_9_the_result_is_sent_by_the_next_process_and_the_jobs_are_dead(
    fake_scheduler: FakeScheduler, tmp_path: Path
) -> None:
    fake_scheduler.acknowledges = False
    first_worker = await fake_scheduler.spawn_worker(data=tmp_path / "w")
    first = await fake_scheduler.session()
    first.assign(
        a_job("job-1", "echo line; exit 3"),
        a_job(
            "job-2", f"setsid sh -c 'echo $$ > {tmp_path}/p; mv {tmp_path}/p {tmp_path}/pid; exec sleep 60'", fence=2
        ),
    )
    await first.result("job-1")
    await exists(tmp_path / "pid")
    first_worker.process.kill()
    await first_worker.ended()
    await gone(int((tmp_path / "pid").read_text()))

    await fake_scheduler.spawn_worker(data=tmp_path / "w")
    second = await fake_scheduler.session()
    assert second.hello.worker_id == first.hello.worker_id
    assert second.hello.incarnation != first.hello.incarnation
    assert list(second.hello.dead_incarnations) == [first.hello.incarnation]
    assert second.held == {("job-1", 1): pb.HELD_PHASE_FINISHED}
    assert (await second.result("job-1")).outcome.exit_code == 3
    assert await fake_scheduler.log_reaches("job-1", 1) == ["line"]
    assert list((tmp_path / "w" / "jobs").iterdir()) == []
    second.close()
    assert not (await fake_scheduler.session()).hello.dead_incarnations, "the dead are told once"


async def test_a_worker_that_was_acknowledged_holds_nothing_after_a_restart(
    fake_scheduler: FakeScheduler, tmp_path: Path
) -> None:
    worker = await fake_scheduler.spawn_worker(data=tmp_path / "w")
    first = await fake_scheduler.session()
    first.assign(a_job("job-1", "true"))
    await first.result("job-1")
    first.send(inventory_request=pb.InventoryRequest())
    await first.until(lambda: first.of("inventory"))
    worker.process.kill()
    await worker.ended()
    await fake_scheduler.spawn_worker(data=tmp_path / "w")
    assert (await fake_scheduler.session()).held == {}
