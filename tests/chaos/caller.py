"""Asks whichever scheduler answers, as a client library would, through proxies of its own, and keeps what was wrong.

Before each attempt it notes that it begins, behind each answer what was answered. An
error that says neither "try again" nor "too late" is a finding.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from farhand.api.scheduler.v1 import (
    execution_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    trigger_service_pb2_grpc,
)
from farhand.runtime.grpc_channel import make_channel, remote_error
from farhand.runtime.settings import DialSettings
from tests.chaos.diary import Diary

PATIENCE = 5.0  # seconds for one call, before another scheduler is asked
# CANCELLED is gRPC's own answer to a call that a stopping server had not begun.
RETRY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


class Caller:
    """See the module."""

    def __init__(self, addresses: Sequence[str], diary: Diary, chance: random.Random) -> None:
        """addresses: of schedulers."""
        self.diary = diary
        self.errors: list[str] = []
        self._addresses = addresses
        self._chance = chance
        self._stubs: list[dict[str, Any]] = []
        self._channels: list[grpc.aio.Channel] = []
        self._turn = 0

    async def __aenter__(self) -> "Caller":
        self._channels = [make_channel(address, DialSettings()) for address in self._addresses]
        self._stubs = [
            {
                "job": job_service_pb2_grpc.JobServiceStub(channel),
                "execution": execution_service_pb2_grpc.ExecutionServiceStub(channel),
                "trigger": trigger_service_pb2_grpc.TriggerServiceStub(channel),
            }
            for channel in self._channels
        ]
        self._turn = self._chance.randrange(len(self._stubs))
        return self

    async def __aexit__(self, *_: object) -> None:
        for channel in self._channels:
            await channel.close()
        self.diary.close()

    def turn(self) -> None:
        """The next call goes to another scheduler."""
        self._turn += 1

    async def call(
        self,
        service: str,
        method: str,
        message: Any,
        notes: Sequence[dict[str, Any]] = (),
        *,
        what: str = "submit",
        before: Callable[[], None] = lambda: None,
        expects: str = "-",
    ) -> Any:
        """Asks one scheduler after another until one answers. service: "job", "execution" or "trigger". notes: what
        to write before each attempt, under `what`. expects: the reason of a refusal that is right; the answer is None
        then."""
        refused = 0
        while True:
            for note in notes:
                self.diary.write(what, at=time.monotonic(), **note)
            before()
            try:
                stub = self._stubs[self._turn % len(self._stubs)][service]
                return await getattr(stub, method)(message, timeout=PATIENCE)
            except grpc.aio.AioRpcError as error:
                if remote_error(error).reason == expects:
                    return None
                if error.code() not in RETRY:
                    self.errors.append(f"{method} at {time.monotonic():.3f}: {error.code().name}: {error.details()}")
                    refused += 1
                    if refused > 5:
                        raise
                self.turn()
                await asyncio.sleep(0.05)

    async def note_end_of_job(self, job_id: str) -> None:
        """Write down how a job ended, and of which assignments."""
        job = (await self.call("job", "GetJob", job_service_pb2.GetJobRequest(id=job_id))).job
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
        state = state_of_job(job)
        now = time.monotonic()
        self.diary.write("final", at=now, job=job_id, state=state, fence=job.fence, assignments=assignments)


def state_of_job(job: job_pb2.Job) -> str:
    """Its plain name."""
    return job_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_")


def _microseconds(time_: Timestamp) -> int:
    return time_.seconds * 1_000_000 + time_.nanos // 1000
