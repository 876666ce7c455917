"""The demo's flow: two counts side by side on two worker groups, and a task that puts them together."""

from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from farhand.api.registry.v1.flow_service_pb2 import CreateFlowRequest
from farhand.api.registry.v1.flow_service_pb2_grpc import FlowServiceStub
from farhand.api.scheduler.v1.execution_service_pb2 import (
    CreateExecutionRequest,
    GetExecutionRequest,
    WatchExecutionRequest,
)
from farhand.api.scheduler.v1.execution_service_pb2_grpc import ExecutionServiceStub
from farhand.cli.demo_story import standard_library
from farhand.cli.execution_view import ENDED, TREE_HEADERS, state_name, tree_rows
from farhand.cli.failure import CommandFailed, remote_failure
from farhand.cli.render import columns, document
from farhand.runtime.grpc_channel import make_channel
from farhand.runtime.settings import DialSettings

if TYPE_CHECKING:
    from farhand.api.scheduler.v1.execution_pb2 import Execution
    from farhand.api.scheduler.v1.execution_service_pb2_grpc import ExecutionServiceAsyncStub

SOURCE = """\
id: counts
namespace: farhand.demo
inputs:
  - {id: folder, type: STRING}
tasks:
  - id: both
    type: io.kestra.plugin.core.flow.Parallel
    tasks:
      - id: lines
        type: io.kestra.plugin.scripts.shell.Commands
        commands:
          - cd '{{ inputs.folder }}'
          - echo "::{\\"outputs\\":{\\"count\\":$(cat ./*.py | wc -l)}}::"
      - id: bytes
        type: io.kestra.plugin.scripts.python.Script
        workerGroup: {key: gpu, fallback: FAIL}
        script: |
          import json, pathlib
          count = sum(path.stat().st_size for path in pathlib.Path('{{ inputs.folder }}').glob('*.py'))
          print('::' + json.dumps({'outputs': {'count': count}}) + '::')
  - id: together
    type: io.kestra.plugin.core.debug.Return
    format: "{{ outputs.lines.vars.count }} lines, {{ outputs.bytes.vars.count }} bytes"
"""
_DEADLINE = 30.0  # seconds for a call that does not wait


async def tell(registry: str, scheduler: str) -> None:
    """Save it, run it, show what became of it. CommandFailed where it does not end well, or counted wrongly."""
    print("\nThe same by a flow: lines on the default group, bytes on gpu, side by side; then both together.\n")
    dialled, address = "registry", registry
    try:
        async with make_channel(registry, DialSettings()) as channel:
            await FlowServiceStub(channel).CreateFlow(CreateFlowRequest(source=SOURCE), timeout=_DEADLINE)
        dialled, address = "scheduler", scheduler
        async with make_channel(scheduler, DialSettings()) as channel:
            ended = await _run(ExecutionServiceStub(channel))
    except grpc.aio.AioRpcError as error:
        raise remote_failure(error, dialled, address) from None
    print("\n".join(columns([TREE_HEADERS, *tree_rows(ended)])), flush=True)
    if state_name(ended.state) != "SUCCESS":
        raise CommandFailed(f"The flow's execution ended {state_name(ended.state)}: {ended.message}")
    said = next(document(run)["outputs"]["value"] for run in ended.task_runs if run.task_id == "together")
    files = [path.read_bytes() for path in standard_library() if path.suffix == ".py"]
    lines = sum(file.count(b"\n") for file in files)
    expected = f"{lines} lines, {sum(map(len, files))} bytes"
    if said != expected:
        raise CommandFailed(f"The flow counted {said}, but the files have {expected}.")
    print(f"\nIt says: {said}. Counted again here: right.", flush=True)


async def _run(executions: "ExecutionServiceAsyncStub") -> "Execution":
    request = CreateExecutionRequest(namespace="farhand.demo", flow_id="counts")
    request.inputs["folder"] = str(_folder())
    id = (await executions.CreateExecution(request, timeout=_DEADLINE)).execution.id
    async for answer in executions.WatchExecution(WatchExecutionRequest(id=id)):
        if state_name(answer.execution.state) in ENDED:
            break
    return (await executions.GetExecution(GetExecutionRequest(id=id), timeout=_DEADLINE)).execution


def _folder() -> Path:
    return standard_library()[0].parent
