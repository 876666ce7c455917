"""Polling triggers on real processes: evaluated in the group that they name, nothing that they saw lost or doubled."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farhand.api.registry.v1 import flow_service_pb2
from farhand.api.scheduler.v1 import execution_pb2, execution_service_pb2, trigger_pb2, trigger_service_pb2
from farhand.api.scheduler.v1.trigger_service_pb2_grpc import TriggerServiceStub
from tests.architecture.repository import ROOT
from tests.e2e.test_triggers import dies
from tests.fixtures.http_server import Server, answer
from tests.fixtures.mesh import Mesh

SECONDS = 60.0
HTTP = "io.kestra.plugin.core.http.Trigger"
SUCCESS = execution_pb2.EXECUTION_STATE_SUCCESS
FIRED = trigger_pb2.TRIGGER_RESULT_FIRED
NOTHING = trigger_pb2.TRIGGER_RESULT_NOTHING
FAILED = trigger_pb2.TRIGGER_RESULT_FAILED
SKIPPED = trigger_pb2.TRIGGER_RESULT_SKIPPED


def of_the_readme(folder: Path) -> str:
    """The flow that the README shows, for a folder of the test's."""
    text = ROOT.joinpath("README.md").read_text()
    found = re.search(r"```yaml\n(id: inbox\n.*?)```", text, re.DOTALL)
    assert found
    return found[1].replace("/data/", f"{folder}/")


def polls(uri: str, *more: str, id: str = "polls") -> str:
    lines = "".join(f"\n    {line}" for line in more)
    return f"""\
id: {id}
namespace: company.team
inputs: [{{id: said, type: STRING}}]
tasks: [{{id: tell, type: io.kestra.plugin.core.debug.Return, format: "{{{{ inputs.said }}}} {{{{ trigger.code }}}}"}}]
triggers:
  - id: t
    type: {HTTP}
    uri: {uri}
    inputs: {{said: "{{{{ trigger.body }}}}"}}{lines}
"""


class Watch:
    """Flows, their triggers, and the executions that those started."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh

    async def save(self, source: str) -> None:
        await self.mesh.flows.CreateFlow(flow_service_pb2.CreateFlowRequest(source=source))

    async def executions(self, flow: str) -> list[execution_pb2.Execution]:
        request = execution_service_pb2.ListExecutionsRequest(namespace="company.team", flow_id=flow)
        return list((await self.mesh.executions.ListExecutions(request)).executions)

    async def ended(self, flow: str, count: int) -> list[execution_pb2.Execution]:
        """The first so many, once they have succeeded."""
        async with asyncio.timeout(SECONDS):
            while True:
                found = await self.executions(flow)
                if len(found) >= count and all(one.state == SUCCESS for one in found):
                    return found
                await asyncio.sleep(0.05)

    async def trigger(
        self, flow: str, there: Callable[[trigger_pb2.Trigger], Any], id: str = "t"
    ) -> trigger_pb2.Trigger:
        """A trigger, once it is so."""
        stub = TriggerServiceStub(self.mesh.channel(self.mesh.schedulers[0]))
        name = trigger_service_pb2.TriggerName(namespace="company.team", flow_id=flow, trigger_id=id)
        async with asyncio.timeout(SECONDS):
            while True:
                found = await stub.ListTriggers(
                    trigger_service_pb2.ListTriggersRequest(namespace="company.team", flow_id=flow)
                )
                for one in found.triggers:
                    if one.trigger_id == name.trigger_id and there(one):
                        return one
                await asyncio.sleep(0.05)


@pytest.fixture
async def watch(mesh: Mesh) -> Watch:
    await mesh.start(workers=["", "edge"])
    return Watch(mesh)


async def files(watch: Watch, tmp_path: Path) -> None:
    """Each file of a folder of the group starts one execution, which has it anywhere, and is moved after that."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.csv").write_text(f"{number}\n")
    (folder / "half.part").write_text("x")
    await watch.save(of_the_readme(tmp_path))
    await watch.ended("inbox", 3)
    await watch.trigger("inbox", lambda one: one.last_result == NOTHING and not one.job_id, "arrives")
    assert len(await watch.ended("inbox", 3)) == 3
    assert sorted(path.name for path in folder.glob("*.*")) == ["half.part"]
    assert sorted(path.name for path in (tmp_path / "done").iterdir()) == ["0.csv", "1.csv", "2.csv"]


async def answers(watch: Watch, http_server: Server) -> None:
    """An answer starts an execution with inputs made of it."""
    http_server.answers["/x"] = answer(b"ready", "202 Accepted")
    condition = "responseCondition: \"{{ response.body == 'ready' and response.statusCode == 202 }}\""
    await watch.save(polls(f"{http_server.uri}/x", condition, "interval: PT1H", "workerGroup: {key: edge}"))
    [execution] = await watch.ended("polls", 1)
    assert execution.flow_revision == 1
    trigger = await watch.trigger("polls", lambda one: one.last_result == FIRED)
    assert trigger.message == "the server answered 202 Accepted" and trigger.last_execution_id == execution.id
    assert not trigger.job_id and trigger.HasField("next_time")


