"""The life of a run: what its program finds, what it writes, and how its whole tree ends."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from farhand.worker.process_control import ProcessEnd, ProcessSpec, ProcessStartError
from farhand.worker.runners import Command
from farhand.worker.runners.process import ProcessRunner
from farhand.worker.warden_client import RUN_MARK, WardenProcessControl
from tests.fixtures.warden import (
    DAEMON,
    PATIENCE,
    a_family,
    a_python_script,
    a_script,
    a_spec,
    announced,
    line,
    until,
)

KILLED = ProcessEnd(exit_code=-signal.SIGKILL, fenced=False)


def ended(exit_code: int) -> ProcessEnd:
    return ProcessEnd(exit_code, fenced=False)


# ── what the program finds ──


async def test_output_and_exit_code_arrive(control: WardenProcessControl) -> None:
    run = await control.start(a_script("echo out; echo err >&2; exit 3"))
    assert await run.stdout.read() == b"out\n"
    assert await run.stderr.read() == b"err\n"
    assert await run.wait() == ended(3)
    assert await run.wait() == ended(3)


async def test_the_program_finds_three_descriptors(control: WardenProcessControl) -> None:
    run = await control.start(a_spec("ls", "/proc/self/fd"))
    assert (await run.stdout.read()).split() == [b"0", b"1", b"2", b"3"]  # 3 is the folder that ls reads


async def test_the_program_finds_an_empty_stdin_its_folder_and_its_own_environment(
    control: WardenProcessControl, tmp_path: Path
) -> None:
    spec = a_spec("/bin/sh", "-c", "cat; pwd; env", env={"NAME": "a é \udcff"}, cwd=tmp_path)
    run = await control.start(spec)
    folder, *env = (await run.stdout.read()).decode(errors="surrogateescape").splitlines()
    assert folder == str(tmp_path)
    assert {"NAME=a é \udcff", f"{RUN_MARK}={control.mark(spec.run_id)}", f"PATH={os.defpath}"} <= set(env)
    assert {entry.partition("=")[0] for entry in env} <= {"NAME", RUN_MARK, "PATH", "PWD", "OLDPWD", "SHLVL", "_"}


async def test_the_program_leads_a_session_of_its_own(control: WardenProcessControl) -> None:
    run = await control.start(a_python_script("import os; print(os.getpid(), os.getsid(0), os.getpgid(0))"))
    pid, session, group = (await run.stdout.read()).split()
    assert pid == session == group


async def test_the_program_starts_with_every_signal_at_its_default(control: WardenProcessControl) -> None:
    run = await control.start(a_spec("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"))
    values = [int(text.split()[1], 16) for text in (await run.stdout.read()).decode().splitlines()]
    # Nobody can set the C library's own two (32 and 33), and its posix_spawn, by which make starts us, ignores them.
    own = 0b11 << 31
    assert [value & ~own for value in values] == [0, 0]


async def test_fifty_megabytes_on_each_pipe_arrive_complete(control: WardenProcessControl) -> None:
    size = 50_000_000
    run = await control.start(a_script(f"head -c {size} /dev/zero & head -c {size} /dev/zero >&2; wait"))

    async def count(stream: asyncio.StreamReader) -> int:
        total = 0
        while data := await stream.read(1 << 20):
            total += len(data)
        return total

    assert list(await asyncio.gather(count(run.stdout), count(run.stderr))) == [size, size]
    assert await run.wait() == ended(0)


async def test_what_was_written_before_the_end_is_read_after_it(control: WardenProcessControl) -> None:
    run = await control.start(a_script("echo first; head -c 60000 /dev/zero"))
    await run.wait()
    assert len(await run.stdout.read()) == 60_006


async def test_a_pipe_that_a_stranger_holds_does_not_hold_the_output_open(control: WardenProcessControl) -> None:
    run = await control.start(a_script("echo main $$; head -c 300000 /dev/zero"))
    (main,) = await announced(run.stdout, "main")
    # It can't have ended: what it writes is more than the pipe and our buffer hold.
    with Path(f"/proc/{main.pid}/fd/1").open("wb"):  # noqa: ASYNC230
        async with asyncio.timeout(PATIENCE):
            assert len(await run.stdout.read()) == 300_000
            assert await run.wait() == ended(0)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("no-such-program",), "no such program in PATH (/bin:/usr/bin)"),
        (("/no/such/program",), "there is no such file"),
        (("/etc/passwd",), "it is not executable"),
        (("true", "x" * 200_000), "too long for this system"),
        (("tr\0ue",), "null"),
        ((), "the command is empty"),
    ],
)
async def test_a_program_that_cannot_be_run_is_a_start_error(
    control: WardenProcessControl, argv: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ProcessStartError) as caught:
        await control.start(a_spec(*argv, env={"PATH": "/bin:/usr/bin"}))
    assert message in caught.value.message
    assert "\n" not in caught.value.message


async def test_a_script_that_is_no_program_is_a_start_error(control: WardenProcessControl, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("no first line\n")
    script.chmod(0o755)
    with pytest.raises(ProcessStartError, match="a script needs a first line like #!/bin/sh"):
        await control.start(a_spec(str(script)))


async def test_a_missing_folder_is_a_start_error(control: WardenProcessControl, tmp_path: Path) -> None:
    with pytest.raises(ProcessStartError, match=r"can't enter the working folder '.*/gone': No such file"):
        await control.start(a_spec("true", cwd=tmp_path / "gone"))


# ── how a tree ends ──


async def test_what_a_finished_job_leaves_behind_is_killed_and_then_it_ends(control: WardenProcessControl) -> None:
    run = await control.start(
        a_script(f"{DAEMON}sleep 1000 & echo child $!\nsleep 1000 & echo gate $!\nwait $!; exit 6")
    )
    daemon, child, gate = await announced(run.stdout, "daemon", "child", "gate")
    gate.send(signal.SIGKILL)
    async with asyncio.timeout(PATIENCE):
        assert await run.wait() == ended(6)
    assert not daemon.alive
    assert not child.alive
    assert await run.stdout.read() == b""


async def test_a_killed_job_takes_its_daemons_along_and_touches_no_other_job(control: WardenProcessControl) -> None:
    run, family = await a_family(control)
    other, other_family = await a_family(control)
    await run.kill(0)
    assert await run.wait() == KILLED
    assert not any(process.alive for process in family)
    assert all(process.alive for process in other_family)
    await other.kill(0)
    assert await other.wait() == KILLED


ON_SIGTERM = """
import os, signal, sys
name, last_words, exit_code = sys.argv[1:]
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print(name, os.getpid(), flush=True)
signal.sigwait([signal.SIGTERM])
print(last_words, flush=True)
sys.exit(int(exit_code))
"""


async def test_sigterm_handled_within_the_grace_keeps_its_exit_code(control: WardenProcessControl) -> None:
    run = await control.start(a_python_script(ON_SIGTERM, "main", "bye", "7"))
    await announced(run.stdout, "main")
    await run.kill(grace=10 * PATIENCE)
    assert await run.wait() == ended(7)
    assert await line(run.stdout) == "bye"


async def test_a_child_keeps_its_grace_though_the_main_process_is_gone(control: WardenProcessControl) -> None:
    child = a_python_script(ON_SIGTERM, "child", "cleaned up", "0").argv
    run = await control.start(a_spec("/bin/sh", "-c", 'echo main $$; setsid "$@"; true', "sh", *child))
    await announced(run.stdout, "main", "child")
    await run.kill(grace=10 * PATIENCE)
    assert await run.wait() == ended(-signal.SIGTERM)
    assert await line(run.stdout) == "cleaned up"


async def test_a_child_gets_its_sigterm_though_all_above_it_die_at_that_moment(control: WardenProcessControl) -> None:
    child = a_python_script(ON_SIGTERM, "child", "cleaned up", "0").argv
    script = 'setsid "$@"; true'
    for _ in range(30):
        script = f"( {script} ); true"
    for _ in range(12):  # a matter of microseconds: one round alone seldom met it
        run = await control.start(a_spec("/bin/sh", "-c", script, "sh", *child))
        await announced(run.stdout, "child")
        await run.kill(grace=10 * PATIENCE)
        assert await line(run.stdout) == "cleaned up"
        assert await run.wait() == ended(-signal.SIGTERM)


async def test_a_job_that_ignores_sigterm_is_killed_after_the_grace(control: WardenProcessControl) -> None:
    run = await control.start(a_script("trap '' TERM; echo main $$; sleep 1000"))
    (main,) = await announced(run.stdout, "main")
    await run.kill(grace=10 * PATIENCE)
    assert main.alive
    await run.kill(grace=0.2)  # the earlier end counts
    assert await run.wait() == KILLED
    assert not main.alive
    await run.kill(0)  # after the end: nothing


async def test_sigterm_comes_once(control: WardenProcessControl) -> None:
    script = """
