"""Commands that behave badly: the job still ends, its log says what was cut, and the slot is free for the next."""

from pathlib import Path
from typing import Any

import grpc
import pytest

from farhand.api.scheduler.v1 import job_pb2, job_service_pb2
from farhand.api.types.v1.log_record_pb2 import LOG_STREAM_STDERR, LOG_STREAM_STDOUT, LOG_STREAM_SYSTEM
from farhand.api.types.v1.task_pb2 import Task
from farhand.runtime.grpc_channel import remote_error
from tests.fixtures.command_line import Said, farhand
from tests.fixtures.mesh import Mesh
from tests.tasks import SHELL, a_shell_task


class House:
    """A mesh with one worker and one slot: a job that hangs is noticed by the next."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh

    async def submit(self, task: Task) -> str:
        request = job_service_pb2.SubmitJobRequest(spec=job_pb2.JobSpec(task=task))
        return (await self.mesh.jobs.SubmitJob(request)).job.id

    async def ends(self, *lines: str, timeout: float | None = None, **properties: Any) -> job_pb2.Job:
        """Run commands to their end."""
        task = Task(type=SHELL)
        task.properties.update({"commands": list(lines), **properties})
        if timeout is not None:
            task.timeout.FromMilliseconds(round(timeout * 1000))
        job = await self.submit(task)
        return (await self.mesh.jobs.WaitJob(job_service_pb2.WaitJobRequest(id=job), timeout=60)).job

    async def log(self, job: job_pb2.Job, stream: int | None = None) -> list[str]:
        tail = self.mesh.jobs.TailLogs(job_service_pb2.TailLogsRequest(id=job.id, follow=True), timeout=60)
        parts = [part async for part in tail]
        assert not parts[-1].incomplete
        return [record.text for part in parts for record in part.records if stream in (None, record.stream)]

    async def run(self, *words: str) -> Said:
        return await farhand("run", "--", *words, FARHAND_SCHEDULER=self.mesh.schedulers[0].address)


@pytest.fixture
async def house(mesh: Mesh) -> Any:
    await mesh.start(workers=[""], slots=1, lease=30.0)
    it = House(mesh)
    yield it
    # The slot is free, nothing stumbled, nothing is left of any job.
    after = await it.ends("echo fine")
    assert after.state == job_pb2.JOB_STATE_SUCCESS and await it.log(after) == ["fine"]
    for process in mesh.processes:
        assert process.running and "Traceback" not in process.log.read_text(), process.tail()
    folder = mesh.folder / "workers" / "default"
    assert list((folder / "jobs").iterdir()) == []


async def test_a_command_that_does_not_exist_fails_with_that_line_in_the_log(house: House) -> None:
    said = await house.run("no-such-command", "--flag")
    assert said.exit_code == 127
    assert "no-such-command" in said.err and "not found" in said.err
    assert said.out == "" and "Traceback" not in said.err


async def test_a_hundred_megabytes_of_output_are_cut_with_a_mark_and_the_job_still_ends(house: House) -> None:
    job = await house.ends(
        "yes 'one hundred bytes of output, more or less, again and again' | head -c 100000000", "exit 3"
    )
    assert job.state == job_pb2.JOB_STATE_FAILED and job.outcome.exit_code == 3
    [mark] = [line for line in await house.log(job, LOG_STREAM_SYSTEM) if "not kept" in line]
    assert str(10 << 20) in mark and "--max-log-bytes" in mark
    kept = sum(len(line) + 1 for line in await house.log(job, LOG_STREAM_STDOUT))
    assert 5_000_000 < kept <= 10 << 20
    assert sum(path.stat().st_size for path in house.mesh.folder.rglob("*.log")) < 30_000_000


async def test_bursts_come_whole_and_in_order(house: House) -> None:
    job = await house.ends("seq 10000; seq 10000 >&2")
    for stream in (LOG_STREAM_STDOUT, LOG_STREAM_STDERR):
        assert await house.log(job, stream) == [str(number) for number in range(1, 10_001)]


async def test_bytes_that_are_no_text_and_endless_lines_are_kept_as_far_as_text_can_be(house: House) -> None:
    job = await house.ends(
        r"printf 'a\000b\377c\n'", "head -c 1000000 /dev/zero | tr '\\0' x", "echo; head -c 100000 /dev/urandom"
    )
    assert job.state == job_pb2.JOB_STATE_SUCCESS
    first, second, *_ = await house.log(job)
    assert first == "a\ufffdb\ufffdc"
    assert second.startswith("x" * 65_536 + " … [cut") and len(second) < 66_000
    said = await house.run("printf '\\377\\000ok\\n'")
    assert said.exit_code == 0 and said.out == "\ufffd\ufffdok\n"


async def test_a_command_may_close_its_output_and_go_on(house: House) -> None:
    job = await house.ends("echo before; exec >&- 2>&-; sleep 0.3; exit 4")
    assert job.outcome.exit_code == 4
    assert await house.log(job, LOG_STREAM_STDOUT) == ["before"]


async def test_a_daemon_that_holds_the_output_open_does_not_hold_the_job(house: House, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    job = await house.ends(
        f"setsid sh -c 'echo $$ > {pid}; exec sleep 1000' & while [ ! -s {pid} ]; do :; done; echo done"
    )
    assert job.state == job_pb2.JOB_STATE_SUCCESS
    assert await house.log(job) == ["done"]
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"commands": []}, "commands: must not be empty"),
    ({"commands": "true"}, "commands: must be a list of strings"),
    ({"commands": [7, None]}, "commands[1]: must be a string"),
    ({"commands": ["true"], "env": {"A=B": "1"}}, "'A=B' can't be the name"),
    ({"commands": ["true"], "env": {"": "1"}}, "can't be the name"),
    ({"commands": ["true"], "env": {"A": ["x"]}}, "env.A: must be a string"),
    ({"commands": ["true"], "comands": ["x"]}, "Did you mean commands"),
    ({"commands": ["x" * 200_000]}, "Linux takes 131071 in one argument"),
    ({"commands": ["true"], "interpreter": ["/no/such/shell"]}, "/no/such/shell"),
    ({"commands": ["true"], "interpreter": ["/etc/passwd"]}, "/etc/passwd"),
]


async def test_properties_that_can_not_be_fail_the_job_and_its_log_says_which(house: House) -> None:
    for properties, words in IMPOSSIBLE:
        ended = await house.ends(**properties)
        assert ended.state == job_pb2.JOB_STATE_FAILED, properties
        assert ended.outcome.reason in ("INVALID_PROPERTIES", "START_FAILED")
        assert words in ended.outcome.message, ended.outcome
        assert any(words in line for line in await house.log(ended, LOG_STREAM_SYSTEM))
    # A large environment is none of these.
    large = await house.ends("env | wc -c", env={f"V{number}": "x" * 1000 for number in range(240)})
    assert large.state == job_pb2.JOB_STATE_SUCCESS and int((await house.log(large))[0]) > 240_000


async def test_a_nul_in_commands_or_environment_is_refused_at_submit_with_its_place(house: House) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"commands": ["true", "a\0b"]}, "spec.task.properties.commands[1]"),
        ({"commands": ["true"], "env": {"A": "\0"}}, "spec.task.properties.env.A"),
        ({"commands": ["true"], "env": {"A\0": "1"}}, "spec.task.properties.env.A␀"),
    ]
    for properties, place in cases:
        task = Task(type=SHELL)
        task.properties.update(properties)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await house.submit(task)
        error = remote_error(refused.value)
        assert error.code.name == "INVALID_ARGUMENT"
        assert [violation.path for violation in error.violations] == [place]
    said = await house.run("printf", "%s", "\udcff")  # a byte that is no character
    assert said.exit_code in (0, 2) and "Traceback" not in said.err


async def test_timeouts_of_no_time_and_of_all_time(house: House) -> None:
    none = await house.ends("sleep 600", timeout=0.001)
    assert none.state == job_pb2.JOB_STATE_FAILED and none.outcome.reason == "TIMEOUT"
    ages = await house.ends("true", timeout=10_000 * 365 * 86_400.0)
    assert ages.state == job_pb2.JOB_STATE_SUCCESS


async def test_a_command_that_ignores_every_signal_is_killed_when_asked(house: House) -> None:
    task = a_shell_task("trap '' TERM INT HUP QUIT; echo ready; while :; do sleep 1; done")
    job = await house.submit(task)
    await anext(aiter(house.mesh.jobs.TailLogs(job_service_pb2.TailLogsRequest(id=job, follow=True))))
    kill = job_service_pb2.KillJobRequest(id=job)
    kill.grace.FromMilliseconds(200)
    await house.mesh.jobs.KillJob(kill)
    ended = (await house.mesh.jobs.WaitJob(job_service_pb2.WaitJobRequest(id=job), timeout=20)).job
    assert ended.state == job_pb2.JOB_STATE_KILLED
