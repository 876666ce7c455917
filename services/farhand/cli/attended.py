"""`farhand run` between submit and exit code: the job is followed, signals reach it, its end becomes ours.

The first SIGINT, SIGTERM or SIGHUP kills the job and waits for its end, as it would for a
command of this machine; the second leaves at once, and the job goes on (`--detach` is for
jobs that are to outlive their terminal). When nobody reads our stdout any more the job is
killed too: that is what a broken pipe does to a local command.
"""

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

from farhand.cli.backoff import Backoff
from farhand.cli.exit_code import exit_code
from farhand.cli.failure import CommandFailed, remote_failure
from farhand.cli.fields import enum_name
from farhand.cli.follow import Follower
from farhand.cli.log_output import LogOutput
from farhand.cli.notices import Notices
from farhand.cli.render import document
from farhand.cli.session import Session
from farhand.cli.submit import SubmitTrace, submit
from farhand.kernel.names import group_label

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

    from farhand.api.scheduler.v1.job_pb2 import Job
    from farhand.api.scheduler.v1.job_service_pb2 import SubmitJobRequest
    from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceAsyncStub

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LAST_KILL = 5.0  # seconds for the kill after a broken pipe


class AttendedRun:
    """One run of `farhand run`."""

    def __init__(
        self, session: Session, request: "SubmitJobRequest", *, grace: "Duration | None", detach: bool, quiet: bool
    ) -> None:
        self._session = session
        self._request = request
        self._grace = grace
        self._detach = detach
        self._notices = Notices(quiet)
        self._signal: signal.Signals | None = None  # the first that came
        self._interrupted = asyncio.Event()
        self._left = False
        self._job: Job | None = None

    async def main(self) -> int:
        """The exit code."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None

        def received(number: signal.Signals) -> None:
            if self._signal is None:
                self._signal = number
                self._interrupted.set()
            else:
                self._left = True
                task.cancel()

        for number in _SIGNALS:
            loop.add_signal_handler(number, received, number)
        try:
            return await self._run()
        except asyncio.CancelledError:
            if not self._left:
                raise
            task.uncancel()
            return self._leave()
        finally:
            self._notices.clear()
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    async def _run(self) -> int:
        from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceStub

        address = self._session.settings.scheduler
        trace = SubmitTrace()
        try:
            async with self._session.scheduler_stream() as channel:
                jobs = JobServiceStub(channel)
                self._job = job = await submit(jobs, self._request, trace, address, Backoff())
                traced = f", trace {trace.trace_id}" if trace.trace_id else ""
                self._notices.say(f"job {job.id} in group {group_label(job.worker_group)}{traced}")
                if self._detach:
                    self._session.printer.value(document(job), job.id)
                    return 0
                return await self._follow(jobs, job)
        finally:
            await trace.flush()

    async def _follow(self, jobs: "JobServiceAsyncStub", job: "Job") -> int:
        import grpc

        address = self._session.settings.scheduler
        documents = self._session.settings.output != "table"
        output = LogOutput(stdout_to_stderr=documents)
        follower = Follower(jobs, job.id, output.write, self._notices, address)
        failure: CommandFailed | None = None
        nobody_reads = False
        try:
            async with asyncio.TaskGroup() as group:
                aside = [
                    group.create_task(follower.narrate()),
                    group.create_task(self._kill_when_interrupted(follower)),
                ]
                self._job = job = await follower.tail()
                for task in aside:
                    task.cancel()
        except* BrokenPipeError:
            nobody_reads = True
        except* grpc.RpcError as errors:
            refused = remote_failure(errors.exceptions[0], "scheduler", address)  # type: ignore[arg-type]
            failure = CommandFailed(refused.message, *refused.details, self._goes_on())
        if failure is not None:
            raise failure
        if nobody_reads:
            return await self._broken_pipe(follower)
        if documents:
            self._session.printer.one(document(job), [])
        return self._ended(job, output.last_notice)

    async def _kill_when_interrupted(self, follower: Follower) -> None:
        await self._interrupted.wait()
        assert self._job is not None
        again = "Ctrl-C again" if self._signal is signal.SIGINT else "another signal"
        self._notices.warn(f"killing job {self._job.id}; {again} leaves it to itself")
        await follower.kill(self._grace)

    def _ended(self, job: "Job", said: str) -> int:
        """Say how it ended unless it went well, and why unless the log's last word said so; the exit code."""
        from farhand.api.scheduler.v1 import job_pb2

        if job.state == job_pb2.JOB_STATE_KILLED and self._signal is not None:
            return 128 + self._signal
        if job.state != job_pb2.JOB_STATE_SUCCESS:
            state = enum_name(job_pb2.JobState, job.state, "JOB_STATE_")
            why = job.outcome.message or job.outcome.reason
            self._notices.say(f"job {job.id} ended {state}" + (f": {why}" if why and why != said else ""))
        return exit_code(job)

    def _leave(self) -> int:
        """The second signal: away at once."""
        number = self._signal or signal.SIGINT
        self._notices.warn(self._goes_on() if self._job else "left before the scheduler answered; a job may be there")
        return 128 + number

    async def _broken_pipe(self, follower: Follower) -> int:
        """Kill the job, and keep Python from writing to the broken pipe once more when it exits."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        try:
            await asyncio.wait_for(follower.kill(self._grace), _LAST_KILL)
        except TimeoutError:
            self._notices.warn(self._goes_on())
        return 128 + signal.SIGPIPE

    def _goes_on(self) -> str:
        assert self._job is not None
        id = self._job.id
        return f"job {id} goes on: `farhand job logs {id} --follow` shows it, `farhand job kill {id}` ends it"
