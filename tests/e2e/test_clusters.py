"""The task runners of clusters in a worker: from an assignment to its result, and what a killed worker leaves."""

import re
from typing import Any

import yaml
from google.protobuf.json_format import MessageToDict

from farhand.api.types.v1 import outcome_pb2
from farhand.kernel.flow import Source, read_flow
from farhand.kernel.flow.types import KnownTypes
from farhand.worker.runners.kubernetes.manifest import LEASH
from tests.architecture.repository import ROOT
from tests.fixtures.aws_server import AwsServer
from tests.fixtures.fake_scheduler import FakeScheduler, a_job
from tests.fixtures.kubernetes_server import KubernetesServer

SUCCESS = outcome_pb2.OUTCOME_STATE_SUCCESS
FAILED = outcome_pb2.OUTCOME_STATE_FAILED
KILLED = outcome_pb2.OUTCOME_STATE_KILLED


def a_script(runner: dict[str, Any], *commands: str, **properties: Any) -> dict[str, Any]:
    return {"commands": list(commands), "containerImage": "debian", "taskRunner": runner, **properties}


async def test_a_script_runs_in_a_cluster(fake_scheduler: FakeScheduler, cluster: KubernetesServer) -> None:
    await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    commands = ["cat in.txt", 'echo \'::{"outputs":{"n":1}}::\'', "exit 3"]
    session.assign(a_job("j1", properties=a_script(cluster.properties, *commands, inputFiles={"in.txt": "hello\n"})))
    result = await session.result("j1")
    assert (result.outcome.state, result.outcome.exit_code, result.outcome.reason) == (FAILED, 3, "NONZERO_EXIT")
    assert MessageToDict(result.outcome.outputs)["vars"] == {"n": 1}
    await fake_scheduler.log_reaches("j1", result.log_end_offset)
    assert "hello" in fake_scheduler.lines("j1")
    await cluster.until(lambda: not cluster.jobs)


async def test_the_example_of_the_readme_runs(fake_scheduler: FakeScheduler, cluster: KubernetesServer) -> None:
    (text,) = re.findall(r"^```yaml\n(id: in_a_cluster\n.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    assert read_flow(Source.of(text), KnownTypes()).flow is not None
    task = yaml.safe_load(text)["tasks"][0]
    properties = {name: value for name, value in task.items() if name not in ("id", "type")}
    properties["taskRunner"]["config"] = cluster.properties["config"]
    await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    session.assign(a_job("j7", type=task["type"], properties=properties))
    outcome = (await session.result("j7")).outcome
    assert outcome.state == SUCCESS
    assert list(MessageToDict(outcome.outputs)["outputFiles"]) == ["out.csv"]


async def test_a_script_runs_in_aws_batch(fake_scheduler: FakeScheduler, aws: AwsServer) -> None:
    await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    session.assign(a_job("j2", properties=a_script(aws.properties, "echo hello")))
    result = await session.result("j2")
    assert (result.outcome.state, result.outcome.exit_code) == (SUCCESS, 0)
    await fake_scheduler.log_reaches("j2", result.log_end_offset)
    assert fake_scheduler.lines("j2") == ["hello"]


async def test_a_kill_reaches_the_cluster(fake_scheduler: FakeScheduler, cluster: KubernetesServer) -> None:
    await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    job = a_job("j3", properties=a_script(cluster.properties, "sleep 1000"))
    session.assign(job)
    await cluster.until(lambda: cluster.state(job.fence) == "running")
    session.cancel("j3", grace=20)
    assert (await session.result("j3")).outcome.state == KILLED
    await cluster.until(lambda: not cluster.jobs)


async def test_a_client_that_is_killed_leaves_a_job_that_its_leash_ends(
    fake_scheduler: FakeScheduler, cluster: KubernetesServer
) -> None:
    await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    job = a_job("j4", properties=a_script(cluster.properties, "sleep 1000"))
    session.assign(job)
    await cluster.until(lambda: cluster.state(job.fence) == "running")
    session.cancel("j4", grace=0)
    assert (await session.result("j4")).outcome.state == KILLED
    cluster.forward(LEASH + 1)
    await cluster.until(lambda: cluster.node.running() == [])


async def test_a_cluster_that_refuses_fails_its_task_alone(
    fake_scheduler: FakeScheduler, cluster: KubernetesServer
) -> None:
    cluster.token = "another"
    await fake_scheduler.run_worker()
    session = await fake_scheduler.session()
    session.assign(a_job("j5", properties=a_script(cluster.properties, "true")), a_job("j6", "true"))
    outcome = (await session.result("j5")).outcome
    assert (outcome.state, outcome.reason) == (FAILED, "START_FAILED")
    assert "does not know this worker (401)" in outcome.message
    assert (await session.result("j6")).outcome.state == SUCCESS
