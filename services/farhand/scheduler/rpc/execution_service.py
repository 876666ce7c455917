"""ExecutionService: runs flows and tells how they go. Each method reads its request, asks a room beside this one,
and writes the answer."""

import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from google.protobuf.timestamp_pb2 import Timestamp
from grpc.aio import ServicerContext

from farhand.api.scheduler.v1 import execution_service_pb2 as messages
from farhand.api.scheduler.v1 import execution_service_pb2_grpc
from farhand.kernel.errors import InvalidArgument, Violation
from farhand.kernel.names import DEFAULT_TENANT, check_namespace, check_text
from farhand.runtime.security import identity
from farhand.runtime.wire import moment
from farhand.scheduler.loops.executions import Order
from farhand.scheduler.loops.repeats import Replay, Restart
from farhand.scheduler.rpc.execution_orders import check_labels, read_order, read_replay, read_restart
from farhand.scheduler.rpc.execution_tails import ExecutionTails
from farhand.scheduler.rpc.execution_watching import ExecutionWatching
from farhand.scheduler.rpc.execution_wire import execution_message, execution_states
from farhand.scheduler.rpc.fields import caller_traceparent, make_token, read_token, wrong_token
from farhand.scheduler.rpc.file_reads import FileReads
from farhand.scheduler.rpc.validation import check_admits
from farhand.scheduler.rpc.visible_executions import VisibleExecutions
from farhand.scheduler.store.execution_reads import Wanted, list_executions
from farhand.scheduler.store.reading import Reading

_DEFAULT_PAGE = 50
_LARGEST_PAGE = 1000
_PAGE = "executions"


class Executions(Protocol):
    """Begins and ends executions."""

    async def create(self, order: Order) -> int:
        """The key of the execution, which is durable. Raises InvalidArgument, NotFound, RequestIdReused,
        Unavailable."""

    async def kill(self, key: int) -> None:
        """End it; returns when the kill may be acknowledged (P9). Raises Unavailable."""


class Repeats(Protocol):
    """Begins executions from others."""

    async def restart(self, order: Restart) -> int:
        """The key of the new execution. Raises NotFound, NotEnded, NothingFailed, RequestIdReused, Unavailable."""

    async def replay(self, order: Replay) -> int:
        """The key of the new execution. Raises InvalidArgument, NotReplayable, NotFound, NotEnded, RequestIdReused,
        Unavailable."""


@dataclass(frozen=True, slots=True)
class ExecutionRooms:
    """What the service is made of."""

    orders: Executions
    repeats: Repeats
    executions: VisibleExecutions
    watching: ExecutionWatching
    tails: ExecutionTails
    files: FileReads
    reading: Reading


