"""Whoever dies, stops or sticks: nothing of a job outlives the lease, nor the worker (design.md, rule 7; P1)."""

import asyncio
import fcntl
import os
import signal
from pathlib import Path

import pytest

from farhand.runtime.service import StartupError
from farhand.worker.process_control import NothingMayRun, ProcessEnd
from farhand.worker.warden import tree
from farhand.worker.warden_client import RUN_MARK, WardenProcessControl
from tests.fixtures.warden import (
    DAEMON,
    FAMILY,
    PATIENCE,
    Watched,
    WorkerHost,
    a_family,
    a_script,
    announced,
    boottime,
    line,
    until,
)

SHORT = 2.0
"""Seconds of a lease that is to run out, but not before its runs have announced themselves."""

LOST = ProcessEnd(exit_code=-signal.SIGKILL, fenced=True)


def keeper_of(main: Watched) -> Watched:
    process = tree.look(main.pid)
    assert process is not None
    return Watched(process.parent)


# ── the worker ──


async def test_kill_9_of_the_worker_takes_every_process_of_its_jobs_with_it(worker_host: WorkerHost) -> None:
    output = await worker_host(10 * PATIENCE, FAMILY)
    host, warden, *family = await announced(output, "host", "warden", "main", "child", "daemon")
    host.send(signal.SIGKILL)
    for process in (*family, warden):
        await process.gone()


async def test_a_stopped_worker_loses_its_jobs_at_the_deadline_and_is_told_so(worker_host: WorkerHost) -> None:
    output = await worker_host(SHORT, FAMILY)
    host, warden, *family = await announced(output, "host", "warden", "main", "child", "daemon")
    host.send(signal.SIGSTOP)
    for process in family:
        await process.gone()
    assert host.state == "T", "the worker had no part in it"
    assert warden.alive
    host.send(signal.SIGCONT)
    assert await line(output) == "end -9 True"


async def test_a_deadline_moved_forward_keeps_the_jobs(control: WardenProcessControl) -> None:
    # A second warden with the deadline that was not moved is the clock of this test.
    clock, moved = await WardenProcessControl.launch(), await WardenProcessControl.launch()
    deadline = boottime() + SHORT
    for warden in (clock, moved):
        await warden.set_deadline(deadline)
    ticking, running = await clock.start(a_script(FAMILY)), await moved.start(a_script(FAMILY))
    family = await announced(running.stdout, "main", "child", "daemon")
    await moved.set_deadline(deadline + 10 * PATIENCE)
    await moved.set_deadline(deadline)  # never back
    assert await ticking.wait() == LOST
    assert boottime() >= deadline
    assert all(process.alive for process in family)
    await running.kill(0)
    assert await running.wait() == ProcessEnd(exit_code=-signal.SIGKILL, fenced=False)
    await asyncio.gather(clock.close(), moved.close())


async def test_a_grace_does_not_reach_beyond_the_deadline() -> None:
    control = await WardenProcessControl.launch()
    await control.set_deadline(boottime() + SHORT)
    run = await control.start(a_script(f"trap '' TERM\n{FAMILY}"))
    await announced(run.stdout, "main", "child", "daemon")
    await run.kill(grace=10 * PATIENCE)
    assert await run.wait() == LOST
    await control.close()


async def test_nothing_runs_without_a_lease_and_a_new_one_opens_again() -> None:
    control = await WardenProcessControl.launch()
    with pytest.raises(NothingMayRun, match="no lease is held yet"):
        await control.start(a_script("true"))
    await control.set_deadline(boottime() + SHORT)
    lost = await control.start(a_script(FAMILY))
    assert await lost.wait() == LOST
    with pytest.raises(NothingMayRun, match="deadline has passed"):
        await control.start(a_script("true"))
    await control.set_deadline(boottime() + 10 * PATIENCE)
    run = await control.start(a_script("exit 4"))
    assert await run.wait() == ProcessEnd(exit_code=4, fenced=False)
    await control.close()


async def test_a_closed_control_leaves_nothing_and_starts_nothing() -> None:
    control = await WardenProcessControl.launch()
    await control.set_deadline(boottime() + 10 * PATIENCE)
    run, family = await a_family(control)
    warden = Watched(control.pid)
    await control.close()
    assert not any(process.alive for process in (*family, warden))
    assert await run.wait() == LOST
    assert control.dead.is_set()
    with pytest.raises(NothingMayRun):
        await control.start(a_script("true"))
    await control.close()


