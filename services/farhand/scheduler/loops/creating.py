"""An execution comes to be: by a call, by a trigger, from another execution. The one way, whoever wants it.

Inside of a transaction that the caller began, and in which it writes whatever is to be
true together with the execution: that a request is answered, that a tick has fired.
After the commit the caller tells it (`Signals.execution_due`).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asyncpg import Connection

from farhand.kernel.flow import Flow
from farhand.runtime.telemetry import announce_span
from farhand.scheduler.core.execution import ExecutionState
from farhand.scheduler.store.executions import NewExecution, create_execution, keep_flow


@dataclass(frozen=True, slots=True)
class Creation:
    """An execution that is to be."""

    tenant: str
    flow: Flow
    revision: int
    definition: str  # the flow's, as the registry gave it
    inputs: Mapping[str, Any]  # as check_inputs gave them
    labels: Mapping[str, str]  # beside the flow's, which they win over
    trigger: Mapping[str, Any] | None = None  # what `trigger` is in its expressions; JSON
    parent: str = ""  # the traceparent that its trace goes on from


async def create(connection: Connection, key: int, creation: Creation) -> ExecutionState:
    """Create it under a key that was allotted to it (`allot_execution_key`). Answers the state in which it is:
    CREATED, and then it is due."""
    flow = creation.flow
    digest = hashlib.sha256(creation.definition.encode()).digest()
    flow_key = await keep_flow(
        connection, creation.tenant, flow.namespace, flow.id, creation.revision, digest, creation.definition
    )
    await create_execution(
        connection,
        NewExecution(
            key,
            flow_key,
            creation.tenant,
            flow.namespace,
            flow.id,
            creation.revision,
            _json(creation.inputs),
            _json({**flow.labels, **creation.labels}),
            None if creation.trigger is None else _json(creation.trigger),
            announce_span(creation.parent) or None,
            creation.parent or None,
        ),
    )
    return ExecutionState.CREATED


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
