"""The demo's story: one job per file of Python's standard library, spread over the groups, and watched."""

import asyncio
import hashlib
import shlex
import sysconfig
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from farhand.api.scheduler.v1 import job_pb2, job_service_pb2
from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceStub
from farhand.api.types.v1.log_record_pb2 import LOG_STREAM_STDOUT
from farhand.api.types.v1.task_pb2 import Task
from farhand.cli import shell_task
from farhand.cli.demo_report import progress, report
from farhand.cli.failure import CommandFailed, remote_failure
from farhand.kernel.names import group_label
from farhand.runtime.grpc_channel import make_channel, status_error
from farhand.runtime.settings import DialSettings

if TYPE_CHECKING:
    from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceAsyncStub

_BATCH = 50  # jobs a call
_DEADLINE = 30.0  # seconds for a call that does not wait
_CHECKED = 5  # files whose hash is counted again here
_FINAL = frozenset(
    {job_pb2.JOB_STATE_SUCCESS, job_pb2.JOB_STATE_WARNING, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_KILLED}
)


class DemoStory:
    """Submits, watches, checks, and prints what came of it."""

    def __init__(self, scheduler: str, groups: Sequence[str]) -> None:
        """scheduler: its address; groups: the keys to spread the jobs over."""
        self._scheduler = scheduler
        self._groups = groups

    async def tell(self) -> None:
        """CommandFailed where a job fails or a hash is wrong."""
        files = standard_library()
        print(f"\n{len(files)} files of Python's standard library, one job each: wc -l and sha256sum.\n", flush=True)
        started = time.monotonic()
        try:
            async with make_channel(self._scheduler, DialSettings()) as channel:
                jobs = JobServiceStub(channel)
                groups = {file: self._groups[number % len(self._groups)] for number, file in enumerate(files)}
                ids = await self._submit(jobs, groups)
                ended = await self._watch(jobs, {ids[file]: group for file, group in groups.items()})
                print(report(list(ended.values()), time.monotonic() - started), flush=True)
                _check_states(ended.values())
                await self._check_hashes(jobs, ids)
        except grpc.aio.AioRpcError as error:
            raise remote_failure(error, "scheduler", self._scheduler) from None

    async def _submit(self, jobs: "JobServiceAsyncStub", groups: dict[Path, str]) -> dict[Path, str]:
        """The id of each file's job."""
        files = list(groups)
        batches = [files[start : start + _BATCH] for start in range(0, len(files), _BATCH)]
        ids: dict[Path, str] = {}
        for batch in batches:
            # With its own request id a batch that is sent twice makes no second job.
            request = job_service_pb2.BatchSubmitJobsRequest(
                specs=[job_pb2.JobSpec(worker_group=groups[file], task=count_and_hash(file)) for file in batch],
                request_id=f"demo-{uuid.uuid4()}",
            )
            response = await jobs.BatchSubmitJobs(request, timeout=_DEADLINE)
            for file, result in zip(batch, response.results, strict=True):
                if result.WhichOneof("result") == "error":
                    raise CommandFailed(f"The job for {file} was refused: {status_error(result.error).message}")
                ids[file] = result.job_id
        return ids

    async def _watch(self, jobs: "JobServiceAsyncStub", groups: dict[str, str]) -> dict[str, job_pb2.Job]:
        """Every job as it ended, with a bar for each group meanwhile. groups: the group of each job's id."""
        ended: dict[str, job_pb2.Job] = {}
        totals = {group_label(key): sum(group == key for group in groups.values()) for key in self._groups}
        with progress(totals) as bars:
            async for job in self._changes(jobs, list(groups)):
                if job.state in _FINAL and job.id not in ended:
                    ended[job.id] = job
                    bars.advance(group_label(groups[job.id]))
        return ended

    async def _changes(self, jobs: "JobServiceAsyncStub", ids: Sequence[str]) -> AsyncIterator[job_pb2.Job]:
        async for response in jobs.WatchJobs(job_service_pb2.WatchJobsRequest(ids=ids)):
            for job in response.jobs:
                yield job

    async def _check_hashes(self, jobs: "JobServiceAsyncStub", ids: dict[Path, str]) -> None:
        """Some of the logs, over the whole list, against hashlib."""
        files = list(ids)[:: max(1, len(ids) // _CHECKED)][:_CHECKED]
        for file in files:
            lines = [
                record.text
                async for response in jobs.TailLogs(job_service_pb2.TailLogsRequest(id=ids[file]), timeout=_DEADLINE)
                for record in response.records
                if record.stream == LOG_STREAM_STDOUT
            ]
            content = await asyncio.to_thread(file.read_bytes)
            expected = [str(content.count(b"\n")), hashlib.sha256(content).hexdigest()]
            if [line.split()[0] for line in lines if line.strip()] != expected:
                raise CommandFailed(f"The job for {file} logged {lines}, but the file has {expected}.")
        print(
            f"Checked the logs of {len(files)} jobs against hashlib here: line counts and hashes are right.", flush=True
        )


def standard_library() -> list[Path]:
    """The files at the top level of the running Python's standard library, by name."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    return sorted(path for path in folder.iterdir() if path.is_file())


def count_and_hash(file: Path) -> Task:
    """The task: its log has the number of lines, then the hash."""
    task = Task(type=shell_task.TYPE)
    path = shlex.quote(str(file))
    task.properties.update({"commands": [f"wc -l < {path}", f"sha256sum < {path}"]})
    return task


def _check_states(jobs: Iterable[job_pb2.Job]) -> None:
    failed = [job for job in jobs if job.state != job_pb2.JOB_STATE_SUCCESS]
    if failed:
        raise CommandFailed(
            f"{len(failed)} of the jobs did not succeed.", *(f"{job.id}: {job.outcome.message}" for job in failed[:10])
        )
