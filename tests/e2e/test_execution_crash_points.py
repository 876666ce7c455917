"""A scheduler is killed at every named place in the way of an execution; the execution ends as it should, and each
task of it ran once.

Each task writes its starts and ends. A flow of sequence, parallel and retry is run
by a scheduler that dies at the place the first, second, … time that it comes there,
with another beside it or alone until it is started again.
"""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from farhand.api.registry.v1.flow_service_pb2 import CreateFlowRequest
from farhand.api.scheduler.v1 import execution_pb2
from farhand.api.scheduler.v1.execution_service_pb2 import (
    CreateExecutionRequest,
    GetExecutionRequest,
    KillExecutionRequest,
)
from farhand.kernel.flow.tasks import PARALLEL
from farhand.runtime.crash_points import POINTS
from tests.e2e.test_crash_points import OF_EXECUTIONS
from tests.fixtures.mesh import Mesh, Process
from tests.fixtures.scheduler_with_flows import run_state, state_of
from tests.tasks import SHELL

ENDED = ("SUCCESS", "WARNING", "FAILED", "KILLED")
# Below, and in tests of their own.
ELSEWHERE = {"execution kill marked", "execution created", "execution taken over", "place taken", "places given"}
TASKS = ("first", "left", "right", "flaky", "last")


def story(folder: Path) -> str:
    """A flow whose tasks write what they do; `flaky` fails the first time."""

    def task(id: str, indent: str, end: str = "true", more: str = "") -> str:
        file = folder / id
        script = f"echo start >> {file}; sleep 0.2; echo end >> {file}; {end}"
        lines = [
            f"- id: {id}",
            f"  type: {SHELL}",
            f"  commands: ['{script}']",
            *(f"  {line}" for line in more.splitlines()),
        ]
        return "".join(f"{indent}{line}\n" for line in lines)

    flaky = f"test $(grep -c start {folder / 'flaky'}) -gt 1"
    return (
        "id: story\nnamespace: company\ntasks:\n"
        + task("first", "  ")
        + f"  - id: both\n    type: {PARALLEL}\n    tasks:\n"
        + task("left", "      ")
        + task("right", "      ")
        + task("flaky", "  ", flaky, "retry:\n  type: constant\n  interval: PT0.1S\n  maxAttempts: 3")
        + task("last", "  ")
    )


async def revive(process: Process) -> None:
    """Once it has died at its point: the same process without one."""
    await process.ended(60)
    process.environment.pop("FARHAND_CRASH_POINT")
    await process.restart()


