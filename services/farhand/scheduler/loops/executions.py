"""Executions begin, and are asked to end. What happens between is done by steps.

A creation asks the registry for the flow, checks the inputs, and commits the
execution with the row that says that it is due. A kill is recorded on the execution
first; it is acknowledged when a step has carried it to every job and the workers
have confirmed that nothing starts any more, as with the kill of a job (P9).
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import asyncpg

from farhand.kernel.errors import InvalidArgument, Unavailable
from farhand.kernel.flow import Flow, check_inputs, part_secrets
from farhand.runtime.crash_points import reach
from farhand.runtime.database import database_error
from farhand.scheduler.core.execution import FINAL, ExecutionState
from farhand.scheduler.loops.changes import Changes, ExecutionWatch
from farhand.scheduler.loops.creating import Creation, create
from farhand.scheduler.loops.execution_requests import ExecutionRequest, recall, remember
from farhand.scheduler.loops.flow_source import FetchedFlow
from farhand.scheduler.loops.secret_inputs import SecretInputs
from farhand.scheduler.store.executions import (
    allot_execution_key,
    ask_kill,
    read_kill,
)

KEPT = 256  # parsed flows
STEP_SECONDS = 10.0  # that a kill waits for the step that obeys it
CONFIRM_SECONDS = 2.0  # and then for the workers
POLL_SECONDS = 0.25


class FlowSource(Protocol):
    """Whoever keeps the flows."""

    async def get(self, tenant: str, namespace: str, flow_id: str, revision: int) -> FetchedFlow:
        """A revision; 0: the newest. Raises NotFound, Unavailable."""


class Listener(Protocol):
    """Who wants to know."""

    def execution_due(self, key: int) -> None:
        """This execution was created, or is to be ended."""


@dataclass(frozen=True, slots=True)
class Order:
    """An execution that is asked for."""

    request: ExecutionRequest
    namespace: str
    flow_id: str
    revision: int  # 0: the newest
    inputs: Mapping[str, Any] = field(repr=False)
    labels: Mapping[str, str]
    parent: str  # a traceparent, or empty


class Executions:
    """See the module."""

    def __init__(
        self, pool: asyncpg.Pool, flows: FlowSource, changes: Changes, listener: Listener, secrets: SecretInputs
    ) -> None:
        self._pool = pool
        self._flows = flows
        self._secrets = secrets
        self._changes = changes
        self._listener = listener
        self._flows_by_digest: OrderedDict[bytes, Flow] = OrderedDict()

    async def create(self, order: Order) -> int:
        """The key of the execution, which is durable. Raises InvalidArgument with a violation for each wrong input,
        NotFound, RequestIdReused, SecretsNeedKey, Unavailable."""
        try:
            if (known := await recall(self._pool, order.request, self._secrets)) is not None:
                return known
            fetched = await self._flows.get(order.request.tenant, order.namespace, order.flow_id, order.revision)
            key, new = await self._create(order, fetched)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise database_error(error) or error from error
        if new:
            reach("execution created")
            self._listener.execution_due(key)
        return key

    async def _create(self, order: Order, fetched: FetchedFlow) -> tuple[int, bool]:
        """The key, and whether it is a new execution's."""
        flow = self._parsed(hashlib.sha256(fetched.definition.encode()).digest(), fetched.definition)
        inputs, wrong = check_inputs(flow, order.inputs)
        if wrong:
            raise InvalidArgument.of(*wrong)
        creation = Creation(
            order.request.tenant, flow, fetched.revision, fetched.definition, inputs, order.labels, parent=order.parent
        )
        async with self._pool.acquire() as connection, connection.transaction():
            key = await allot_execution_key(connection)
            if (
                known := await remember(connection, order.request, key, part_secrets(flow, inputs)[1], self._secrets)
            ) != key:
                return known, False
            await create(connection, key, creation, self._secrets)
        return key, True

    def _parsed(self, digest: bytes, definition: str) -> Flow:
        flow = self._flows_by_digest.pop(digest, None) or Flow.from_json(definition)
        self._flows_by_digest[digest] = flow
        if len(self._flows_by_digest) > KEPT:
            self._flows_by_digest.popitem(last=False)
        return flow

    async def kill(self, key: int) -> None:
        """End an execution wherever it is; returns when that may be acknowledged (P9). Raises Unavailable."""
        try:
            async with self._pool.acquire() as connection:
                await ask_kill(connection, key)
            with self._changes.watch_execution(key) as watch:
                self._listener.execution_due(key)
                await self._obeyed(key, watch)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise database_error(error) or error from error

    async def _obeyed(self, key: int, watch: ExecutionWatch) -> None:
        try:
            async with asyncio.timeout(STEP_SECONDS):
                while True:
                    found = await self._kill_of(key)
                    if found is None or ExecutionState(found[0]) in {ExecutionState.KILLING, *FINAL}:
                        break
                    await watch.changed(POLL_SECONDS)
        except TimeoutError:
            raise Unavailable(
                "The kill is recorded and will be obeyed; until now no scheduler came to it. Call again.",
                retry_delay=1.0,
            ) from None
        try:
            async with asyncio.timeout(CONFIRM_SECONDS):
                while (found := await self._kill_of(key)) is not None and found[1]:
                    if not watch.only(found[1]):
                        await watch.changed(POLL_SECONDS)
        except TimeoutError:
            return  # a worker is cut off; whatever it still does, only KILLED can be recorded

    async def _kill_of(self, key: int) -> tuple[str, list[int]] | None:
        async with self._pool.acquire() as connection:
            return await read_kill(connection, key)
