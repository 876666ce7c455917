"""Executions that begin from another: a restart goes on from its failure, a replay repeats it.

What comes over is decided by core/takeover.py from the task runs as they stand, and is
written in the transaction that creates the new execution. That transaction holds the
old one's row, so upkeep can't forget it meanwhile; afterwards the rows that came over
keep the jobs, whose outputs and files they name.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from farhand.kernel.errors import InvalidArgument, NotEnded, NotFound, NothingFailed
from farhand.kernel.flow import Flow, check_inputs, part_secrets, secret_names
from farhand.kernel.job_id import execution_id
from farhand.runtime.crash_points import reach
from farhand.runtime.database import database_error
from farhand.scheduler.core import takeover
from farhand.scheduler.core.execution import FINAL, ExecutionState
from farhand.scheduler.core.flow_outline import outline
from farhand.scheduler.core.takeover import NOTHING, Takeover
from farhand.scheduler.loops.creating import Creation, create
from farhand.scheduler.loops.execution_requests import ExecutionRequest, recall, remember
from farhand.scheduler.loops.executions import FlowSource, Listener
from farhand.scheduler.loops.secret_inputs import SecretInputs
from farhand.scheduler.store.executions import allot_execution_key
from farhand.scheduler.store.repeats import Old, hold_old, read_old, read_old_runs, take_over


@dataclass(frozen=True, slots=True)
class Restart:
    """A restart that is asked for."""

    request: ExecutionRequest
    key: int  # the execution that failed
    parent: str  # a traceparent, or empty


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay that is asked for."""

    request: ExecutionRequest
    key: int  # the execution that is repeated
    from_task_id: str  # where it begins; empty: all of it runs again
    revision: int  # of the flow; 0: the one that ran
    inputs: Mapping[str, Any] = field(repr=False)  # instead of those of the same names
    parent: str


class Repeats:
    """See the module."""

    def __init__(self, pool: asyncpg.Pool, flows: FlowSource, listener: Listener, secret_inputs: SecretInputs) -> None:
        self._pool = pool
        self._flows = flows
        self._listener = listener
        self._secret_inputs = secret_inputs

    async def restart(self, order: Restart) -> int:
        """The key of the new execution, which is durable. Raises NotFound, NotEnded, NothingFailed, RequestIdReused,
        SecretsNeedKey, Unavailable."""
        try:
            if (known := await recall(self._pool, order.request, self._secret_inputs)) is not None:
                return known
            old, secrets = await self._read(order.key)
            _check_failed(old)
            # Its definition is kept here; but what was deleted is not run again.
            await self._flows.get(old.tenant, old.namespace, old.flow_id, old.revision)
            creation = Creation(
                old.tenant,
                Flow.from_json(old.definition),
                old.revision,
                old.definition,
                {**json.loads(old.inputs), **secrets},
                json.loads(old.labels),
                None if old.trigger is None else json.loads(old.trigger),
                order.parent,
                restart_of=order.key,
            )
            return await self._create(order.request, order.key, creation, None)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise database_error(error) or error from error

    async def replay(self, order: Replay) -> int:
        """The key of the new execution, which is durable. Raises InvalidArgument with a violation for each wrong
        input, and for a task from which no replay begins; NotReplayable, NotFound, NotEnded, RequestIdReused,
        SecretsNeedKey, Unavailable."""
        try:
            if (known := await recall(self._pool, order.request, self._secret_inputs)) is not None:
                return known
            old, secrets = await self._read(order.key)
            revision = order.revision or old.revision
            fetched = await self._flows.get(old.tenant, old.namespace, old.flow_id, revision)
            definition = old.definition if fetched.revision == old.revision else fetched.definition
            flow = Flow.from_json(definition)
            creation = Creation(
                old.tenant,
                flow,
                fetched.revision,
                definition,
                _inputs(flow, old, secrets, order.inputs),
                _labels(old),
                None if old.trigger is None else json.loads(old.trigger),
                order.parent,
                replay_of=order.key,
            )
            return await self._create(order.request, order.key, creation, order.from_task_id)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise database_error(error) or error from error

    async def _read(self, key: int) -> tuple[Old, dict[str, str]]:
        """What ended, and its secrets."""
        async with self._pool.acquire() as connection:
            old = await read_old(connection, key)
            secrets = {} if old is None else await self._secret_inputs.of(connection, old.tenant, key)
        if old is None:
            raise _forgotten(key)
        if old.state not in FINAL:
            id = execution_id(key)
            raise NotEnded(
                f"Execution {id} is {old.state}: it can be restarted or replayed once it has ended. "
                f"`farhand execution follow {id}` waits for that, `farhand execution kill {id}` ends it."
            )
        return old, secrets

    async def _create(self, request: ExecutionRequest, old: int, creation: Creation, from_task_id: str | None) -> int:
        """`from_task_id`: of a replay; None: a restart."""
        async with self._pool.acquire() as connection, connection.transaction():
            key = await allot_execution_key(connection)
            given = part_secrets(creation.flow, creation.inputs)[1]
            if (known := await remember(connection, request, key, given, self._secret_inputs)) != key:
                return known
            if not await hold_old(connection, old):
                raise _forgotten(old)
            over = await self._over(connection, old, creation, from_task_id)
            state = await create(connection, key, creation, self._secret_inputs)
            await take_over(connection, old, key, over, ended=state in FINAL)
            reach("execution taken over")
        reach("execution created")
        self._listener.execution_due(key)
        return key

    async def _over(
        self, connection: asyncpg.Connection, old: int, creation: Creation, from_task_id: str | None
    ) -> Takeover:
        if from_task_id == "":
            return NOTHING
        runs = await read_old_runs(connection, old)
        places = outline(creation.flow)
        if from_task_id is None:
            return takeover.restart(places, runs)
        return takeover.replay(creation.flow, places, runs, from_task_id, execution_id(old))


def _check_failed(old: Old) -> None:
    if old.state is ExecutionState.FAILED:
        return
    id = execution_id(old.key)
    again = f"`farhand execution replay {id}` runs it again, `--from TASK` from a task on."
    if old.state is ExecutionState.KILLED:
        raise NothingFailed(f"Execution {id} was killed: no task of it failed that a restart could go on from. {again}")
    raise NothingFailed(f"Execution {id} ended {old.state}: no task of it failed. {again}")


def _inputs(flow: Flow, old: Old, secrets: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, Any]:
    """The old ones that the flow still takes, and those given. A secret is taken over as one, or not at all: another
    revision may show what it takes under that name. Raises InvalidArgument."""
    taken = {each.id for each in flow.inputs} - (secrets.keys() - secret_names(flow))
    was = {**json.loads(old.inputs), **secrets}
    kept = {name: value for name, value in was.items() if name in taken}
    inputs, wrong = check_inputs(flow, {**kept, **given})
    if wrong:
        raise InvalidArgument.of(*wrong)
    return inputs


def _labels(old: Old) -> dict[str, str]:
    """Its own: those that did not come with its flow, which may have others by now."""
    came = Flow.from_json(old.definition).labels
    labels: dict[str, str] = json.loads(old.labels)
    return {name: value for name, value in labels.items() if came.get(name) != value}


def _forgotten(key: int) -> NotFound:
    return NotFound(f"Execution {execution_id(key)} was cleared away; `farhand execution list` shows those that are.")