async def patiently(mesh: Mesh, method: str, request: object) -> Any:
    """Call until a scheduler is there to answer."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await getattr(mesh.executions, method)(request, timeout=15)
            except grpc.aio.AioRpcError as error:
                assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED), error
                await asyncio.sleep(0.05)


async def until(mesh: Mesh, id: str, *states: str) -> execution_pb2.Execution:
    while True:
        execution: execution_pb2.Execution = (
            await patiently(mesh, "GetExecution", GetExecutionRequest(id=id))
        ).execution
        if state_of(execution) in states:
            return execution
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("time", [1, 3])
@pytest.mark.parametrize("point", sorted({*OF_EXECUTIONS} - ELSEWHERE))
async def test_a_death_in_a_step_runs_every_task_once(mesh: Mesh, tmp_path: Path, point: str, time: int) -> None:
    await mesh.add_registry()
    scheduler = await mesh.add_scheduler(FARHAND_CRASH_POINT=f"{point}:{time}")
    await mesh.set_group("", lease=5.0)
    revival = asyncio.create_task(revive(scheduler))
    await mesh.add_worker("", slots=3)
    await mesh.flows.CreateFlow(CreateFlowRequest(source=story(tmp_path)))
    create = CreateExecutionRequest(namespace="company", flow_id="story", request_id="once")
    execution = (await patiently(mesh, "CreateExecution", create)).execution
    ended = await until(mesh, execution.id, *ENDED)
    await revival
    assert state_of(ended) == "SUCCESS", ended
    assert [(run.task_id, run.attempt, run_state(run)) for run in ended.task_runs if run.task_id == "flaky"] == [
        ("flaky", 1, "FAILED"),
        ("flaky", 2, "SUCCESS"),
    ]
    for id in TASKS:
        lines = (tmp_path / id).read_text().split()
        assert lines == ["start", "end"] * (2 if id == "flaky" else 1), (id, lines)


async def test_a_death_after_a_creation_loses_nothing_and_the_repeated_call_makes_no_other(
    mesh: Mesh, tmp_path: Path
) -> None:
    await mesh.add_registry()
    scheduler = await mesh.add_scheduler(FARHAND_CRASH_POINT="execution created")
    await mesh.set_group("", lease=5.0)
    revival = asyncio.create_task(revive(scheduler))
    await mesh.add_worker("", slots=3)
    await mesh.flows.CreateFlow(CreateFlowRequest(source=story(tmp_path)))
    create = CreateExecutionRequest(namespace="company", flow_id="story", request_id="once")
    execution = (await patiently(mesh, "CreateExecution", create)).execution
    await revival
    assert state_of(await until(mesh, execution.id, *ENDED)) == "SUCCESS"
    assert (tmp_path / "last").read_text().split() == ["start", "end"]


async def test_another_replica_goes_on_where_one_died(mesh: Mesh, tmp_path: Path) -> None:
    await mesh.add_registry()
    await mesh.add_scheduler()
    dying = await mesh.add_scheduler(FARHAND_CRASH_POINT="step written:2")
    await mesh.set_group("", lease=5.0)
    await mesh.add_worker("", slots=3, scheduler=dying)  # so that this one records the results
    await mesh.add_worker("", slots=3)
    await mesh.flows.CreateFlow(CreateFlowRequest(source=story(tmp_path)))
    create = CreateExecutionRequest(namespace="company", flow_id="story")
    execution = (await patiently(mesh, "CreateExecution", create)).execution
    assert state_of(await until(mesh, execution.id, *ENDED)) == "SUCCESS"
    for id in TASKS:
        lines = (tmp_path / id).read_text().split()
        assert lines.count("end") == (2 if id == "flaky" else 1), (id, lines)


async def test_a_death_while_a_kill_is_carried_out_kills_all_the_same(mesh: Mesh, tmp_path: Path) -> None:
    await mesh.add_registry()
    scheduler = await mesh.add_scheduler(FARHAND_CRASH_POINT="execution kill marked")
    await mesh.set_group("", lease=5.0)
    revival = asyncio.create_task(revive(scheduler))
    await mesh.add_worker("", slots=1)
    source = (
        "id: long\nnamespace: company\ntasks:\n"
        f"  - id: both\n    type: {PARALLEL}\n    tasks:\n"
        f"      - id: a\n        type: {SHELL}\n        commands: ['echo start >> {tmp_path / 'a'}; sleep 600']\n"
        f"      - id: b\n        type: {SHELL}\n        commands: ['echo start >> {tmp_path / 'b'}; sleep 600']\n"
        f"  - id: never\n    type: {SHELL}\n    commands: ['echo start >> {tmp_path / 'never'}']\n"
    )
    await mesh.flows.CreateFlow(CreateFlowRequest(source=source))
    create = CreateExecutionRequest(namespace="company", flow_id="long")
    execution = (await patiently(mesh, "CreateExecution", create)).execution
    while not (tmp_path / "a").exists() and not (tmp_path / "b").exists():
        await asyncio.sleep(0.02)
    await patiently(mesh, "KillExecution", KillExecutionRequest(id=execution.id))
    await revival
    ended = await until(mesh, execution.id, *ENDED)
    assert state_of(ended) == "KILLED", ended
    assert {run_state(run) for run in ended.task_runs} == {"KILLED"}
    assert not (tmp_path / "never").exists()
    assert len([name for name in "ab" if (tmp_path / name).exists()]) == 1


def test_every_place_of_an_execution_is_one_of_a_scheduler() -> None:
    assert {POINTS[point].split(":")[0] for point in OF_EXECUTIONS} == {"scheduler"}
