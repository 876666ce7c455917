"""A scheduler is killed where an execution takes its place, and where it hands it on: none is lost or given twice."""

import asyncio
from pathlib import Path

from farhand.api.registry.v1.flow_service_pb2 import CreateFlowRequest
from farhand.api.scheduler.v1.execution_service_pb2 import CreateExecutionRequest
from tests.e2e.test_execution_crash_points import ENDED, patiently, revive, until
from tests.fixtures.mesh import Mesh, Process
from tests.fixtures.scheduler_with_flows import state_of
from tests.tasks import SHELL


async def die_twice(process: Process, then: str) -> None:
    """Once it has died at its point: the same process with another, and then without one."""
    await process.ended(60)
    process.environment["FARHAND_CRASH_POINT"] = then
    await process.restart()
    await revive(process)


async def test_deaths_where_places_move_lose_none(mesh: Mesh, tmp_path: Path) -> None:
    await mesh.add_registry()
    scheduler = await mesh.add_scheduler(FARHAND_CRASH_POINT="place taken:2")
    await mesh.set_group("", lease=5.0)
    revival = asyncio.create_task(die_twice(scheduler, "places given"))
    await mesh.add_worker("", slots=3)
    file = tmp_path / "file"
    source = (
        "id: one\nnamespace: company\nconcurrency: {limit: 1}\ntasks:\n"
        f"  - {{id: only, type: {SHELL}, commands: ['echo start >> {file}; sleep 0.1; echo end >> {file}']}}\n"
    )
    await mesh.flows.CreateFlow(CreateFlowRequest(source=source))
    ids = [
        (
            await patiently(
                mesh,
                "CreateExecution",
                CreateExecutionRequest(namespace="company", flow_id="one", request_id=f"r{number}"),
            )
        ).execution.id
        for number in range(3)
    ]
    assert {state_of(await until(mesh, id, *ENDED)) for id in ids} == {"SUCCESS"}
    await revival
    assert file.read_text().split() == ["start", "end"] * 3
