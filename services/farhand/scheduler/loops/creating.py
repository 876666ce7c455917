"""An execution comes to be: by a call, by a trigger, from another execution. The one way, whoever wants it.

Inside of a transaction that the caller began, and in which it writes whatever is to be
true together with the execution: that a request is answered, that a tick has fired.
After the commit the caller tells it (`Signals.execution_due`). Several in one
transaction are created in the order of tenant, namespace and flow, since flows that
bound how many of their executions run are locked here (`store/places.sql`).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from asyncpg import Connection

from farhand.kernel.flow import Flow, part_secrets
from farhand.runtime.crash_points import reach
from farhand.runtime.telemetry import announce_span
from farhand.scheduler.core.execution import ExecutionState
from farhand.scheduler.core.places import Entry, enter, limit_of, why_not
from farhand.scheduler.loops.secret_inputs import SecretInputs
from farhand.scheduler.store.executions import NewExecution, create_execution, keep_flow
from farhand.scheduler.store.places import FlowName, count_places, give_places, hold_limit, take_place

_ENDED = {Entry.FAILS: ExecutionState.FAILED, Entry.CANCELLED: ExecutionState.KILLED}


@dataclass(frozen=True, slots=True)
class Creation:
    """An execution that is to be."""

    tenant: str
    flow: Flow
    revision: int
    definition: str  # the flow's, as the registry gave it
    inputs: Mapping[str, Any] = field(repr=False)  # as check_inputs gave them, with secrets as they are
    labels: Mapping[str, str]  # beside the flow's, which they win over
    trigger: Mapping[str, Any] | None = None  # what `trigger` is in its expressions; JSON
    parent: str = ""  # the traceparent that its trace goes on from
    restart_of: int | None = None  # the execution that it goes on from,
    replay_of: int | None = None  # or that it repeats
    started_by: "StartedBy | None" = None  # the trigger, if one does
    flow_key: int | None = None  # of the flow's revision, where the caller knows that it is kept


class StartedBy(NamedTuple):
    """The trigger that starts an execution. No two executions have the same tick or evaluation, unless that is None."""

    trigger_key: int
    tick_at: datetime | None = None
    backfill: int | None = None  # which of its backfills; 0: the calendar's own tick
    evaluation_job_key: int | None = None  # the evaluation that fired


async def create(connection: Connection, key: int, creation: Creation, secrets: SecretInputs) -> ExecutionState:
    """Create it under a key that was allotted to it (`allot_execution_key`), its secrets sealed. Answers the state in
    which it is: CREATED, and then it is due, or waits for its turn; FAILED or KILLED, where its flow's `concurrency`
    says so. Raises SecretsNeedKey."""
    flow = creation.flow
    inputs, secret = part_secrets(flow, creation.inputs)
    await secrets.seal(connection, creation.tenant, key, secret)
    flow_key = creation.flow_key or await _keep(connection, creation)
    ended, message = await _enter(connection, key, creation)
    await create_execution(
        connection,
        NewExecution(
            key,
            flow_key,
            creation.tenant,
            flow.namespace,
            flow.id,
            creation.revision,
            _json(inputs),
            _json({**flow.labels, **creation.labels}),
            None if creation.trigger is None else _json(creation.trigger),
            creation.restart_of,
            creation.replay_of,
            None if ended else announce_span(creation.parent) or None,  # what never runs has no trace
            creation.parent or None,
            ended,
            message,
            *(creation.started_by or ()),
        ),
    )
    return ended or ExecutionState.CREATED


async def _keep(connection: Connection, creation: Creation) -> int:
    flow, definition = creation.flow, creation.definition
    digest = hashlib.sha256(definition.encode()).digest()
    return await keep_flow(connection, creation.tenant, flow.namespace, flow.id, creation.revision, digest, definition)


async def _enter(connection: Connection, key: int, creation: Creation) -> tuple[ExecutionState | None, str | None]:
    """Its place, or its place in the line; or how it ends instead, and why."""
    name = FlowName(creation.tenant, creation.flow.namespace, creation.flow.id)
    held = await hold_limit(connection, name, limit_of(creation.flow, creation.revision))
    if held is None:
        return None, None
    await give_places(connection, [held.key])  # those that wait come first, where a newer revision allows more
    taken, waits = await count_places(connection, held.key)
    entry = enter(held.limit, taken=taken, waits=waits)
    if entry in _ENDED:
        return _ENDED[entry], why_not(held.limit, taken)
    await take_place(connection, held.key, key, waits=entry is Entry.WAITS)
    reach("place taken")
    return None, None


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
