"""Clients that submit quick and slow jobs under idempotent ids, kill some, and write down what they were told."""

import asyncio
import random
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.duration_pb2 import Duration

from farhand.api.scheduler.v1 import job_pb2, job_service_pb2
from farhand.api.types.v1.fallback_pb2 import FALLBACK_CANCEL, FALLBACK_FAIL, FALLBACK_WAIT
from tests.chaos.caller import Caller, state_of_job
from tests.chaos.program import PROGRAM
from tests.tasks import a_shell_task

SECONDS = (0.0, 0.0, 0.0, 0.2, 0.5, 1.5, 4.0)  # that a job takes
FAILING = 3  # an exit code
FALLBACKS = [(FALLBACK_FAIL, "FAILED"), (FALLBACK_CANCEL, "KILLED")]  # and how such a job may end too


@dataclass(slots=True)
class Client:
    """One of them."""

    name: str
    caller: Caller
    tenants: Mapping[str, Sequence[str]]  # by group: who may use it
    chance: random.Random
    pause: float  # seconds between two submits, on average
    open: set[str] = field(default_factory=set)  # acknowledged, and not seen to end
    acknowledged: list[str] = field(default_factory=list)

    async def submit_until(self, stop: asyncio.Event) -> None:
        """Jobs, one or a few at a time; some are submitted twice, some killed."""
        count = 0
        async with asyncio.TaskGroup() as kills:
            while not stop.is_set():
                count += 1
                request = f"{self.name}-{count}"
                if self.chance.random() < 0.05:
                    await self._ask_for_what_is_forbidden(f"{request}-forbidden")
                jobs = await (self._batch(request) if self.chance.random() < 0.15 else self._single(request))
                if self.chance.random() < 0.12:
                    delay = self.chance.choice((0.0, 0.0, 0.3, 2.0))
                    kills.create_task(self._kill(self.chance.choice(jobs), delay))
                await asyncio.sleep(self.chance.expovariate(1 / self.pause))

    async def see_the_end(self) -> None:
        """Wait for each job that was acknowledged, and note how it ended."""
        pending = list(self.open)

        async def wait() -> None:
            while pending:
                job_id = pending.pop()
                wait = job_service_pb2.WaitJobRequest(id=job_id, timeout=Duration(seconds=2))
                while not (await self.caller.call("job", "WaitJob", wait)).job.HasField("end_time"):
                    pass
                await self.caller.note_end_of_job(job_id)
                self.open.discard(job_id)

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(wait())

    async def look_again(self) -> None:
        """A second look at some ends, through other schedulers: a terminal state never changes (P3)."""
        for job_id in self.chance.sample(self.acknowledged, min(50, len(self.acknowledged))):
            self.caller.turn()
            await self.caller.note_end_of_job(job_id)

    # ── what it asks for ──

    def _wish(self, request: str) -> tuple[job_pb2.JobSpec, dict[str, Any]]:
        """A job, and what to note of it before each attempt."""
        group = self.chance.choice(sorted(self.tenants))
        tenant = self.chance.choice(self.tenants[group])
        code, ends = (FAILING, "FAILED") if self.chance.random() < 0.04 else (0, "SUCCESS")
        fallback, also = self.chance.choice([*[(FALLBACK_WAIT, ends)] * 20, *FALLBACKS])
        seconds = self.chance.choice(SECONDS)
        command = ["exec", sys.executable, "-I", "-S", str(PROGRAM), request, str(seconds), str(code)]
        task = a_shell_task(shlex.join(command))
        spec = job_pb2.JobSpec(tenant=tenant, worker_group=group, fallback=fallback, max_deliveries=100, task=task)
        return spec, {"request": request, "group": group, "tenant": tenant, "expects": sorted({ends, also})}

    async def _ask_for_what_is_forbidden(self, request: str) -> None:
        """A group that does not admit the tenant. Where it is taken all the same, the checker is told."""
        group = self.chance.choice(sorted(self.tenants))
        others = {tenant for tenants in self.tenants.values() for tenant in tenants} - set(self.tenants[group])
        if not others:
            return
        spec, note = self._wish(request)
        spec.worker_group, spec.tenant = group, self.chance.choice(sorted(others))
        note |= {"group": group, "tenant": spec.tenant}
        message = job_service_pb2.SubmitJobRequest(spec=spec, request_id=request)
        answer = await self.caller.call("job", "SubmitJob", message, [note], expects="TENANT_NOT_ALLOWED")
        if answer is not None:
            self.caller.errors.append(f"{request} was taken, for tenant {spec.tenant} in group {group}")
            self._acknowledged(request, answer.job.id)

    async def _single(self, request: str) -> list[str]:
        spec, note = self._wish(request)
        message = job_service_pb2.SubmitJobRequest(spec=spec, request_id=request)
        jobs = []
        for _ in range(2 if self.chance.random() < 0.15 else 1):
            jobs.append((await self.caller.call("job", "SubmitJob", message, [note])).job.id)
            self._acknowledged(request, jobs[-1])
        return jobs

    async def _batch(self, request: str) -> list[str]:
        wishes = [self._wish(f"{request}.{row}") for row in range(self.chance.randint(2, 6))]
        message = job_service_pb2.BatchSubmitJobsRequest(specs=[spec for spec, _ in wishes], request_id=request)
        response = await self.caller.call("job", "BatchSubmitJobs", message, [note for _, note in wishes])
        for result, (_, note) in zip(response.results, wishes, strict=True):
            if result.WhichOneof("result") == "error":
                self.caller.errors.append(f"BatchSubmitJobs refused {note['request']}: {result.error.message}")
            else:
                self._acknowledged(note["request"], result.job_id)
        return [result.job_id for result in response.results if result.job_id] or self.acknowledged[-1:]

    async def _kill(self, job_id: str, delay: float) -> None:
        await asyncio.sleep(delay)
        message = job_service_pb2.KillJobRequest(id=job_id, grace=Duration(seconds=1))
        began = time.monotonic()

        def begins() -> None:
            nonlocal began
            began = time.monotonic()
            self.caller.diary.write("kill", at=began, job=job_id)

        job = (await self.caller.call("job", "KillJob", message, before=begins)).job
        self.caller.diary.write("killed", at=time.monotonic(), began=began, job=job_id, state=state_of_job(job))

    # ── what it is told ──

    def _acknowledged(self, request: str, job_id: str) -> None:
        self.caller.diary.write("submitted", at=time.monotonic(), request=request, job=job_id)
        self.open.add(job_id)
        self.acknowledged.append(job_id)
