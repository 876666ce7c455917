"""The flows that the reference document shows: each saves and runs unchanged, given its groups, files and inputs.

As a user does it: by the command line, against real services and workers. The
flows are those of tests/fixtures/flows, byte for byte as the document has them; three
of them have one name, so they are revisions of one flow.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command_line import Said, farhand
from tests.fixtures.mesh import Mesh

FLOWS = Path(__file__).parents[1] / "fixtures" / "flows"


class Desk:
    """Where somebody types commands for one mesh."""

    def __init__(self, mesh: Mesh) -> None:
        self._where = {"FARHAND_REGISTRY": mesh.registries[0].address, "FARHAND_SCHEDULER": mesh.schedulers[0].address}

    async def farhand(self, *arguments: str | Path) -> Said:
        return await farhand(*arguments, **self._where)

    async def done(self, *arguments: str | Path) -> Said:
        """A command that has to succeed."""
        said = await self.farhand(*arguments)
        assert said.exit_code == 0, said.all
        return said

    async def save(self, verb: str, name: str) -> None:
        """Save a flow of the document, which is found right first."""
        assert "fine" in (await self.done("flow", "validate", FLOWS / name)).all
        await self.done("flow", verb, FLOWS / name)

    async def groups(self, flow: str, *more: str) -> dict[str, tuple[str, str]]:
        """What `flow explain` says: group and the level it came from, by task."""
        said = await self.done("flow", "explain", flow, *more, "--output", "json")
        return {task["task_id"]: (task["worker_group"], task["worker_group_level"]) for task in json.loads(said.out)}

    async def ran(self, flow: str, *more: str) -> tuple[int, dict[str, Any]]:
        """Run a flow to its end: the exit code, and the execution."""
        said = await self.farhand("execution", "create", flow, *more, "--follow", "--output", "json")
        assert said.out, said.err
        return said.exit_code, json.loads(said.out)


@pytest.fixture
async def desk(mesh: Mesh) -> Desk:
    """A mesh with workers in the default group and in gpu."""
    await mesh.start(workers=["", "gpu"])
    return Desk(mesh)


def ends(execution: dict[str, Any]) -> dict[str, tuple[str, str, str]]:
    """State, group and worker of each task."""
    return {
        run["task_id"]: (run["state"].removeprefix("TASK_RUN_STATE_"), run["worker_group"], run["worker"])
        for run in execution["task_runs"]
    }


async def test_each_saves_and_runs_on_the_group_that_it_names(desk: Desk, tmp_path: Path) -> None:
    await desk.save("create", "literal_key.yaml")
    await desk.save("update", "fallback.yaml")
    await desk.save("update", "plugin_defaults.yaml")
    assert await desk.groups("company.team/worker_group", "--revision", "1") == {"wait": ("gpu", "task")}
    model = tmp_path / "ml_on_gpu.py"
    model.write_text("print('trained')")
    await desk.done("namespace", "files", "upload", "company.team", model)
    # Each of the first and the last sleeps for ten seconds.
    literal, fallback, defaults = await asyncio.gather(
        *(desk.ran("company.team/worker_group", "--revision", revision) for revision in "123")
    )
    for code, execution in (literal, fallback):
        assert (code, ends(execution)) == (0, {"wait": ("SUCCESS", "gpu", "gpu")})
    code, execution = defaults
    assert (code, ends(execution)) == (
        0,
        {"wait": ("SUCCESS", "gpu", "gpu"), "python_gpu": ("SUCCESS", "gpu", "gpu")},
    )
    assert (await desk.done("execution", "logs", execution["id"], "--task", "python_gpu")).out == "trained\n"


async def test_a_key_that_is_an_expression_goes_where_the_input_says(desk: Desk) -> None:
    await desk.save("create", "dynamic_key.yaml")
    flow = "company.team/worker_group_dynamic"
    assert await desk.groups(flow) == {"workerGroup": ("{{ inputs.my_worker_group }}", "task")}
    for given, group, worker in (("gpu", "gpu", "gpu"), ("", "", "default"), ("  ", "", "default")):
        code, execution = await desk.ran(flow, "--input", f"my_worker_group={given}")
        assert (code, ends(execution)) == (0, {"workerGroup": ("SUCCESS", group, worker)})
    code, execution = await desk.ran(flow, "--input", "my_worker_group=gqu")
    assert (code, ends(execution)["workerGroup"][0]) == (1, "FAILED")
    assert "There is no worker group 'gqu'. Did you mean 'gpu'?" in execution["message"]
    lines = (await desk.done("execution", "logs", execution["id"])).all
    assert "'gqu'" in lines and "'{{ inputs.my_worker_group }}'" in lines
    missing = await desk.farhand("execution", "create", flow)
    assert missing.exit_code == 1 and "my_worker_group" in missing.err


async def test_fail_ends_the_task_at_once_where_no_worker_is_available(desk: Desk, mesh: Mesh) -> None:
    await desk.save("create", "fallback.yaml")
    mesh.worker("gpu").terminate()
    await mesh.worker("gpu").ended()
    code, execution = await desk.ran("company.team/worker_group")
    assert (code, execution["state"], ends(execution)["wait"][0]) == (1, "EXECUTION_STATE_FAILED", "FAILED")
    assert "Worker group gpu" in (await desk.done("execution", "logs", execution["id"])).err


async def test_defaults_of_a_namespace_are_inherited_and_forced_ones_win(desk: Desk, tmp_path: Path) -> None:
    """`forced: false` is the document's; what is forced from outside wins over it and over the task."""
    await desk.save("create", "literal_key.yaml")
    await desk.done("worker-group", "create", "arm")
    await desk.done("namespace", "create", "company")
    file = tmp_path / "defaults.yaml"
    outer = "forced plugin defaults of namespace 'company'"
    for forced, expected in (("false", ("gpu", "task")), ("true", ("arm", outer))):
        values = "{workerGroup: {key: arm}}"
        file.write_text(f"- {{type: io.kestra.plugin.scripts, forced: {forced}, values: {values}}}\n")
        await desk.done("namespace", "update", "company", "--plugin-defaults", file)
        assert await desk.groups("company.team/worker_group") == {"wait": expected}