# ── the warden and the keepers ──


async def test_kill_9_of_the_warden_ends_every_run_as_lost(control: WardenProcessControl) -> None:
    first, one_family = await a_family(control)
    second = await control.start(a_script(f"{DAEMON}echo main $$; exec env -i sleep 1000"))  # no mark: keepers alone
    other_family = await announced(second.stdout, "main", "daemon")
    os.kill(control.pid, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE):
        await control.dead.wait()
    assert await first.wait() == await second.wait() == LOST
    for process in (*one_family, *other_family):
        await process.gone()
    with pytest.raises(NothingMayRun):
        await control.start(a_script("true"))


async def test_kill_9_of_a_keeper_ends_its_run_and_no_other(control: WardenProcessControl) -> None:
    run, (main, child, daemon) = await a_family(control)
    other, other_family = await a_family(control)
    keeper_of(main).send(signal.SIGKILL)
    assert await run.wait() == ProcessEnd(exit_code=-signal.SIGKILL, fenced=False)
    assert not any(process.alive for process in (main, child, daemon))
    assert all(process.alive for process in other_family)
    await other.kill(0)
    assert await other.wait() == ProcessEnd(exit_code=-signal.SIGKILL, fenced=False)


async def test_kill_9_of_the_warden_and_its_keepers_leaves_no_program_and_nothing_that_carries_the_mark(
    control: WardenProcessControl,
) -> None:
    marked_daemon = DAEMON.replace("env -i ", "")
    run = await control.start(a_script(f"{marked_daemon}echo main $$; exec env -i sleep 1000"))
    main, daemon = await announced(run.stdout, "main", "daemon")
    keeper = keeper_of(main)
    keeper.send(signal.SIGSTOP)  # so that it has no part in what follows
    os.kill(control.pid, signal.SIGKILL)
    keeper.send(signal.SIGKILL)
    assert await run.wait() == LOST
    for process in (main, daemon):
        await process.gone()


async def test_the_data_folders_lock_is_free_only_when_the_last_keeper_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()

    def lock_is_free() -> bool:
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        control = await WardenProcessControl.launch(file.fileno())
    await control.set_deadline(boottime() + 10 * PATIENCE)
    run, family = await a_family(control)
    keeper = keeper_of(family[0])
    keeper.send(signal.SIGSTOP)
    os.kill(control.pid, signal.SIGKILL)
    assert await run.wait() == LOST
    assert not lock_is_free()
    keeper.send(signal.SIGCONT)
    await until(lock_is_free)
    assert not any(process.alive for process in family)
    await control.close()


async def test_signals_meant_for_the_worker_do_not_end_the_warden(control: WardenProcessControl) -> None:
    assert os.getsid(control.pid) == control.pid, "a terminal's Ctrl-C does not reach it"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(control.pid, number)
    run = await control.start(a_script("exit 5"))
    assert await run.wait() == ProcessEnd(exit_code=5, fenced=False)


async def test_a_start_that_nobody_waits_for_any_more_leaves_nothing(control: WardenProcessControl) -> None:
    spec = a_script(DAEMON + "sleep 1000")
    starting = asyncio.create_task(control.start(spec))
    await asyncio.sleep(0)  # it is begun
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    later = await control.start(a_script("true"))
    await later.wait()
    await until(lambda: not list(tree.marked(RUN_MARK, [control.mark(spec.run_id)])))


async def test_a_dead_wardens_runs_are_not_taken_for_another_wardens_of_the_same_name(
    control: WardenProcessControl,
) -> None:
    other = await WardenProcessControl.launch()
    await other.set_deadline(boottime() + 10 * PATIENCE)
    spec = a_script("echo main $$; exec sleep 1000")
    ours, theirs = await control.start(spec), await other.start(spec)
    (left,) = await announced(ours.stdout, "main")
    await announced(theirs.stdout, "main")
    os.kill(other.pid, signal.SIGKILL)
    await other.dead.wait()
    assert left.alive
    await other.close()


# ── the price ──


async def test_an_idle_warden_is_small(control: WardenProcessControl) -> None:
    status = Path(f"/proc/{control.pid}/status").read_text()
    resident_kib = int(status.partition("VmRSS:")[2].split()[0])
    assert resident_kib < 20 * 1024


async def test_a_platform_without_a_warden_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(StartupError, match="a worker needs Linux, and this is darwin"):
        await WardenProcessControl.launch()
