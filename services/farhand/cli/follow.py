"""Following a job to its end: its log as it comes, why it waits, and a kill when the user wants it.

The tail resumes at its position after a scheduler's restart or a cut, for ever: the job
itself goes on meanwhile. What is said beside the log (`narrate`) is a courtesy, and ends
quietly where it can't go on.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from farhand.cli.backoff import Backoff
from farhand.cli.failure import remote_failure
from farhand.cli.log_output import Write
from farhand.cli.notices import Notices
from farhand.cli.patience import passes, patiently
from farhand.cli.session import DEADLINE

if TYPE_CHECKING:
    import grpc
    from google.protobuf.duration_pb2 import Duration

    from farhand.api.scheduler.v1.job_pb2 import Job, JobState
    from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceAsyncStub

PATIENCE = 0.5  # seconds before a wait is worth a word
EXPLAIN_EVERY = 2.0  # seconds


class Follower:
    """Follows one job. `address` is the scheduler's, for messages."""

    def __init__(
        self,
        jobs: "JobServiceAsyncStub",
        job_id: str,
        write: Write,
        notices: Notices,
        address: str,
        *,
        backoff: Callable[[], Backoff] = Backoff,
        patience: float = PATIENCE,
        explain_every: float = EXPLAIN_EVERY,
    ) -> None:
        self._jobs = jobs
        self._job_id = job_id
        self._write = write
        self._notices = notices
        self._address = address
        self._backoff = backoff
        self._patience = patience
        self._explain_every = explain_every
        self._batches = 0  # of log lines written

    async def tail(self) -> "Job":
        """Write the log until it is complete; the job as it ended, without spec. RpcError if it can't go on."""
        import grpc

        from farhand.api.scheduler.v1.job_service_pb2 import TailLogsRequest

        request = TailLogsRequest(id=self._job_id, follow=True)
        backoff = self._backoff()
        fence = 0
        away = False
        while True:
            try:
                async for answer in self._jobs.TailLogs(request):
                    backoff.reset()
                    if away:
                        self._notices.say(f"the scheduler at {self._address} answers again")
                        away = False
                    if answer.fence > fence > 0:
                        self._notices.warn(f"job {self._job_id} lost its worker and starts anew")
                    fence = max(fence, answer.fence)
                    if answer.records:
                        self._batches += 1
                        self._notices.clear()
                        self._write(answer.records)
                    request.position = answer.position or request.position
                    if answer.HasField("job"):
                        self._notices.clear()
                        if answer.incomplete:
                            self._notices.warn("the last lines of the log have not come; there may be more")
                        return answer.job
            except grpc.RpcError as error:
                if not passes(error):
                    raise
                if not away:
                    self._notices.warn(f"{self._reason(error)} The job goes on; trying again.")
                away = True
            await backoff.wait()

    async def narrate(self) -> None:
        """Say why the job waits, as long as it does, and again if it comes back to the queue."""
        import grpc

        from farhand.api.scheduler.v1 import job_pb2

        await asyncio.sleep(self._patience)
        backoff = self._backoff()
        try:
            while True:
                state = await patiently(self._explain, backoff)
                if state in (job_pb2.JOB_STATE_CREATED, job_pb2.JOB_STATE_ASSIGNED):
                    await asyncio.sleep(self._explain_every)
                elif state in (job_pb2.JOB_STATE_RUNNING, job_pb2.JOB_STATE_KILLING):
                    self._notices.clear()
                    await patiently(partial(self._until_it_leaves, state), backoff)
                    await asyncio.sleep(self._patience)
                else:
                    return
                backoff.reset()
        except grpc.RpcError:
            return  # the tail says what is wrong, if anything is

    async def kill(self, grace: "Duration | None") -> None:
        """Ask for the job's end until the scheduler has heard it. RpcError if it refuses."""
        from farhand.api.scheduler.v1.job_service_pb2 import KillJobRequest

        request = KillJobRequest(id=self._job_id, grace=grace)
        away = False

        def failed(error: "grpc.RpcError") -> None:
            nonlocal away
            if not away:
                self._notices.warn(f"{self._reason(error)} The kill is tried again.")
            away = True

        async def call() -> None:
            await self._jobs.KillJob(request, timeout=DEADLINE)

        await patiently(call, self._backoff(), failed)

    async def _explain(self) -> "JobState.ValueType":
        """Show why it waits, unless it has spoken meanwhile: then the answer is old; its state."""
        from farhand.api.scheduler.v1 import job_pb2
        from farhand.api.scheduler.v1.job_service_pb2 import ExplainJobRequest

        batches = self._batches
        answer = await self._jobs.ExplainJob(ExplainJobRequest(id=self._job_id), timeout=DEADLINE)
        job = answer.job
        if self._batches != batches:
            return job.state
        if job.state == job_pb2.JOB_STATE_CREATED:
            self._notices.waiting(f"{job.state} {answer.reason}", f"job {self._job_id} waits: {answer.message}")
        elif job.state == job_pb2.JOB_STATE_ASSIGNED:
            self._notices.waiting(f"{job.state} {job.worker}", f"job {self._job_id} is on its way to {job.worker}")
        return job.state

    async def _until_it_leaves(self, state: "JobState.ValueType") -> None:
        """Wait for another state. Returns early when the stream ends; the caller looks again."""
        from farhand.api.scheduler.v1.job_service_pb2 import WatchJobsRequest

        async for answer in self._jobs.WatchJobs(WatchJobsRequest(ids=[self._job_id])):
            if any(job.state != state for job in answer.jobs):
                return

    def _reason(self, error: "grpc.RpcError") -> str:
        return remote_failure(error, "scheduler", self._address).message