async def troubles(watch: Watch, http_server: Server) -> None:
    """An evaluation that hangs or fails is told on its trigger, and harms nothing."""
    hangs = asyncio.Event()

    async def silent(writer: asyncio.StreamWriter) -> None:
        await hangs.wait()

    http_server.answers["/hangs"] = silent
    await watch.save(polls(f"{http_server.uri}/hangs", "timeout: PT0.5S", "interval: PT1H", id="hangs"))
    await watch.save(polls("http://127.0.0.1:1/", "interval: PT1H", id="refused"))
    told = await watch.trigger("hangs", lambda one: one.last_result == FAILED)
    assert told.message == "the task ran longer than its timeout of 500ms (TIMEOUT)" and not told.job_id
    told = await watch.trigger("refused", lambda one: one.last_result == FAILED)
    assert told.message == "GET http://127.0.0.1:1/: can't connect: Connection refused (REQUEST_FAILED)"
    http_server.answers["/fine"] = answer(b"x")
    await watch.save(polls(f"{http_server.uri}/fine", "interval: PT1H", id="fine"))
    assert len(await watch.ended("fine", 1)) == 1
    hangs.set()


async def test_triggers_are_evaluated_in_their_group_and_start_one_execution_for_what_they_saw(
    watch: Watch, http_server: Server, tmp_path: Path
) -> None:
    await asyncio.gather(files(watch, tmp_path), answers(watch, http_server), troubles(watch, http_server))


async def deaths(watch: Watch, http_server: Server) -> None:
    """A worker and a scheduler die in the middle of an evaluation."""
    mesh = watch.mesh
    asked = asyncio.Queue[asyncio.StreamWriter]()
    free = asyncio.Event()

    async def slow(writer: asyncio.StreamWriter) -> None:
        asked.put_nowait(writer)
        await free.wait()
        writer.write(answer(b"x"))

    http_server.answers["/slow"] = slow
    await watch.save(polls(f"{http_server.uri}/slow", "interval: PT1H", "workerGroup: {key: edge}"))
    async with asyncio.timeout(SECONDS):
        await asked.get()
        first = await watch.trigger("polls", lambda one: one.worker == "edge")
        mesh.worker("edge").kill()
        await mesh.worker("edge").restart()
        await asked.get()  # the same evaluation, again
        mesh.schedulers[0].kill()
        await mesh.schedulers[0].restart()
    free.set()
    await watch.ended("polls", 1)
    done = await watch.trigger("polls", lambda one: one.last_result == FIRED)
    assert first.job_id and not done.job_id
    assert len(await watch.executions("polls")) == 1


async def deaths_of_schedulers(watch: Watch, http_server: Server) -> None:
    """A scheduler dies at each place in an evaluation's way; what each answer said starts one execution."""
    scheduler, said = watch.mesh.schedulers[0], 0

    async def count(writer: asyncio.StreamWriter) -> None:
        nonlocal said
        said += 1
        writer.write(answer(str(said).encode()))

    http_server.answers["/count"] = count
    await watch.save(polls(f"{http_server.uri}/count", "interval: PT1S", "allowConcurrent: true", id="counts"))
    await watch.trigger("counts", lambda one: one.last_result == FIRED)
    scheduler.kill()
    for point in ("evaluations queued", "ticks written"):
        await dies(scheduler, point)
    del scheduler.environment["FARHAND_CRASH_POINT"]
    await scheduler.restart()
    wanted = said + 2
    async with asyncio.timeout(SECONDS):
        while len(await watch.executions("counts")) < wanted:
            await asyncio.sleep(0.1)
    found = []
    for one in await watch.executions("counts"):
        request = execution_service_pb2.GetExecutionRequest(id=one.id)
        found.append(int(str((await watch.mesh.executions.GetExecution(request)).execution.inputs["said"])))
    assert sorted(found) == list(range(1, len(found) + 1))


async def absences(watch: Watch, http_server: Server) -> None:
    """The group has no worker: the fallback says what becomes of evaluations."""
    http_server.answers["/x"] = answer(b"x")
    mesh = watch.mesh
    mesh.worker("edge").terminate()
    await mesh.worker("edge").ended()
    for fallback in ("FAIL", "CANCEL", "WAIT"):
        group = f"workerGroup: {{key: edge, fallback: {fallback}}}"
        await watch.save(polls(f"{http_server.uri}/x", "interval: PT1H", group, id=fallback.lower()))
    for fallback in ("FAIL", "CANCEL"):
        told = await watch.trigger(fallback.lower(), lambda one: one.last_result == SKIPPED)
        assert told.message == f"Worker group edge has no available worker, and the job's fallback is {fallback}."
        assert not told.job_id
    waits = await watch.trigger("wait", lambda one: one.job_id)
    assert not waits.worker
    await mesh.worker("edge").restart()
    assert len(await watch.ended("wait", 1)) == 1
    assert await watch.executions("fail") == await watch.executions("cancel") == []


async def test_nothing_is_lost_or_doubled_by_deaths_and_absences(watch: Watch, http_server: Server) -> None:
    await deaths(watch, http_server)
    await deaths_of_schedulers(watch, http_server)
    await absences(watch, http_server)
