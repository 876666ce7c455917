"""Triggers over the scheduler's API: a schedule fires, and people look at it, stop it and start its past."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farhand.api.scheduler.v1 import trigger_pb2 as pb
from farhand.api.scheduler.v1 import trigger_service_pb2 as api
from farhand.api.scheduler.v1.execution_service_pb2 import ListExecutionsRequest
from farhand.api.scheduler.v1.trigger_service_pb2_grpc import TriggerServiceStub
from farhand.runtime.grpc_channel import make_channel
from farhand.runtime.settings import DialSettings
from farhand.runtime.wire import timestamp
from farhand.scheduler.core.declared import RemovedTriggeredFlow, TriggeredFlow
from tests.fixtures.fake_registry import FakeRegistry
from tests.fixtures.scheduler_service import SECONDS, a_scheduler
from tests.fixtures.scheduler_with_flows import NAMESPACE, Flows
from tests.fixtures.trigger_stage import scheduled
from tests.rpc.refusal import refused
from tests.rpc.scheduler.test_executions import a_token

if TYPE_CHECKING:
    from farhand.api.scheduler.v1.trigger_service_pb2_grpc import TriggerServiceAsyncStub

NEVER = "0 0 1 1 *"
HOURS = [datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in range(24)]


def stub(flows: Flows) -> "TriggerServiceAsyncStub":
    return TriggerServiceStub(flows.scheduler.channel)


def named(trigger: str = "t", flow: str = "flow", **more: str) -> api.TriggerName:
    return api.TriggerName(namespace=NAMESPACE, flow_id=flow, trigger_id=trigger, **more)


async def get(flows: Flows, trigger: str = "t", flow: str = "flow") -> pb.Trigger:
    return (await stub(flows).GetTrigger(api.GetTriggerRequest(name=named(trigger, flow)))).trigger


async def save(flows: Flows, source: str, revision: int = 1) -> None:
    """Save a flow, and wait until its triggers are here."""
    id = flows.save(source)
    await flows.registry.declare(TriggeredFlow("main", NAMESPACE, id, revision))
    async with asyncio.timeout(SECONDS):
        while True:
            page = await stub(flows).ListTriggers(api.ListTriggersRequest(namespace=NAMESPACE, flow_id=id))
            if any(trigger.flow_revision == revision for trigger in page.triggers):
                return
            await asyncio.sleep(0.01)


async def until(flows: Flows, there: Callable[[pb.Trigger], bool]) -> pb.Trigger:
    async with asyncio.timeout(SECONDS):
        while not there(trigger := await get(flows)):
            await asyncio.sleep(0.01)
    return trigger


async def test_a_schedule_fires_and_says_so(flows: Flows) -> None:
    await save(flows, scheduled("* * * * * *"))
    trigger = await until(flows, lambda trigger: bool(trigger.last_execution_id))
    assert (trigger.state, trigger.last_result) == (pb.TRIGGER_STATE_ENABLED, pb.TRIGGER_RESULT_FIRED)
    assert trigger.next_time.seconds > trigger.last_time.seconds
    await flows.until(trigger.last_execution_id, "RUNNING")
    await flows.registry.declare(RemovedTriggeredFlow("main", NAMESPACE, "flow"))
    async with asyncio.timeout(SECONDS):
        while (await stub(flows).ListTriggers(api.ListTriggersRequest())).triggers:
            await asyncio.sleep(0.01)


async def test_disabled_it_stays_so_over_a_revision_and_enabled_it_goes_on(flows: Flows) -> None:
    await save(flows, scheduled(NEVER))
    disable, enable = api.DisableTriggerRequest(name=named()), api.EnableTriggerRequest(name=named())
    for _ in range(2):
        trigger = (await stub(flows).DisableTrigger(disable)).trigger
        assert trigger.state == pb.TRIGGER_STATE_DISABLED_BY_OPERATOR and not trigger.HasField("next_time")
    refusal = await refused(stub(flows).EvaluateTrigger(api.EvaluateTriggerRequest(name=named())))
    assert refusal.reason == "TRIGGER_DISABLED" and "farhand trigger enable" in refusal.message
    await save(flows, scheduled(NEVER, head="description: x\n"), revision=2)
    assert (await get(flows)).state == pb.TRIGGER_STATE_DISABLED_BY_OPERATOR
    for _ in range(2):
        trigger = (await stub(flows).EnableTrigger(enable)).trigger
        assert trigger.state == pb.TRIGGER_STATE_ENABLED and trigger.HasField("next_time")
    await save(flows, scheduled(NEVER, "disabled: true"), revision=3)
    assert (await get(flows)).state == pb.TRIGGER_STATE_DISABLED_BY_FLOW
    assert "its flow says so" in (await refused(stub(flows).EnableTrigger(enable))).message


async def test_evaluated_now_a_schedule_starts_an_execution_that_is_no_tick(flows: Flows) -> None:
    await save(flows, scheduled(NEVER))
    before = await get(flows)
    await stub(flows).EvaluateTrigger(api.EvaluateTriggerRequest(name=named()))
    trigger = await until(flows, lambda trigger: bool(trigger.last_execution_id))
    assert trigger.next_time == before.next_time and not trigger.HasField("last_time")
    assert (await stub(flows).UnlockTrigger(api.UnlockTriggerRequest(name=named()))).trigger == trigger


async def begin(flows: Flows, start: datetime, end: datetime | None, **more: Any) -> pb.Backfill:
    request = api.CreateBackfillRequest(name=named(), start_time=timestamp(start), end_time=timestamp(end), **more)
    return (await stub(flows).CreateBackfill(request)).trigger.backfill


async def test_a_backfill_starts_every_tick_of_its_window_once(flows: Flows) -> None:
    head = "inputs: [{id: n, type: INT, defaults: 1}]\n"
    await save(flows, scheduled("0 * * * *", head=head))
    await begin(flows, HOURS[0], HOURS[12], inputs={"n": 7}, labels={"why": "repair"})
    trigger = await until(flows, lambda trigger: trigger.backfill.state == pb.BACKFILL_STATE_DONE)
    assert trigger.backfill.fired == 12 and not trigger.backfill.HasField("next_time")
    page = await flows.stub.ListExecutions(ListExecutionsRequest(labels={"why": "repair"}))
    assert len(page.executions) == 12
    execution = await flows.get(page.executions[-1].id)
    assert execution.inputs["n"] == 7
    assert {each.trigger_id for each in [execution, *page.executions]} == {named().trigger_id}
    await begin(flows, HOURS[0], HOURS[1])  # again is another backfill
    await until(flows, lambda trigger: trigger.backfill.state == pb.BACKFILL_STATE_DONE and trigger.backfill.fired == 1)


async def test_a_backfill_is_paused_goes_on_and_is_cancelled(flows: Flows) -> None:
    await save(flows, scheduled("0 * * * *"))
    calls = stub(flows)
    pause = api.PauseBackfillRequest(name=named())
    assert "has no backfill" in (await refused(calls.PauseBackfill(pause))).message
    await begin(flows, HOURS[0], HOURS[0] + timedelta(days=100))
    paused = (await calls.PauseBackfill(pause)).trigger.backfill
    assert paused.state == pb.BACKFILL_STATE_PAUSED and paused.HasField("next_time") and paused.fired <= 2400
    refusal = await refused(
        calls.CreateBackfill(api.CreateBackfillRequest(name=named(), start_time=timestamp(HOURS[0])))
    )
    assert refusal.reason == "BACKFILL_RUNNING" and "PAUSED" in refusal.message
    resumed = (await calls.ResumeBackfill(api.ResumeBackfillRequest(name=named()))).trigger.backfill
    assert resumed.state == pb.BACKFILL_STATE_RUNNING
    cancelled = (await calls.CancelBackfill(api.CancelBackfillRequest(name=named()))).trigger.backfill
    assert cancelled.state == pb.BACKFILL_STATE_CANCELLED
    assert (await calls.ResumeBackfill(api.ResumeBackfillRequest(name=named()))).trigger.backfill == cancelled


BAD_BACKFILLS: list[tuple[dict[str, Any], str]] = [
    ({}, "start_time: must be given"),
    ({"start_time": HOURS[1], "end_time": HOURS[0]}, "start_time: must be before end_time"),
    ({"start_time": HOURS[0], "end_time": datetime(2999, 1, 1, tzinfo=UTC)}, "end_time: is in the future"),
    ({"start_time": datetime(1, 1, 1, tzinfo=UTC)}, "start_time: is before 1970"),
    ({"start_time": datetime(1999, 1, 1, tzinfo=UTC)}, "end_time: is more than ten years after"),
    ({"start_time": HOURS[0], "inputs": {"m": 1}}, "the flow has no input 'm'"),
    ({"start_time": HOURS[0], "inputs": {"n": "many"}}, "inputs.n: must be a whole number"),
    ({"start_time": HOURS[0], "labels": {"": "x"}}, "label without a name"),
]


async def test_a_bad_backfill_is_refused_with_what_is_wrong(flows: Flows) -> None:
    await save(flows, scheduled("0 * * * *", head="inputs: [{id: n, type: INT, defaults: 1}]\n"))
    for fields, wrong in BAD_BACKFILLS:
        given: dict[str, Any] = {
            name: timestamp(value) if isinstance(value, datetime) else value for name, value in fields.items()
        }
        refusal = await refused(stub(flows).CreateBackfill(api.CreateBackfillRequest(name=named(), **given)))
        assert refusal.reason == "INVALID_ARGUMENT" and wrong in refusal.message, refusal


async def test_unknown_names_have_near_matches_and_lists_have_pages(flows: Flows) -> None:
    await save(flows, scheduled(NEVER, trigger="nightly"))
    await save(flows, scheduled(NEVER, id="other"))
    refusal = await refused(stub(flows).GetTrigger(api.GetTriggerRequest(name=named("nigthly"))))
    assert (refusal.reason, refusal.metadata["near"]) == ("NOT_FOUND", f"{NAMESPACE}/flow/nightly")
    first = await stub(flows).ListTriggers(api.ListTriggersRequest(page_size=1))
    second = await stub(flows).ListTriggers(api.ListTriggersRequest(page_size=1, page_token=first.next_page_token))
    assert [page.triggers[0].flow_id for page in (first, second)] == ["flow", "other"] and not second.next_page_token
    listing = api.ListTriggersRequest(page_token=first.next_page_token, namespace="company")
    assert (await refused(stub(flows).ListTriggers(listing))).reason == "INVALID_ARGUMENT"
    for namespace, count in (("company", 2), (NAMESPACE, 2), ("comp", 0)):
        page = await stub(flows).ListTriggers(api.ListTriggersRequest(namespace=namespace))
        assert len(page.triggers) == count
    for bad in (named(""), api.TriggerName(namespace="a", flow_id="b\0", trigger_id="c"), api.TriggerName()):
        assert (await refused(stub(flows).GetTrigger(api.GetTriggerRequest(name=bad)))).reason == "INVALID_ARGUMENT"


async def test_another_tenants_triggers_are_nobodys_business(
    fresh_database: str, registry: FakeRegistry, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(a_token("mine", "main") + a_token("theirs", "other"))
    tokens.chmod(0o600)
    async with a_scheduler(fresh_database, registry=registry.address, tokens=tokens, token="mine") as scheduler:
        flows = Flows(registry, scheduler)
        await save(flows, scheduled(NEVER))
        async with make_channel(scheduler.address, DialSettings(token="theirs")) as channel:
            calls: Any = TriggerServiceStub(channel)
            requests: list[tuple[str, Any]] = [("ListTriggers", api.ListTriggersRequest())]
            for verb in ("Get", "Enable", "Disable", "Unlock", "Evaluate"):
                requests.append((f"{verb}Trigger", getattr(api, f"{verb}TriggerRequest")(name=named())))
            for verb in ("Pause", "Resume", "Cancel"):
                requests.append((f"{verb}Backfill", getattr(api, f"{verb}BackfillRequest")(name=named())))
            create = api.CreateBackfillRequest(name=named(), start_time=timestamp(HOURS[0]))
            for method, request in [*requests, ("CreateBackfill", create)]:
                assert (await refused(getattr(calls, method)(request))).reason == "PERMISSION_DENIED"
            own = named(tenant="other")
            assert (await refused(calls.GetTrigger(api.GetTriggerRequest(name=own)))).reason == "NOT_FOUND"