import os, signal, sys
awaited = [signal.SIGTERM, signal.SIGURG]
signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
print("main", os.getpid(), flush=True)
count = 0
while signal.sigwait(awaited) == signal.SIGTERM:
    count += 1
    print("term", os.getpid(), flush=True)
sys.exit(count)
"""
    run = await control.start(a_python_script(script))
    (main,) = await announced(run.stdout, "main")
    await run.kill(grace=10 * PATIENCE)
    await announced(run.stdout, "term")
    await run.kill(grace=10 * PATIENCE)
    later = await control.start(a_script("true"))
    await later.wait()
    main.send(signal.SIGURG)
    assert await run.wait() == ended(1)


async def test_a_stopped_job_still_gets_its_sigterm(control: WardenProcessControl) -> None:
    run = await control.start(a_python_script(ON_SIGTERM, "main", "bye", "8"))
    (main,) = await announced(run.stdout, "main")
    main.send(signal.SIGSTOP)
    await run.kill(grace=10 * PATIENCE)
    assert await run.wait() == ended(8)


FORK_BOMB = """
import os
print("main", os.getpid(), flush=True)
for chain in range(30):
    if os.fork() == 0:
        # Thirty chains: each link forks the next and exits, every other in a session of its own each time.
        while True:
            if chain % 2:
                os.setsid()
            if os.fork():
                os._exit(0)
