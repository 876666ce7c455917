"""TriggerService: what the triggers of flows are about to do, and what people do to them."""

import base64
import binascii
import json
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from grpc.aio import ServicerContext

from farhand.api.scheduler.v1 import trigger_pb2, trigger_service_pb2_grpc
from farhand.api.scheduler.v1 import trigger_service_pb2 as messages
from farhand.kernel.errors import InvalidArgument, Violation
from farhand.kernel.job_id import encode, execution_id
from farhand.kernel.names import DEFAULT_TENANT, check_namespace, check_tenant, check_text, not_found
from farhand.runtime.security import Identity, identity
from farhand.runtime.wire import moment, plain, timestamp
from farhand.scheduler.core.trigger import Backfill, BackfillState, DisabledBy, Result
from farhand.scheduler.loops.trigger_orders import TriggerOrders
from farhand.scheduler.rpc.execution_orders import check_inputs, check_labels
from farhand.scheduler.rpc.fields import wrong_token
from farhand.scheduler.rpc.validation import check_admits
from farhand.scheduler.store.reading import Reading
from farhand.scheduler.store.trigger_reads import (
    TriggerPlace,
    TriggerRecord,
    list_triggers,
    names_near,
    read_trigger,
)

_DEFAULT_PAGE = 50
_LARGEST_PAGE = 1000
_STATES = {
    None: trigger_pb2.TRIGGER_STATE_ENABLED,
    DisabledBy.FLOW: trigger_pb2.TRIGGER_STATE_DISABLED_BY_FLOW,
    DisabledBy.OPERATOR: trigger_pb2.TRIGGER_STATE_DISABLED_BY_OPERATOR,
    DisabledBy.STOP_AFTER: trigger_pb2.TRIGGER_STATE_STOPPED,
}
_RESULTS = {result: trigger_pb2.TriggerResult.Value(f"TRIGGER_RESULT_{result}") for result in Result}
_BACKFILLS = {state: trigger_pb2.BackfillState.Value(f"BACKFILL_STATE_{state}") for state in BackfillState}
Context = ServicerContext[Any, Any]


