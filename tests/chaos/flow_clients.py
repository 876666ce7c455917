"""Clients that create executions of flows under idempotent ids, kill some, restart some that failed, and write down
what they were told."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from farhand.api.scheduler.v1 import execution_pb2
from farhand.api.scheduler.v1.execution_service_pb2 import (
    CreateExecutionRequest,
    GetExecutionRequest,
    KillExecutionRequest,
    RestartExecutionRequest,
)
from tests.chaos.caller import Caller
from tests.chaos.flows import NAMESPACE

SECONDS = (0.0, 0.0, 0.0, 0.2, 0.5, 1.5)  # that each task of an execution takes
LOOK = 0.3  # seconds between two looks at one that has not ended


@dataclass(slots=True)
class Follower:
    """Knows of executions, and sees them end."""

    name: str
    caller: Caller
    chance: random.Random
    open: set[str] = field(default_factory=set)  # acknowledged, and not seen to end
    acknowledged: list[str] = field(default_factory=list)

    async def see_the_end(self) -> None:
        """Wait for each execution that was acknowledged, and note how it and the jobs of its task runs ended."""
        pending = list(self.open)

        async def wait() -> None:
            while pending:
                id = pending.pop()
                while not (await self.get(id)).HasField("end_time"):
                    await asyncio.sleep(LOOK)
                for job_id in await self._note_end(id):
                    await self.caller.note_end_of_job(job_id)
                self.open.discard(id)

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(wait())

    async def look_again(self) -> None:
        """A second look at some ends, through other schedulers: a terminal state never changes (P3)."""
        for id in self.chance.sample(self.acknowledged, min(50, len(self.acknowledged))):
            self.caller.turn()
            await self._note_end(id)

    async def get(self, id: str) -> execution_pb2.Execution:
        """As it is now."""
        execution: execution_pb2.Execution
        execution = (await self.caller.call("execution", "GetExecution", GetExecutionRequest(id=id))).execution
        return execution

    async def _note_end(self, id: str) -> list[str]:
        """The jobs of its task runs."""
        execution = await self.get(id)
        runs: list[dict[str, Any]] = [
            {
                "task": run.task_id,
                "attempt": run.attempt,
                "state": execution_pb2.TaskRunState.Name(run.state).removeprefix("TASK_RUN_STATE_"),
                "job": run.job_id,
                "reason": run.reason,
                "lost": run.lost_deliveries,
                "taken": run.taken_from,
            }
            for run in execution.task_runs
        ]
        now, state = time.monotonic(), _state(execution)
        self.caller.diary.write("ended", at=now, execution=id, state=state, runs=runs)
        return [run["job"] for run in runs if run["job"]]


@dataclass(slots=True, kw_only=True)
class FlowClient(Follower):
    """Creates executions."""

    flows: Mapping[str, Sequence[str]]  # by tenant
    pause: float  # seconds between two creations, on average

    async def submit_until(self, stop: asyncio.Event) -> None:
        """Executions, one after another; some are created twice, some killed, some restarted where they fail."""
        count = 0
        async with asyncio.TaskGroup() as kills:
            while not stop.is_set():
                count += 1
                execution = await self._create(f"{self.name}-{count}")
                if self.chance.random() < 0.15:
                    kills.create_task(self._kill(execution, self.chance.choice((0.0, 0.1, 0.5, 2.0))))
                elif self.chance.random() < 0.25:
                    kills.create_task(self._restart(execution, f"{self.name}-{count}-again", stop))
                await asyncio.sleep(self.chance.expovariate(1 / self.pause))

    async def _create(self, request: str) -> str:
        tenant = self.chance.choice(sorted(self.flows))
        flow, go = self.chance.choice(self.flows[tenant]), self.chance.random() < 0.5
        message = CreateExecutionRequest(tenant=tenant, namespace=NAMESPACE, flow_id=flow, request_id=request)
        message.inputs.update({"request": request, "seconds": self.chance.choice(SECONDS), "go": go})
        note = {"request": request, "tenant": tenant, "flow": flow, "branch": "then" if go else "else"}
        id = ""
        for _ in range(2 if self.chance.random() < 0.15 else 1):
            answer = await self.caller.call("execution", "CreateExecution", message, [note], what="create")
            id = answer.execution.id
            self.caller.diary.write("created", at=time.monotonic(), request=request, execution=id)
            self.open.add(id)
            self.acknowledged.append(id)
        return id

    async def _kill(self, id: str, delay: float) -> None:
        await asyncio.sleep(delay)
        began = time.monotonic()

        def begins() -> None:
            nonlocal began
            began = time.monotonic()
            self.caller.diary.write("kill execution", at=began, execution=id)

        answer = await self.caller.call("execution", "KillExecution", KillExecutionRequest(id=id), before=begins)
        state, now = _state(answer.execution), time.monotonic()
        self.caller.diary.write("execution killed", at=now, began=began, execution=id, state=state)

    async def _restart(self, id: str, request: str, stop: asyncio.Event) -> None:
        """Once it has FAILED; twice under one id now and then."""
        while not (execution := await self.get(id)).HasField("end_time"):
            if stop.is_set():
                return
            await asyncio.sleep(LOOK)
        if execution.state != execution_pb2.EXECUTION_STATE_FAILED:
            return
        message = RestartExecutionRequest(id=id, request_id=request)
        note = {"request": request, "execution": id}
        for _ in range(2 if self.chance.random() < 0.15 else 1):
            answer = await self.caller.call("execution", "RestartExecution", message, [note], what="restart")
            new = answer.execution.id
            self.caller.diary.write("restarted", at=time.monotonic(), request=request, of=id, execution=new)
            self.open.add(new)
            self.acknowledged.append(new)


def _state(execution: execution_pb2.Execution) -> str:
    return execution_pb2.ExecutionState.Name(execution.state).removeprefix("EXECUTION_STATE_")