print("bomb", os.getpid(), flush=True)
os.wait()
os.read(os.pipe()[0], 1)
"""


async def test_processes_that_keep_forking_are_caught(control: WardenProcessControl) -> None:
    run = await control.start(a_python_script(FORK_BOMB))
    await announced(run.stdout, "main", "bomb")
    await run.kill(0)
    async with asyncio.timeout(PATIENCE):
        assert await run.wait() == KILLED
        assert await run.stdout.read() == b""  # so nobody holds the pipe


async def test_three_hundred_jobs_run_at_once(control: WardenProcessControl) -> None:
    runs = await asyncio.gather(*(control.start(a_script("echo main $$; exec sleep 1000")) for _ in range(300)))
    mains = [(await announced(run.stdout, "main"))[0] for run in runs]
    assert all(main.alive for main in mains)
    await asyncio.gather(*(run.kill(0) for run in runs))
    assert await asyncio.gather(*(run.wait() for run in runs)) == [KILLED] * 300
    assert not any(main.alive for main in mains)


async def test_many_jobs_one_after_another_leave_no_descriptor_open(control: WardenProcessControl) -> None:
    def descriptors() -> list[int]:
        return [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (os.getpid(), control.pid)]

    async def one(script: str) -> None:
        run = await control.start(a_script(script))
        await asyncio.gather(run.stdout.read(), run.stderr.read(), run.wait())

    before = descriptors()
    for _ in range(100):
        await one("echo hello")
    with pytest.raises(ProcessStartError):
        await control.start(a_spec("no-such-program"))
    await until(lambda: descriptors() == before)


async def test_the_process_runner_keeps_the_workers_secrets_from_the_command(
    control: WardenProcessControl, tmp_path: Path
) -> None:
    worker = {"PATH": os.defpath, "TOOLS": "/opt/tools", "FARHAND_TOKEN": "secret", "OTEL_EXPORTER_OTLP_HEADERS": "key"}
    argv = (sys.executable, "-I", "-c", "import os; print(sorted(os.environ), os.getcwd())")
    command = Command("run", argv, {"FARHAND_FENCE": "7"}, folder=tmp_path, private=tmp_path / "private")
    program = ProcessRunner(worker).program(command, {})
    run = await control.start(ProcessSpec("run", program.argv, program.env, tmp_path))
    names, _, folder = (await run.stdout.read()).decode().strip().rpartition(" ")
    assert set(eval(names)) - {"LC_CTYPE"} == {"FARHAND_FENCE", "FARHAND_RUN_ID", "PATH", "PWD", "TOOLS"}
    assert folder == str(tmp_path)
    assert await run.wait() == ended(0)
