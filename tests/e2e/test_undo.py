"""What a program began elsewhere is taken back when it ends, whoever dies (a Docker API of the test's own)."""

import signal

from farhand.worker.process_control import ProcessEnd, ProcessSpec, Undo
from farhand.worker.warden import tree
from farhand.worker.warden_client import WardenProcessControl, WardenRun
from tests.fixtures.fake_docker import FakeDocker
from tests.fixtures.warden import Watched, a_script, announced, until

LOST = ProcessEnd(exit_code=-signal.SIGKILL, fenced=True)


async def start(control: WardenProcessControl, docker: FakeDocker, script: str, begun: str = "") -> WardenRun:
    spec = a_script(script)
    undo = Undo("it", str(docker.socket), "DELETE", "/containers/c", begun, seconds=60.0)
    return await control.start(ProcessSpec(spec.run_id, spec.argv, spec.env, spec.cwd, undo))


async def a_sleeper(control: WardenProcessControl, docker: FakeDocker) -> tuple[WardenRun, Watched]:
    run = await start(control, docker, "echo main $$; exec sleep 1000")
    return run, (await announced(run.stdout, "main"))[0]


def keeper_of(main: Watched) -> Watched:
    process = tree.look(main.pid)
    assert process is not None
    return Watched(process.parent)


async def test_it_is_taken_back_before_the_end_is_told(control: WardenProcessControl, fake_docker: FakeDocker) -> None:
    run = await start(control, fake_docker, "exit 3")
    assert await run.wait() == ProcessEnd(3, fenced=False)
    assert fake_docker.calls == ["delete"]


async def test_what_was_not_begun_is_not(control: WardenProcessControl, fake_docker: FakeDocker) -> None:
    run = await start(control, fake_docker, "exit 3", begun="/no/such/file")
    assert await run.wait() == ProcessEnd(3, fenced=False)
    assert fake_docker.calls == []


async def test_after_a_kill_too(control: WardenProcessControl, fake_docker: FakeDocker) -> None:
    run, _ = await a_sleeper(control, fake_docker)
    await run.kill(0.0)
    assert await run.wait() == ProcessEnd(-signal.SIGKILL, fenced=False)
    assert fake_docker.calls == ["delete"]


async def test_by_the_warden_where_the_keeper_was_killed(
    control: WardenProcessControl, fake_docker: FakeDocker
) -> None:
    run, main = await a_sleeper(control, fake_docker)
    keeper_of(main).send(signal.SIGKILL)
    assert await run.wait() == ProcessEnd(-signal.SIGKILL, fenced=False)
    assert fake_docker.calls == ["delete"]


async def test_by_the_keeper_where_the_warden_was_killed(
    control: WardenProcessControl, fake_docker: FakeDocker
) -> None:
    run, main = await a_sleeper(control, fake_docker)
    keeper = keeper_of(main)
    Watched(control.pid).send(signal.SIGKILL)
    await keeper.gone()
    assert await run.wait() == LOST
    assert fake_docker.calls[0] == "delete"


async def test_by_the_keeper_where_the_worker_is_gone(control: WardenProcessControl, fake_docker: FakeDocker) -> None:
    _, main = await a_sleeper(control, fake_docker)
    await control.close()
    await main.gone()
    await until(lambda: fake_docker.calls == ["delete"])


async def test_why_it_could_not_be_is_told_with_the_end(control: WardenProcessControl, fake_docker: FakeDocker) -> None:
    fake_docker.faults["delete"] = (500, "busy")
    spec = a_script("exit 3")
    undo = Undo("it", str(fake_docker.socket), "DELETE", "/containers/c", "", seconds=0.1)
    run = await control.start(ProcessSpec(spec.run_id, spec.argv, spec.env, spec.cwd, undo))
    end = await run.wait()
    assert (end.exit_code, end.fenced) == (3, False)
    assert end.not_undone == f'{fake_docker.socket} answered 500: {{"message": "busy"}}'
