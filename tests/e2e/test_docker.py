"""The task runner Docker with real containers: Debian's Podman and runc behind the Docker API."""

from typing import Any

from google.protobuf.json_format import MessageToDict

from farhand.api.types.v1 import outcome_pb2
from farhand.api.worker.v1 import session_pb2 as pb
from tests.fixtures.containers import Podman, a_container_job
from tests.fixtures.fake_scheduler import FakeScheduler, FakeSession, a_job

SUCCESS = outcome_pb2.OUTCOME_STATE_SUCCESS
FAILED = outcome_pb2.OUTCOME_STATE_FAILED
KILLED = outcome_pb2.OUTCOME_STATE_KILLED


async def a_session(fake_scheduler: FakeScheduler, podman: Podman, **settings: Any) -> FakeSession:
    await fake_scheduler.run_worker(docker_socket=str(podman.socket), **settings)
    return await fake_scheduler.session()


async def run(fake_scheduler: FakeScheduler, podman: Podman, **properties: Any) -> pb.Result:
    session = await a_session(fake_scheduler, podman)
    session.assign(a_job("job-1", properties=a_container_job(**properties)))
    result = await session.result("job-1")
    await fake_scheduler.log_reaches("job-1", result.log_end_offset)
    return result


async def test_a_script_runs_in_a_container_as_it_does_in_a_process(
    fake_scheduler: FakeScheduler, podman: Podman
) -> None:
    commands = [
        "echo to stdout $A $FARHAND_JOB_ID",
        "echo to stderr >&2",
        "cat in/a.txt && echo more > in/b.txt && ln -s in/b.txt link.txt",
        'echo \'::{"outputs":{"n":1}}::\'',
        "exit 3",
    ]
    result = await run(
        fake_scheduler,
        podman,
        commands=commands,
        env={"A": "x"},
        inputFiles={"in/a.txt": "content\n", "left.txt": "y"},
        outputFiles=["**/*.txt", "none"],
    )
    outcome = MessageToDict(result.outcome)
    print(outcome, fake_scheduler.lines("job-1"))
    assert (result.outcome.state, result.outcome.exit_code) == (FAILED, 3)
    assert not podman.containers()