class TriggerServicer(trigger_service_pb2_grpc.TriggerServiceServicer):
    """farhand.api.scheduler.v1.TriggerService."""

    def __init__(self, orders: TriggerOrders, reading: Reading) -> None:
        self._orders = orders
        self._reading = reading

    async def ListTriggers(
        self, request: messages.ListTriggersRequest, context: Context
    ) -> messages.ListTriggersResponse:
        """See the proto."""
        tenant = request.tenant or DEFAULT_TENANT
        check_admits(identity(context), tenant)
        wrong = check_namespace("namespace", request.namespace) if request.namespace else []
        if request.flow_id and not request.namespace:
            wrong.append(Violation("flow_id", "needs the flow's namespace beside it"))
        wrong += check_text("flow_id", request.flow_id, 100)
        if request.page_size < 0:
            wrong.append(Violation("page_size", "must not be negative"))
        if wrong:
            raise InvalidArgument.of(*wrong)
        scope = [tenant, request.namespace, request.flow_id]
        after = _read_token(request.page_token, scope) if request.page_token else None
        size = min(request.page_size or _DEFAULT_PAGE, _LARGEST_PAGE)
        async with self._reading.connection() as connection:
            found = await list_triggers(connection, tenant, request.namespace, request.flow_id, after, size + 1)
        token = _make_token(found[size - 1], scope) if len(found) > size else ""
        return messages.ListTriggersResponse(triggers=map(_message, found[:size]), next_page_token=token)

    async def GetTrigger(self, request: messages.GetTriggerRequest, context: Context) -> messages.GetTriggerResponse:
        """See the proto."""
        found = await self._find(request.name, identity(context))
        return messages.GetTriggerResponse(trigger=_message(found))

    async def EnableTrigger(
        self, request: messages.EnableTriggerRequest, context: Context
    ) -> messages.EnableTriggerResponse:
        """See the proto."""
        await self._orders.enable((await self._find(request.name, identity(context))).key)
        return messages.EnableTriggerResponse(trigger=await self._again(request.name, context))

    async def DisableTrigger(
        self, request: messages.DisableTriggerRequest, context: Context
    ) -> messages.DisableTriggerResponse:
        """See the proto."""
        await self._orders.disable((await self._find(request.name, identity(context))).key)
        return messages.DisableTriggerResponse(trigger=await self._again(request.name, context))

    async def UnlockTrigger(
        self, request: messages.UnlockTriggerRequest, context: Context
    ) -> messages.UnlockTriggerResponse:
        """See the proto."""
        await self._orders.unlock((await self._find(request.name, identity(context))).key)
        return messages.UnlockTriggerResponse(trigger=await self._again(request.name, context))

    async def EvaluateTrigger(
        self, request: messages.EvaluateTriggerRequest, context: Context
    ) -> messages.EvaluateTriggerResponse:
        """See the proto."""
        await self._orders.evaluate((await self._find(request.name, identity(context))).key)
        return messages.EvaluateTriggerResponse(trigger=await self._again(request.name, context))

    async def CreateBackfill(
        self, request: messages.CreateBackfillRequest, context: Context
    ) -> messages.CreateBackfillResponse:
        """See the proto."""
        wrong = check_inputs(request.inputs) + check_labels("labels", dict(request.labels))
        times = {}
        for field in ("start_time", "end_time"):
            value: Timestamp = getattr(request, field)
            try:
                times[field] = moment(value) if request.HasField(field) else None
            except (ValueError, OverflowError):
                wrong.append(Violation(field, "is not a valid google.protobuf.Timestamp"))
        if not request.HasField("start_time"):
            wrong.append(Violation("start_time", "must be given"))
        if wrong:
            raise InvalidArgument.of(*wrong)
        found = await self._find(request.name, identity(context))
        start, end = times["start_time"], times["end_time"]
        assert start is not None
        await self._orders.backfill(found.key, start, end, plain(request.inputs), dict(request.labels))
        return messages.CreateBackfillResponse(trigger=await self._again(request.name, context))

    async def PauseBackfill(
        self, request: messages.PauseBackfillRequest, context: Context
    ) -> messages.PauseBackfillResponse:
        """See the proto."""
        await self._move_backfill(request.name, context, BackfillState.PAUSED)
        return messages.PauseBackfillResponse(trigger=await self._again(request.name, context))

    async def ResumeBackfill(
        self, request: messages.ResumeBackfillRequest, context: Context
    ) -> messages.ResumeBackfillResponse:
        """See the proto."""
        await self._move_backfill(request.name, context, BackfillState.RUNNING)
        return messages.ResumeBackfillResponse(trigger=await self._again(request.name, context))

    async def CancelBackfill(
        self, request: messages.CancelBackfillRequest, context: Context
    ) -> messages.CancelBackfillResponse:
        """See the proto."""
        await self._move_backfill(request.name, context, BackfillState.CANCELLED)
        return messages.CancelBackfillResponse(trigger=await self._again(request.name, context))

    async def _move_backfill(self, name: messages.TriggerName, context: Context, wanted: BackfillState) -> None:
        await self._orders.move_backfill((await self._find(name, identity(context))).key, wanted)

    async def _again(self, name: messages.TriggerName, context: Context) -> trigger_pb2.Trigger:
        return _message(await self._find(name, identity(context)))

    async def _find(self, name: messages.TriggerName, caller: Identity) -> TriggerRecord:
        """The trigger. Raises InvalidArgument, PermissionDenied, NotFound with near matches, Unavailable."""
        tenant = name.tenant or DEFAULT_TENANT
        wrong = check_tenant("name.tenant", tenant)
        if not wrong:
            check_admits(caller, tenant)
        wrong += check_namespace("name.namespace", name.namespace)
        for field in ("flow_id", "trigger_id"):
            value = getattr(name, field)
            if not value:
                wrong.append(Violation(f"name.{field}", "must not be empty"))
            wrong += check_text(f"name.{field}", value, 100)
        if wrong:
            raise InvalidArgument.of(*wrong)
        async with self._reading.connection() as connection:
            found = await read_trigger(connection, tenant, name.namespace, name.flow_id, name.trigger_id)
            if found is not None:
                return found
            near = await names_near(connection, tenant, name.namespace, name.flow_id)
        asked = f"{name.namespace}/{name.flow_id}/{name.trigger_id}"
        raise not_found("trigger", asked, near, "A flow's triggers are here moments after it was saved.")


def _message(record: TriggerRecord) -> trigger_pb2.Trigger:
    return trigger_pb2.Trigger(
        tenant=record.tenant,
        namespace=record.namespace,
        flow_id=record.flow_id,
        trigger_id=record.trigger_id,
        type=record.type,
        flow_revision=record.flow_revision,
        state=_STATES[record.disabled_by],
        next_time=timestamp(record.next_at),
        last_time=timestamp(record.last_at),
        last_result=_RESULTS[record.result] if record.result else trigger_pb2.TRIGGER_RESULT_UNSPECIFIED,
        message=record.message,
        result_time=timestamp(record.result_at),
        last_execution_id="" if record.execution_key is None else execution_id(record.execution_key),
        job_id="" if record.job_key is None else encode(record.job_key),
        worker=record.worker,
        backfill=None if record.backfill is None else _backfill(record.backfill),
    )


def _backfill(backfill: Backfill) -> trigger_pb2.Backfill:
    return trigger_pb2.Backfill(
        start_time=timestamp(backfill.start),
        end_time=timestamp(backfill.end),
        next_time=timestamp(backfill.next_at),
        state=_BACKFILLS[backfill.state],
        fired=backfill.fired,
    )


def _make_token(last: TriggerRecord, scope: list[str]) -> str:
    place = [last.namespace, last.flow_id, last.trigger_id]
    return base64.urlsafe_b64encode(json.dumps([*scope, *place]).encode()).rstrip(b"=").decode()


def _read_token(token: str, scope: list[str]) -> TriggerPlace:
    try:
        parts = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, binascii.Error):
        parts = None
    sound = isinstance(parts, list) and len(parts) == 6 and all(isinstance(part, str) for part in parts)
    if not sound or parts[:3] != scope or any("\0" in part for part in parts):
        raise wrong_token("page_token")
    return TriggerPlace(*parts[3:])
