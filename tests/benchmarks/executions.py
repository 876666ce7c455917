"""What is measured of executions, from outside: by the API alone."""

import asyncio
import time

from google.protobuf.timestamp_pb2 import Timestamp

from farhand.api.registry.v1.flow_service_pb2 import CreateFlowRequest
from farhand.api.scheduler.v1 import execution_pb2
from farhand.api.scheduler.v1.execution_service_pb2 import (
    CreateExecutionRequest,
    ListExecutionsRequest,
    WatchExecutionRequest,
)
from farhand.kernel.flow.tasks import PARALLEL
from tests.benchmarks.measures import Latencies, Rate
from tests.fixtures.mesh import Mesh
from tests.tasks import NOOP

NAMESPACE = "bench"
PARALLEL_TASKS = 100
TASKS = 10  # of a sequence
SEQUENCES = 100  # that run at a time
ROUNDS = 10
CALLERS = 32


class Executions:
    """See the module. The mesh has a worker of the default group with slots for all, and none of "elsewhere"."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    async def prepare(self) -> None:
        """Save the flows, and run each once."""
        tasks = "".join(f"      - id: t{number}\n        type: {NOOP}\n" for number in range(PARALLEL_TASKS))
        await self._save(f"id: parallel\ntasks:\n  - id: all\n    type: {PARALLEL}\n    tasks:\n{tasks}")
        tasks = "".join(f"  - id: t{number}\n    type: {NOOP}\n" for number in range(TASKS))
        await self._save(f"id: sequence\ntasks:\n{tasks}")
        await self._save(
            f"id: waiting\ntasks:\n  - id: only\n    type: {NOOP}\n    workerGroup:\n      key: elsewhere\n"
        )
        for flow in ("parallel", "sequence"):
            await self._run(flow)

    async def parallel(self) -> Latencies:
        """From before the creation until the end is known, one execution after another."""
        seconds = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            await self._run("parallel")
            seconds.append(time.perf_counter() - began)
        return Latencies(seconds)

    async def rate(self) -> Rate:
        """Task runs of many sequences at once, from the first creation until the last end."""
        created = Timestamp()
        created.GetCurrentTime()
        began = time.perf_counter()
        await self._create("sequence", SEQUENCES)
        request = ListExecutionsRequest(
            namespace=NAMESPACE, flow_id="sequence", created_after=created, page_size=SEQUENCES
        )
        while True:
            executions = (await self._mesh.executions.ListExecutions(request)).executions
            if len(executions) == SEQUENCES and all(execution.HasField("end_time") for execution in executions):
                return Rate(SEQUENCES * TASKS, time.perf_counter() - began)
            await asyncio.sleep(0.05)

    async def fill(self, count: int) -> None:
        """Executions that run, and wait for a worker that never comes."""
        await self._create("waiting", count)

    async def _create(self, flow: str, count: int) -> None:
        left = iter(range(count))

        async def caller() -> None:
            for _ in left:
                await self._mesh.executions.CreateExecution(CreateExecutionRequest(namespace=NAMESPACE, flow_id=flow))

        await asyncio.gather(*(caller() for _ in range(CALLERS)))

    async def _save(self, source: str) -> None:
        await self._mesh.flows.CreateFlow(CreateFlowRequest(source=f"namespace: {NAMESPACE}\n{source}"))

    async def _run(self, flow: str) -> None:
        request = CreateExecutionRequest(namespace=NAMESPACE, flow_id=flow)
        execution = (await self._mesh.executions.CreateExecution(request)).execution
        async for response in self._mesh.executions.WatchExecution(WatchExecutionRequest(id=execution.id)):
            execution = response.execution
        if execution.state != execution_pb2.EXECUTION_STATE_SUCCESS:
            raise RuntimeError(f"what is measured must succeed, and did not: {execution.message}")
