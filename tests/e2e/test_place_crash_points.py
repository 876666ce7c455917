"""A scheduler is killed where an execution takes its place, and where it hands it on: none is lost or given twice."""

import asyncio
from pathlib import Path

import pytest

from farhand.api.registry.v1.flow_service_pb2 import CreateFlowRequest
from farhand.api.scheduler.v1.execution_service_pb2 import CreateExecutionRequest
from tests.e2e.test_execution_crash_points import ENDED, patiently, revive, until
from tests.fixtures.mesh import Mesh
from tests.fixtures.scheduler_with_flows import state_of
from tests.tasks import SHELL


@pytest.mark.parametrize("point", ["place taken:2", "places given"])
async def test_a_death_where_places_move_loses_none(mesh: Mesh, tmp_path: Path, point: str) -> None:
    await mesh.add_registry()
    scheduler = await mesh.add_scheduler(FARHAND_CRASH_POINT=point)
    await mesh.set_group("", lease=5.0)
    revival = asyncio.create_task(revive(scheduler))
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
