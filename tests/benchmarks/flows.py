"""How long a list of a thousand flows takes, and how long saving them did, by the registry's API alone."""

import asyncio
import json
import time

from farhand.api.registry.v1 import flow_service_pb2 as api
from farhand.api.registry.v1.flow_service_pb2_grpc import FlowServiceStub
from farhand.runtime.database import connect
from tests.benchmarks.measures import Latencies, Rate
from tests.fixtures.mesh import Mesh

FLOWS = 1000
ROUNDS = 20
SOURCE = """\
id: flow-{number}
namespace: company.team-{team}
description: One of a thousand, as people write them
labels: {{team: "{team}", kind: benchmark}}
inputs:
  - {{id: name, type: STRING, defaults: you}}
tasks:
  - id: hello
    type: io.kestra.plugin.core.log.Log
    message: "Hello {{{{ inputs.name }}}}"
  - id: work
    type: io.kestra.plugin.scripts.shell.Commands
    commands: [echo working, sleep 1, "echo {{{{ inputs.name }}}}"]
"""

# The same answer by bare SQL: what PostgreSQL itself takes for the columns of a list.
LIST = """
SELECT r.tenant, r.namespace, r.id, r.revision, r.description, r.labels, r.saved_by, f.create_time, r.save_time
FROM registry.flow f JOIN registry.flow_revision r USING (tenant, namespace, id, revision)
WHERE f.tenant = 'main' AND NOT f.deleted ORDER BY r.namespace, r.id LIMIT 1001
"""


async def save(mesh: Mesh) -> Rate:
    """A thousand flows, eight callers."""
    flows = FlowServiceStub(mesh.channel(mesh.registries[0]))
    numbers = iter(range(FLOWS))

    async def caller() -> None:
        for number in numbers:
            source = SOURCE.format(number=number, team=number % 20)
            await flows.CreateFlow(api.CreateFlowRequest(source=source))

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(8)))
    return Rate(FLOWS, time.perf_counter() - began)


async def listed(mesh: Mesh) -> Latencies:
    """All of them in one page."""
    flows = FlowServiceStub(mesh.channel(mesh.registries[0]))
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        response = await flows.ListFlows(api.ListFlowsRequest(page_size=FLOWS))
        seconds.append(time.perf_counter() - began)
        if len(response.flows) != FLOWS or response.flows[0].labels["kind"] != "benchmark":
            raise RuntimeError("what is measured is not what was saved")
    return Latencies(seconds)


async def listed_bare(url: str) -> Latencies:
    """The same rows by raw asyncpg."""
    connection = await connect(url)
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        rows = await connection.fetch(LIST)
        labels = [json.loads(row["labels"]) for row in rows]
        seconds.append(time.perf_counter() - began)
        if len(labels) != FLOWS:
            raise RuntimeError("what is measured is not what was saved")
    await connection.close()
    return Latencies(seconds)
