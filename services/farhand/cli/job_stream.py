"""The commands of `farhand job` that may take long: they outlast a restart of the scheduler."""

import asyncio
from typing import TYPE_CHECKING

from farhand.cli.backoff import Backoff
from farhand.cli.failure import CommandFailed, remote_failure
from farhand.cli.follow import Follower
from farhand.cli.job_view import has_ended, state_name
from farhand.cli.log_output import LogDocuments, LogOutput
from farhand.cli.notices import Notices
from farhand.cli.patience import patiently
from farhand.cli.session import DEADLINE, Session
from farhand.cli.submit import SubmitTrace, submit

if TYPE_CHECKING:
    from farhand.api.scheduler.v1.job_pb2 import Job
    from farhand.api.scheduler.v1.job_service_pb2 import SubmitJobRequest

_LONGEST_CALL = 60.0  # seconds of one WaitJob


async def print_logs(session: Session, job_id: str, *, follow: bool, timestamps: bool) -> None:
    """Write a job's log; with follow until it has ended."""
    import grpc

    from farhand.api.scheduler.v1.job_service_pb2 import GetJobRequest, TailLogsRequest
    from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceStub

    address = session.settings.scheduler
    output: LogOutput | LogDocuments
    if session.settings.output == "table":
        output = LogOutput(timestamps=timestamps)
    else:
        output = LogDocuments(session.settings.output)
    try:
        async with session.scheduler_stream() as channel:
            jobs = JobServiceStub(channel)
            if follow:
                # A scheduler that is away from the start is an error; one that goes away later is waited for.
                await jobs.GetJob(GetJobRequest(id=job_id), timeout=DEADLINE)
                await Follower(jobs, job_id, output.write, Notices(quiet=False), address).tail()
                return
            async for answer in jobs.TailLogs(TailLogsRequest(id=job_id)):
                output.write(answer.records)
    except grpc.RpcError as error:
        raise remote_failure(error, "scheduler", address) from None


async def wait_for_end(session: Session, job_id: str, longest: float | None) -> "Job":
    """The job as it ended; CommandFailed when `longest` seconds were not enough."""
    import grpc

    from farhand.api.scheduler.v1.job_service_pb2 import GetJobRequest, WaitJobRequest
    from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceStub
    from farhand.runtime.wire import duration

    address = session.settings.scheduler
    state = "there"
    try:
        async with session.scheduler_stream() as channel:
            jobs = JobServiceStub(channel)
            job = (await jobs.GetJob(GetJobRequest(id=job_id), timeout=DEADLINE)).job
            notices = Notices(quiet=False)
            away = False

            def failed(error: grpc.RpcError) -> None:
                nonlocal away
                if not away:
                    notices.warn(f"{remote_failure(error, 'scheduler', address).message} Trying again.")
                away = True

            async def call() -> "Job":
                request = WaitJobRequest(id=job_id, timeout=duration(_LONGEST_CALL))
                return (await jobs.WaitJob(request, timeout=_LONGEST_CALL + DEADLINE)).job

            async with asyncio.timeout(longest):
                while not has_ended(job):
                    state = state_name(job.state)
                    job = await patiently(call, Backoff(), failed)
            return job
    except TimeoutError:
        raise CommandFailed(f"Job {job_id} is still {state}; the time to wait is over.") from None
    except grpc.RpcError as error:
        raise remote_failure(error, "scheduler", address) from None


async def submit_one(session: Session, request: "SubmitJobRequest") -> "Job":
    """Submit it; the job as the scheduler answered."""
    from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceStub

    trace = SubmitTrace()
    try:
        async with session.scheduler_stream() as channel:
            return await submit(JobServiceStub(channel), request, trace, session.settings.scheduler, Backoff())
    finally:
        await trace.flush()
