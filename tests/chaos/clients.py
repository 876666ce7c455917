"""Clients that submit quick and slow jobs under idempotent ids, kill some, and write down what they were told.

Each talks to whichever scheduler answers, as a client library would, through proxies
of its own. Before each attempt it notes that it begins, behind each answer what was
answered. An error that says neither "try again" nor "too late" is a finding.
"""

import asyncio
import random
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from farhand.api.scheduler.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc
from farhand.api.types.v1.fallback_pb2 import FALLBACK_CANCEL, FALLBACK_FAIL, FALLBACK_WAIT
from farhand.runtime.grpc_channel import make_channel, remote_error
from farhand.runtime.settings import DialSettings
from tests.chaos.diary import Diary
from tests.tasks import a_shell_task

PATIENCE = 5.0  # seconds for one call, before another scheduler is asked
# CANCELLED is gRPC's own answer to a call that a stopping server had not begun.
RETRY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
SECONDS = (0.0, 0.0, 0.0, 0.2, 0.5, 1.5, 4.0)  # that a job takes
FAILING = 3  # an exit code
FALLBACKS = [(FALLBACK_FAIL, "FAILED"), (FALLBACK_CANCEL, "KILLED")]  # and how such a job may end too
PROGRAM = Path(__file__).with_name("program.py")


@dataclass(slots=True)
class Client:
    """One of them."""

    name: str
    addresses: Sequence[str]  # of schedulers
    tenants: Mapping[str, Sequence[str]]  # by group: who may use it
    diary: Diary
    chance: random.Random
    pause: float  # seconds between two submits, on average
    errors: list[str] = field(default_factory=list)
    open: set[str] = field(default_factory=set)  # acknowledged, and not seen to end
    acknowledged: list[str] = field(default_factory=list)
    _stubs: list["job_service_pb2_grpc.JobServiceAsyncStub"] = field(default_factory=list)
    _channels: list[grpc.aio.Channel] = field(default_factory=list)
    _turn: int = 0

    async def __aenter__(self) -> "Client":
        self._channels = [make_channel(address, DialSettings()) for address in self.addresses]
        self._stubs = [job_service_pb2_grpc.JobServiceStub(channel) for channel in self._channels]
        self._turn = self.chance.randrange(len(self._stubs))
        return self

    async def __aexit__(self, *_: object) -> None:
        for channel in self._channels:
            await channel.close()
        self.diary.close()

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
                while not (await self._call("WaitJob", wait)).job.HasField("end_time"):
                    pass
                await self._note_end(job_id)
                self.open.discard(job_id)

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(wait())

    async def look_again(self) -> None:
        """A second look at some ends, through other schedulers: a terminal state never changes (P3)."""
        for job_id in self.chance.sample(self.acknowledged, min(50, len(self.acknowledged))):
            self._turn += 1
            await self._note_end(job_id)

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
        answer = await self._call("SubmitJob", message, [note], expects="TENANT_NOT_ALLOWED")
        if answer is not None:
            self.errors.append(f"{request} was taken, for tenant {spec.tenant} in group {group}")
            self._acknowledged(request, answer.job.id)

    async def _single(self, request: str) -> list[str]:
        spec, note = self._wish(request)
        message = job_service_pb2.SubmitJobRequest(spec=spec, request_id=request)
        jobs = []
        for _ in range(2 if self.chance.random() < 0.15 else 1):
            jobs.append((await self._call("SubmitJob", message, [note])).job.id)
            self._acknowledged(request, jobs[-1])
        return jobs

    async def _batch(self, request: str) -> list[str]:
        wishes = [self._wish(f"{request}.{row}") for row in range(self.chance.randint(2, 6))]
        message = job_service_pb2.BatchSubmitJobsRequest(specs=[spec for spec, _ in wishes], request_id=request)
        response = await self._call("BatchSubmitJobs", message, [note for _, note in wishes])
        for result, (_, note) in zip(response.results, wishes, strict=True):
            if result.WhichOneof("result") == "error":
                self.errors.append(f"BatchSubmitJobs refused {note['request']}: {result.error.message}")
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
            self.diary.write("kill", at=began, job=job_id)

        job = (await self._call("KillJob", message, before=begins)).job
        self.diary.write("killed", at=time.monotonic(), began=began, job=job_id, state=_state(job))

    # ── what it is told ──

    def _acknowledged(self, request: str, job_id: str) -> None:
        self.diary.write("submitted", at=time.monotonic(), request=request, job=job_id)
        self.open.add(job_id)
        self.acknowledged.append(job_id)

    async def _note_end(self, job_id: str) -> None:
        job = (await self._call("GetJob", job_service_pb2.GetJobRequest(id=job_id))).job
        assignments = [
            {
                "fence": lost.fence,
                "worker": lost.worker,
                "assigned": _microseconds(lost.assign_time),
                "lost": _microseconds(lost.lose_time),
                "reason": lost.reason,
            }
            for lost in job.lost
        ]
        if job.fence and job.fence not in {lost.fence for lost in job.lost}:
            assigned = _microseconds(job.assign_time) if job.HasField("assign_time") else None
            assignments.append({"fence": job.fence, "worker": job.worker, "assigned": assigned})
        self.diary.write(
            "final", at=time.monotonic(), job=job_id, state=_state(job), fence=job.fence, assignments=assignments
        )

    async def _call(
        self,
        method: str,
        message: Any,
        notes: Sequence[dict[str, Any]] = (),
        *,
        before: Any = lambda: None,
        expects: str = "-",
    ) -> Any:
        """Asks one scheduler after another until one answers. notes: what to write before each attempt. expects: the
        reason of a refusal that is right; the answer is None then."""
        refused = 0
        while True:
            for note in notes:
                self.diary.write("submit", at=time.monotonic(), **note)
            before()
            try:
                return await getattr(self._stubs[self._turn % len(self._stubs)], method)(message, timeout=PATIENCE)
            except grpc.aio.AioRpcError as error:
                if remote_error(error).reason == expects:
                    return None
                if error.code() not in RETRY:
                    self.errors.append(f"{method} at {time.monotonic():.3f}: {error.code().name}: {error.details()}")
                    refused += 1
                    if refused > 5:
                        raise
                self._turn += 1
                await asyncio.sleep(0.05)


def _state(job: job_pb2.Job) -> str:
    return job_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_")


def _microseconds(time_: Timestamp) -> int:
    return time_.seconds * 1_000_000 + time_.nanos // 1000