class ExecutionServicer(execution_service_pb2_grpc.ExecutionServiceServicer):
    """farhand.api.scheduler.v1.ExecutionService."""

    def __init__(self, rooms: ExecutionRooms) -> None:
        self._rooms = rooms

    async def CreateExecution(
        self, request: messages.CreateExecutionRequest, context: ServicerContext[Any, Any]
    ) -> messages.CreateExecutionResponse:
        """See the proto."""
        order = read_order(request, identity(context), caller_traceparent(context))
        key = await self._rooms.orders.create(order)
        return messages.CreateExecutionResponse(execution=await self._rooms.executions.whole(key))

    async def RestartExecution(
        self, request: messages.RestartExecutionRequest, context: ServicerContext[Any, Any]
    ) -> messages.RestartExecutionResponse:
        """See the proto."""
        old = await self._rooms.executions.find(request.id, identity(context))
        key = await self._rooms.repeats.restart(read_restart(request, old, caller_traceparent(context)))
        return messages.RestartExecutionResponse(execution=await self._rooms.executions.whole(key))

    async def ReplayExecution(
        self, request: messages.ReplayExecutionRequest, context: ServicerContext[Any, Any]
    ) -> messages.ReplayExecutionResponse:
        """See the proto."""
        old = await self._rooms.executions.find(request.id, identity(context))
        key = await self._rooms.repeats.replay(read_replay(request, old, caller_traceparent(context)))
        return messages.ReplayExecutionResponse(execution=await self._rooms.executions.whole(key))

    async def GetExecution(
        self, request: messages.GetExecutionRequest, context: ServicerContext[Any, Any]
    ) -> messages.GetExecutionResponse:
        """See the proto."""
        record = await self._rooms.executions.find(request.id, identity(context))
        return messages.GetExecutionResponse(execution=await self._rooms.executions.whole(record.key))

    async def ListExecutions(
        self, request: messages.ListExecutionsRequest, context: ServicerContext[Any, Any]
    ) -> messages.ListExecutionsResponse:
        """See the proto."""
        tenant = request.tenant or DEFAULT_TENANT
        check_admits(identity(context), tenant)
        wanted = _wanted(request, tenant)
        asked = zlib.crc32(repr((wanted, sorted(wanted.states), sorted(wanted.labels.items()))).encode())
        before = None
        if request.page_token:
            of, before = read_token("page_token", request.page_token, _PAGE, 2)
            if of != asked:
                raise wrong_token("page_token")
        size = min(request.page_size or _DEFAULT_PAGE, _LARGEST_PAGE)
        async with self._rooms.reading.connection() as connection:
            page = await list_executions(connection, wanted, before, size)
        token = "" if page.next_before is None else make_token(_PAGE, asked, page.next_before)
        return messages.ListExecutionsResponse(executions=map(execution_message, page.records), next_page_token=token)

    async def WatchExecution(
        self, request: messages.WatchExecutionRequest, context: ServicerContext[Any, Any]
    ) -> AsyncIterator[messages.WatchExecutionResponse]:
        """See the proto."""
        async for execution in self._rooms.watching.watch(request.id, identity(context)):
            yield messages.WatchExecutionResponse(execution=execution)

    async def KillExecution(
        self, request: messages.KillExecutionRequest, context: ServicerContext[Any, Any]
    ) -> messages.KillExecutionResponse:
        """See the proto."""
        record = await self._rooms.executions.find(request.id, identity(context))
        if not record.ended:
            await self._rooms.orders.kill(record.key)
        return messages.KillExecutionResponse(execution=await self._rooms.executions.whole(record.key))

    async def TailExecutionLogs(
        self, request: messages.TailExecutionLogsRequest, context: ServicerContext[Any, Any]
    ) -> AsyncIterator[messages.TailExecutionLogsResponse]:
        """See the proto."""
        tail = self._rooms.tails.tail(request.id, request.task_id, identity(context), follow=request.follow)
        async for answer in tail:
            yield answer

    async def ReadFile(
        self, request: messages.ReadFileRequest, context: ServicerContext[Any, Any]
    ) -> AsyncIterator[messages.ReadFileResponse]:
        """See the proto."""
        async for answer in self._rooms.files.read(request, identity(context)):
            yield answer


def _wanted(request: messages.ListExecutionsRequest, tenant: str) -> Wanted:
    wrong: list[Violation] = []
    if request.namespace:
        wrong += check_namespace("namespace", request.namespace)
    elif request.flow_id:
        wrong.append(Violation("flow_id", "needs the flow's namespace beside it"))
    wrong += check_text("flow_id", request.flow_id, 100)
    wrong += check_labels("labels", dict(request.labels))
    if request.page_size < 0:
        wrong.append(Violation("page_size", "must not be negative"))
    try:
        states = execution_states(request.states)
    except KeyError as error:
        states = frozenset()
        wrong.append(Violation("states", f"{error} is not an ExecutionState"))
    times: dict[str, datetime | None] = {}
    for name in ("created_after", "created_before"):
        try:
            value: Timestamp = getattr(request, name)
            times[name] = moment(value) if request.HasField(name) else None
        except (ValueError, OverflowError):
            wrong.append(Violation(name, "is not a valid google.protobuf.Timestamp"))
    if wrong:
        raise InvalidArgument.of(*wrong)
    return Wanted(tenant, request.namespace, request.flow_id, states, dict(request.labels), **times)
