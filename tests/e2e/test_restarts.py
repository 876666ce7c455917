"""An execution is restarted and replayed by real processes, while the scheduler dies in the middle of it."""

import asyncio
import json
import re
from pathlib import Path

from farhand.api.registry.v1.flow_service_pb2 import CreateFlowRequest
from farhand.api.scheduler.v1.execution_service_pb2 import CreateExecutionRequest, RestartExecutionRequest
from tests.e2e.test_execution_crash_points import ENDED, patiently, revive, until
from tests.fixtures.command_line import farhand
from tests.fixtures.mesh import Mesh
from tests.fixtures.scheduler_with_flows import run_state, state_of
from tests.tasks import SHELL


def story(folder: Path) -> str:
    """`first` gives a file, `second` fails the first time, `third` reads the file."""
    return f"""
id: story
namespace: company
inputs: [{{id: word, type: STRING, defaults: hello}}]
tasks:
  - id: first
    type: {SHELL}
    commands: ['echo first >> {folder}/ran', 'echo "{{{{ inputs.word }}}}" > note']
    outputFiles: [note]
  - {{id: second, type: {SHELL}, commands: ['echo second >> {folder}/ran', 'test -e {folder}/mended']}}
  - id: third
    type: {SHELL}
    commands: ['echo third >> {folder}/ran', 'cat note >> {folder}/ran']
    inputFiles: {{note: "{{{{ outputs.first.outputFiles.note }}}}"}}
"""


async def test_a_restart_goes_on_from_the_failure_and_a_replay_from_a_task(mesh: Mesh, tmp_path: Path) -> None:
    await mesh.add_registry()
    scheduler = await mesh.add_scheduler(FARHAND_CRASH_POINT="execution taken over")
    await mesh.set_group("", lease=5.0)
    revival = asyncio.create_task(revive(scheduler))
    await mesh.add_worker("", slots=3)
    await mesh.flows.CreateFlow(CreateFlowRequest(source=story(tmp_path)))
    create = CreateExecutionRequest(namespace="company", flow_id="story")
    old = (await patiently(mesh, "CreateExecution", create)).execution
    assert state_of(await until(mesh, old.id, *ENDED)) == "FAILED"
    (tmp_path / "mended").touch()
    restart = RestartExecutionRequest(id=old.id, request_id="once")
    new = (await patiently(mesh, "RestartExecution", restart)).execution
    ended = await until(mesh, new.id, *ENDED)
    await revival
    assert [(run.task_id, run_state(run), run.taken_from) for run in ended.task_runs] == [
        ("first", "SUCCESS", old.id),
        ("second", "SUCCESS", ""),
        ("third", "SUCCESS", ""),
    ]
    assert (tmp_path / "ran").read_text().split() == ["first", "second", "second", "third", "hello"]

    server = ("--scheduler", scheduler.address)
    said = await farhand("execution", "get", new.id, *server)
    assert re.search(rf"^restart of +{old.id}$", said.out, re.M) and f"taken over from {old.id}" in said.out, said.all
    assert (await farhand("execution", "files", new.id, "--get", "note", *server)).out == "hello\n"
    said = await farhand("execution", "replay", new.id, "--from", "third", "--follow", *server)
    assert said.exit_code == 0 and "third SUCCESS" in said.err, said.all
    said = await farhand("execution", "replay", new.id, "--input", "word=bye", "--follow", "--output", "json", *server)
    assert said.exit_code == 0 and json.loads(said.out)["replay_of"] == new.id, said.all
    lines = (tmp_path / "ran").read_text().split()[5:]
    assert lines == ["third", "hello", "first", "second", "third", "bye"]
