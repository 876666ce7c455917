"""The AWS Batch runner's client against moto's server (tests/fixtures/aws_server.py)."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from farhand.worker.runners import CommandEnd
from farhand.worker.runners.batch.client import BatchClient
from farhand.worker.runners.client import Lost, NeverRan
from farhand.worker.runners.hosted import Task
from tests.fixtures.aws_server import AwsServer

Captured = pytest.CaptureFixture[str]


class Play:
    """Runs tasks of one job in AWS Batch."""

    def __init__(self, aws: AwsServer, folder: Path, job: str) -> None:
        self.aws = aws
        self.folder = folder
        self.job = job
        self.stop = asyncio.Event()

    async def run(
        self,
        script: str,
        *,
        fence: int = 1,
        outputs: tuple[str, ...] = (),
        image: str = "debian",
        patience: float = 30.0,
        **properties: Any,
    ) -> CommandEnd:
        task = Task(
            run_id=f"{self.job}-{fence}",
            argv=["/bin/sh", "-c", script],
            env={"FARHAND_JOB_ID": self.job, "FARHAND_FENCE": str(fence), "FARHAND_GROUP_UID": "wg_abcdefgh"},
            folder=str(self.folder),
            image=image,
            output_files=outputs,
            properties={**self.aws.properties, **properties},
            settings={"patience": patience},
        )
        return await BatchClient().run(task, self.stop)

    def begin(self, script: str, **how: Any) -> asyncio.Task[CommandEnd]:
        return asyncio.create_task(self.run(script, **how))

    async def happened(self, what: str) -> None:
        await asyncio.to_thread(self.aws.until, lambda: what in self.aws.ever)


@pytest.fixture
def play(aws: AwsServer, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Play:
    return Play(aws, tmp_path, f"j{abs(hash(request.node.nodeid)) % 10**9}")


async def test_a_command_runs_as_a_job_of_one_container(play: Play, capfd: Captured) -> None:
    assert await play.run("echo one; echo two >&2; echo $FARHAND_JOB_ID; exit 3") == CommandEnd(3)
    assert capfd.readouterr().out == f"one\ntwo\n{play.job}\n"


async def test_a_long_log_comes_whole_and_once(play: Play, capfd: Captured) -> None:
    assert await play.run("for i in $(seq 500); do echo line $i; done; sleep 0.2; echo end") == CommandEnd(0)
    assert capfd.readouterr().out.splitlines() == [*(f"line {number}" for number in range(1, 501)), "end"]


async def test_files_go_by_way_of_the_bucket(play: Play) -> None:
    (play.folder / "data").mkdir()
    (play.folder / "data" / "in.txt").write_text("hello")
    script = "tr a-z A-Z < data/in.txt > out.txt; mkdir -p p/q; touch p/a.csv p/q/b.csv p/c.txt"
    end = await play.run(script, outputs=("out.txt", "p/*.csv"), bucket=play.aws.bucket)
    assert end == CommandEnd(0)
    assert (play.folder / "out.txt").read_text() == "HELLO"
    assert [path.name for path in play.folder.rglob("*.csv")] == ["a.csv"]


async def test_outputs_of_a_command_that_fails_are_fetched_too(play: Play) -> None:
    assert await play.run("echo 1 > a.txt; exit 5", outputs=("*.txt",), bucket=play.aws.bucket) == CommandEnd(5)
    assert (play.folder / "a.txt").read_text() == "1\n"


async def test_a_compute_environment_is_enough(play: Play) -> None:
    properties = {"jobQueueArn": None, "computeEnvironmentArn": play.aws.environment}
    assert await play.run("true", **properties) == CommandEnd(0)


async def test_a_definition_that_is_given_is_used(play: Play, capfd: Captured) -> None:
    given = play.aws.batch.register_job_definition(
        jobDefinitionName="given",
        type="container",
        containerProperties={"image": "debian", "command": ["false"], "vcpus": 1, "memory": 128},
    )["jobDefinitionArn"]
    try:
        assert await play.run("echo mine", jobDefinitionArn=given, image="") == CommandEnd(0)
    finally:
        play.aws.batch.deregister_job_definition(jobDefinition=given)
    assert capfd.readouterr().out == "mine\n"


async def test_a_stop_terminates_the_job_and_its_last_words_are_read(play: Play, capfd: Captured) -> None:
    running = play.begin("trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.02; done")
    await play.happened("start main 1")
    await asyncio.to_thread(play.aws.until, lambda: "up" in play.aws.lines)
    play.stop.set()
    assert await running == CommandEnd(9)
    lines = capfd.readouterr().out.splitlines()
    assert (lines[0], lines[-1]) == ("up", "bye")


async def test_a_stop_before_the_start_leaves_nothing(play: Play) -> None:
    play.aws.stuck = True
    running = play.begin("true")
    await asyncio.to_thread(play.aws.until, play.aws.jobs_wait)
    play.stop.set()
    assert (await running).exit_code == -15


async def test_a_lost_workers_job_has_ended_before_the_next_run_of_it_starts(play: Play, capfd: Captured) -> None:
    lost = play.begin("sleep 1000", fence=1)
    await play.happened("start main 1")
    with play.aws.nobody_terminates():  # what a worker does that was killed with -9: nothing
        lost.cancel()
        await asyncio.gather(lost, return_exceptions=True)
    assert await play.run("true", fence=2) == CommandEnd(0)
    assert play.aws.ever == ["start main 1", "end main 1", "start main 2", "end main 2"]
    assert "a run of this job before (fence 1) is still in AWS Batch" in capfd.readouterr().err


async def test_a_run_of_an_older_fence_does_not_touch_the_newer(play: Play) -> None:
    newer = play.begin("trap 'exit 0' TERM; sleep 1000 & wait", fence=2)
    await play.happened("start main 2")
    with pytest.raises(NeverRan, match=r"under the fence 2, and this run has the fence 1"):
        await play.run("true", fence=1)
    play.stop.set()
    await newer
    assert play.aws.ever[0] == "start main 2"


# ── what goes wrong ──


async def test_too_little_memory_is_told(play: Play) -> None:
    play.aws.memory.add("hungry")
    end = await play.run("sleep 1000", image="hungry")
    assert (end.exit_code, end.reason) == (137, "OUT_OF_MEMORY")
    assert "raise resources.request.memory" in end.why


async def test_an_image_that_is_not_there_is_told(play: Play) -> None:
    play.aws.missing.add("nosuch:1")
    with pytest.raises(NeverRan, match=r"nosuch:1: not found; look at containerImage"):
        await play.run("true", image="nosuch:1")


async def test_a_queue_that_is_not_there_is_told(play: Play) -> None:
    with pytest.raises(NeverRan, match=r"there is no job queue nosuch: look at taskRunner.jobQueueArn"):
        await play.run("true", jobQueueArn="nosuch")


async def test_a_bucket_that_is_not_there_is_told(play: Play) -> None:
    (play.folder / "in").touch()
    with pytest.raises(NeverRan, match=r"can't be put into the bucket nosuch: .*NoSuchBucket"):
        await play.run("true", bucket="nosuch")


async def test_files_without_a_bucket_are_told(play: Play) -> None:
    with pytest.raises(NeverRan, match=r"write taskRunner\.bucket"):
        await play.run("true", outputs=("*",))


async def test_aws_that_can_not_be_reached_is_told(play: Play) -> None:
    with pytest.raises(NeverRan, match=r"can't be reached \(batch\): .*127\.0\.0\.1:1"):
        await play.run("true", endpointOverride="http://127.0.0.1:1", patience=0.3)


async def test_aws_that_goes_away_in_the_middle_is_waited_for(play: Play, capfd: Captured) -> None:
    running = play.begin("echo a; sleep 0.5; echo b; exit 4")
    await play.happened("start main 1")
    with play.aws.away():
        await play.happened("end main 1")
        await asyncio.to_thread(play.aws.until, lambda: play.aws.refused > 1)
    assert await running == CommandEnd(4)
    assert capfd.readouterr().out == "a\nb\n"


@pytest.mark.parametrize("action", ["SubmitJob", "DescribeJobs", "GetLogEvents"])
async def test_a_right_that_is_missing_is_named(play: Play, action: str) -> None:
    play.aws.denied.add(action)
    with pytest.raises(
        (NeverRan, Lost), match=rf"AWS refuses \w+:{action} \(AccessDeniedException\).*needs that right"
    ):
        await play.run("trap 'exit 0' TERM; sleep 1000 & wait")
    play.aws.denied.clear()
    await asyncio.to_thread(play.aws.until, lambda: play.aws.running == {})
