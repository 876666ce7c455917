"""The triggers of flows are made what the flows say, when the registry tells that one was saved.

The copy of the registry notes which flows are to be looked at. Any replica takes some,
asks the registry for their revisions, and writes the rows of their triggers. What a
trigger was about to do stays where its flow still has it, by id and type. While the
registry can't be asked the triggers go on as the revision before has them.
"""

import asyncio
import hashlib
import logging
import random
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from asyncpg import Connection

from farhand.kernel.errors import NotFound, Unavailable
from farhand.kernel.flow import Flow, Trigger, around, inherit_trigger, of_flow
from farhand.runtime.crash_points import reach
from farhand.runtime.database import database_error
from farhand.scheduler.core.declared import Declared, Tenant, TriggeredFlow
from farhand.scheduler.core.trigger import State, renewed
from farhand.scheduler.core.trigger_plan import TriggerPlan
from farhand.scheduler.loops.flow_source import FetchedFlow
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.loops.using import using
from farhand.scheduler.loops.waiting import Waiting
from farhand.scheduler.store.executions import keep_flow
from farhand.scheduler.store.triggers import (
    KnownTrigger,
    add_triggers_due,
    claim_triggered_flows,
    lock_triggered_flow,
    lock_triggers_of,
    looked_at,
    make_trigger,
    next_triggered_flow,
    put_off_flow,
    remove_triggers,
    renew_trigger,
)

log = logging.getLogger(__name__)

POLL_SECONDS = 2.0
CLAIMED = 16  # flows that are asked for together
CLAIM_SECONDS = 15.0  # then another replica may take what this one had
AGAIN_SECONDS = 2.0  # after the registry was away
UNREADABLE_SECONDS = 300.0  # after a flow that this version can't read


class FlowSource(Protocol):
    """Whoever keeps the flows."""

    async def get(self, tenant: str, namespace: str, flow_id: str, revision: int) -> FetchedFlow:
        """A revision. Raises NotFound, Unavailable."""


class TriggeredFlows:
    """See the module. `on_due`: triggers may be due now."""

    def __init__(
        self,
        connection: HotConnection,
        flows: FlowSource,
        declared: Callable[[], Declared],
        on_due: Callable[[], None],
        *,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._connection = connection
        self._flows = flows
        self._declared = declared
        self._on_due = on_due
        self._jitter = jitter
        self._wake = asyncio.Event()
        self._registry = Waiting(log, "the registry, for flows with triggers")
        self._database = Waiting(log, "the database, for flows with triggers")

    def wake(self) -> None:
        """Flows may have come."""
        self._wake.set()

    async def run(self) -> None:
        """Look for flows until cancelled."""
        while True:
            self._wake.clear()
            try:
                if await self.once():
                    continue
                async with using(self._connection) as connection:
                    timer = await next_triggered_flow(connection)
                self._database.over()
                pause = POLL_SECONDS * (0.75 + self._jitter() / 2)
                pause = pause if timer is None else min(pause, max(timer, 0.05))
            except Unavailable as error:
                self._database.still(error.message)
                pause = 0.2 + self._jitter() / 5
            except Exception:
                log.exception("a look for flows with triggers failed; it is made again")
                self._connection.drop()
                pause = POLL_SECONDS
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def once(self) -> bool:
        """Take some flows and make their triggers what they say. Answers whether there were any. Raises
        Unavailable (the database)."""
        async with using(self._connection) as connection:
            flows = await claim_triggered_flows(connection, CLAIMED, CLAIM_SECONDS)
            reach("triggered flows claimed")
            for flow, fetched in zip(flows, await asyncio.gather(*map(self._fetch, flows)), strict=True):
                if isinstance(fetched, float):
                    await put_off_flow(connection, flow, fetched)
                else:
                    await self._take(connection, flow, fetched)
        if flows:
            self._on_due()
        return bool(flows)

    async def _fetch(self, flow: TriggeredFlow) -> FetchedFlow | float:
        """The revision, or in how many seconds to ask again."""
        try:
            fetched = await self._flows.get(flow.tenant, flow.namespace, flow.id, flow.revision)
        except Unavailable as error:
            self._registry.still(error.message)
            return AGAIN_SECONDS
        except NotFound:
            return UNREADABLE_SECONDS  # its tenant has gone; that it has no triggers any more is on its way
        self._registry.over()
        return fetched

    async def _take(self, connection: Connection, flow: TriggeredFlow, fetched: FetchedFlow) -> None:
        try:
            await self._write(connection, flow, fetched)
        except Exception as error:
            if database_error(error) is not None:
                raise
            name = f"{flow.tenant}/{flow.namespace}/{flow.id}"
            log.exception("the triggers of a flow can't be taken over; it is tried again", extra={"flow": name})
            await put_off_flow(connection, flow, UNREADABLE_SECONDS)

    async def _write(self, connection: Connection, flow: TriggeredFlow, fetched: FetchedFlow) -> None:
        definition = fetched.definition
        parsed = Flow.from_json(definition)
        plans = self._plans(flow.tenant, parsed)
        digest = hashlib.sha256(definition.encode()).digest()
        async with connection.transaction():
            now = await lock_triggered_flow(connection, flow)
            if now is None:
                return  # there is a newer revision, or none; whoever told it marked it
            known = {trigger.id: trigger for trigger in await lock_triggers_of(connection, flow)}
            flow_key = await keep_flow(
                connection, flow.tenant, flow.namespace, flow.id, fetched.revision, digest, definition
            )
            kept = {id for id, trigger in known.items() if id in plans and plans[id].trigger.type == trigger.type}
            await remove_triggers(connection, [trigger.key for id, trigger in known.items() if id not in kept])
            due: list[tuple[int, datetime]] = []
            for id, plan in plans.items():
                before = known[id] if id in kept else None
                state = _state(before, plan, now)
                text = plan.written
                if before is None:
                    key = await make_trigger(connection, flow, flow_key, id, plan.trigger.type, text, state)
                else:
                    key = before.key
                    await renew_trigger(connection, key, flow_key, text, state)
                # A polling trigger may have an evaluation that does not count any more.
                due.append((key, now if state.next_at is None or plan.schedule is None else state.next_at))
            await add_triggers_due(connection, due)
            await looked_at(connection, flow)
        reach("triggers taken over")

    def _plans(self, tenant: str, flow: Flow) -> dict[str, TriggerPlan]:
        """The flow's triggers with what they inherit, by id."""
        declared = self._declared()
        found = declared.tenants.get(tenant, Tenant(tenant))
        outer = around(tenant, found, flow.namespace, lambda name: declared.namespaces.get((tenant, name)))
        declarations = [of_flow(flow), *outer]

        def plan(trigger: Trigger) -> TriggerPlan:
            try:
                whole = TriggerPlan(inherit_trigger(trigger, declarations))
                whole.check()
                return whole
            except ValueError as error:
                log.warning("a trigger can't be what it inherits; it is as its flow says: %s", error)
                return TriggerPlan(trigger)

        return {trigger.id: plan(trigger) for trigger in flow.triggers}


def _state(before: KnownTrigger | None, plan: TriggerPlan, now: datetime) -> State:
    schedule = plan.schedule
    if schedule is None:
        same = before is not None and before.plan == plan.written
    else:
        same = before is not None and TriggerPlan.read(before.plan).schedule_is(schedule)
    return renewed(
        None if before is None else before.state,
        None if schedule is None else schedule.cron,
        same_times=same,
        disabled=plan.trigger.disabled,
        now=now,
    )
