"""Clients of triggers: each saves a flow that ticks and one that looks into a folder, drops files there, saves both
anew now and then, and notes in the end what was fired.

A flow's trigger gives its executions a request that names the tick or the file, so the
lines of their tasks say which it was.
"""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from farhand.api.registry.v1.flow_service_pb2 import CreateFlowRequest, UpdateFlowRequest
from farhand.api.scheduler.v1.execution_service_pb2 import ListExecutionsRequest
from farhand.api.scheduler.v1.trigger_pb2 import Trigger
from farhand.api.scheduler.v1.trigger_service_pb2 import DisableTriggerRequest, ListTriggersRequest, TriggerName
from farhand.runtime.wire import moment
from tests.chaos import flows
from tests.chaos.caller import PATIENCE, RETRY
from tests.chaos.flow_clients import LOOK, Follower
from tests.chaos.flows import NAMESPACE, Raw
from tests.checker.events import fired_name

if TYPE_CHECKING:
    from farhand.api.registry.v1.flow_service_pb2_grpc import FlowServiceAsyncStub

TICKING, ARRIVING = "ticking", "arriving"
TRIGGER = "t"
EVERY = 3  # seconds between two ticks
SAVE_PAUSE = 4.0  # seconds between two revisions, on average
DROP_PAUSE = 2.5  # seconds between two files, on average; an evaluation takes one a second


@dataclass(slots=True, kw_only=True)
class TriggerClient(Follower):
    """Of one tenant."""

    registry: "FlowServiceAsyncStub"
    tenant: str
    groups: tuple[str, str]  # of the tasks, and of the evaluations
    folder: Path  # that the second group looks into
    revision: int = 0
    dropped: list[str] = field(default_factory=list)  # requests
    fired: dict[str, str] = field(default_factory=dict)  # request, by execution

    async def begin(self) -> None:
        """Returns once the schedule is there."""
        self.open.add(f"the triggers of {self.tenant}")
        self.folder.mkdir(parents=True)
        at = time.monotonic()
        for flow in (TICKING, ARRIVING):
            await self.registry.CreateFlow(CreateFlowRequest(tenant=self.tenant, source=self._source(flow)))
            self.caller.diary.write("flow", tenant=self.tenant, flow=flow, **self._tree())
        trigger = await self._trigger(TICKING)
        first = moment(trigger.next_time).isoformat()
        if trigger.HasField("last_time"):  # it was there before we looked
            await self._note_fired(TICKING)
            first = min(self.fired.values()).partition("@")[2]
        self._note("schedule", at=at, flow=TICKING, first=first, every=EVERY)

    async def submit_until(self, stop: asyncio.Event) -> None:
        """Files and revisions."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._drop_until(stop))
            group.create_task(self._save_until(stop))

    async def see_the_end(self) -> None:
        """Wait until all has fired, see that no more does, and wait for all executions."""
        until = time.time()
        while (await self._trigger(TICKING)).last_time.seconds < until:
            await asyncio.sleep(LOOK)
        last = moment((await self._disable(TICKING)).last_time)
        self._note("schedule ended", flow=TICKING, last=last.isoformat())
        await self._note_fired(TICKING)
        while not set(self.dropped) <= set(self.fired.values()):
            await asyncio.sleep(LOOK)
            await self._note_fired(ARRIVING)
        await self._disable(ARRIVING)
        await self._note_fired(ARRIVING)
        self.open.discard(f"the triggers of {self.tenant}")
        await Follower.see_the_end(self)

    async def _drop_until(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await asyncio.sleep(self.chance.expovariate(1 / DROP_PAUSE))
            name = f"{len(self.dropped) + 1}.csv"
            request = fired_name(self.tenant, ARRIVING, name)
            self._note("drop", at=time.monotonic(), flow=ARRIVING, request=request)
            written = self.folder / f"{name}.part"
            written.write_text(request)
            written.rename(self.folder / name)
            self.dropped.append(request)

    async def _save_until(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await asyncio.sleep(self.chance.expovariate(1 / SAVE_PAUSE))
            self.revision += 1
            source = self._source(self.chance.choice((TICKING, ARRIVING)))
            message = UpdateFlowRequest(tenant=self.tenant, source=source)
            while not stop.is_set():
                try:
                    await self.registry.UpdateFlow(message, timeout=PATIENCE)
                    break
                except grpc.aio.AioRpcError as error:
                    if error.code() not in RETRY:
                        raise
                    await asyncio.sleep(0.1)

    def _source(self, flow: str) -> str:
        polls: Raw = {"type": "io.kestra.plugin.fs.local.Trigger", "from": str(self.folder), "regExp": r".*\.csv"}
        polls |= {"action": "DELETE", "maxFiles": 1, "interval": "PT1S", "allowConcurrent": True}
        polls |= {"workerGroup": {"key": self.groups[1]}}
        ticks: Raw = {"type": "io.kestra.plugin.core.trigger.Schedule", "cron": f"*/{EVERY} * * * * *"}
        about, kind = ("{{ trigger.date }}", ticks) if flow == TICKING else ("{{ trigger.files[0].name }}", polls)
        inputs = {"request": fired_name(self.tenant, flow, about), "seconds": 0.0, "go": True}
        trigger = {"id": TRIGGER, "inputs": inputs} | kind
        return flows.source(flow, self._tree(), triggers=[trigger], description=f"saved anew {self.revision} times")

    def _tree(self) -> Raw:
        return {"tasks": [{"id": "only", "group": self.groups[0], "got": []}]}

    async def _trigger(self, flow: str) -> Trigger:
        """As it is, once it is there."""
        message = ListTriggersRequest(tenant=self.tenant, namespace=NAMESPACE, flow_id=flow)
        while True:
            found = (await self.caller.call("trigger", "ListTriggers", message)).triggers
            if found and found[0].HasField("next_time"):
                trigger: Trigger = found[0]
                return trigger
            await asyncio.sleep(0.05)

    async def _disable(self, flow: str) -> Trigger:
        name = TriggerName(tenant=self.tenant, namespace=NAMESPACE, flow_id=flow, trigger_id=TRIGGER)
        answer = await self.caller.call("trigger", "DisableTrigger", DisableTriggerRequest(name=name))
        trigger: Trigger = answer.trigger
        return trigger

    async def _note_fired(self, flow: str) -> None:
        """All executions of it that are not yet known."""
        message = ListExecutionsRequest(tenant=self.tenant, namespace=NAMESPACE, flow_id=flow, page_size=1000)
        while True:
            page = await self.caller.call("execution", "ListExecutions", message)
            for id in [execution.id for execution in page.executions if execution.id not in self.fired]:
                request = self.fired[id] = str((await self.get(id)).inputs["request"])
                self.caller.diary.write("fired", at=time.monotonic(), request=request, execution=id)
                self.open.add(id)
                self.acknowledged.append(id)
            if not page.next_page_token:
                return
            message.page_token = page.next_page_token

    def _note(self, what: str, **fields: Any) -> None:
        self.caller.diary.write(what, tenant=self.tenant, **fields)
