"""One run in AWS Batch, from the claim of the job to what is left of it.

claim    jobs of the name: those of an older fence are terminated, and ours is submitted when they have ended; a
         newer fence means that ours must not run (P1, P4). AWS keeps no name unique, so two workers that claim
         at one moment are told apart only by what the scheduler takes: the fence
follow   look at the job, and print its CloudWatch log by the service's own tokens, so that no line is lost or
         comes twice
fetch    the output files, from the bucket
clean    terminate what has not ended; forget the definition, and the run's files in the bucket. Killed before
         that, the job is terminated by the claim of the job's next run, or ends with waitUntilCompletion
"""

import asyncio
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from farhand.kernel.durations import format_duration, parse_duration
from farhand.kernel.globs import matches_any
from farhand.worker.runners import CommandEnd
from farhand.worker.runners.batch.api import Aws, NoAccess, Refused
from farhand.worker.runners.batch.definition import (
    ENDED,
    FENCE,
    IN,
    JOB,
    LOG_GROUP,
    LONGEST_RUN,
    OUT,
    RUN,
    Wanted,
    definition,
    exit_code,
    job_name,
    out_of_memory,
    side_failed,
    stream,
    submission,
    why,
)
from farhand.worker.runners.client import Lost, NeverRan
from farhand.worker.runners.hosted import Task
from farhand.worker.runners.patience import PATIENCE, Away, persist

CHECK = 5.0  # seconds between two looks at the job, where the task says no completionCheckInterval
SETTLED = 3  # looks at a log that bring nothing, after which an ended job's is taken to be whole
MOST_FILES = 1_000  # as in tasks/files.py


class BatchClient:
    """See runners.client.Client. A setting `patience` (seconds) says how long AWS may be away."""

    async def run(self, task: Task, stop: asyncio.Event) -> CommandEnd:
        """See runners.client.Client.run."""
        try:
            with closing(Aws(task.properties, float(task.settings.get("patience", PATIENCE)))) as aws:
                return await _Run(aws, task, stop).live()
        except NoAccess as error:
            raise NeverRan(str(error)) from error


class _Run:
    def __init__(self, aws: Aws, task: Task, stop: asyncio.Event) -> None:
        self._aws = aws
        self._task = task
        self._stop = stop
        self._own = task.properties
        self._folder = Path(task.folder)
        self._check = parse_duration(str(self._own.get("completionCheckInterval") or CHECK))
        job = task.env["FARHAND_JOB_ID"]
        name = job_name(task.env.get("FARHAND_GROUP_UID", ""), task.run_id, job)
        brings = any(self._folder.iterdir())
        if (brings or task.output_files) and not self._own.get("bucket"):
            raise NeverRan("the command has files, and they go by way of S3: write taskRunner.bucket")
        if (brings or task.output_files) and self._own.get("jobDefinitionArn"):
            raise NeverRan("files need a job definition that Farhand makes: leave taskRunner.jobDefinitionArn out")
        self._wanted = Wanted(
            name=name,
            run=secrets.token_hex(8),
            job=job,
            fence=int(task.env["FARHAND_FENCE"]),
            argv=task.argv,
            env=task.env,
            image=task.image,
            properties=self._own,
            seconds=max(60, int(parse_duration(str(self._own.get("waitUntilCompletion") or LONGEST_RUN)))),
            prefix=f"farhand/{name}/{task.env['FARHAND_FENCE']}/" if brings or task.output_files else "",
            brings_files=brings,
            output_files=task.output_files,
        )
        self._definition = ""  # the ARN of the one that was made
        self._queue = ""
        self._id = ""  # the job's, once there is one
        self._ended = False
        self._token: str | None = None  # where the log goes on

    # ── the whole ──

    async def live(self) -> CommandEnd:
        body = asyncio.create_task(self._from_claim_to_fetch())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([body, stopping], return_when=asyncio.FIRST_COMPLETED)
            if body.done():
                return await body
            if self._id:
                # The rest goes on: it reads the last words, and sees the end.
                await self._terminate(self._id, "the run was stopped")
                return await body
            return CommandEnd(-signal.SIGTERM)
        except Refused as error:
            raise (Lost if self._id else NeverRan)(str(error)) from error
        except Away as error:
            told = f"{error} (tried for {format_duration(self._aws.patience)})"
            self._aws.patience = 0.0  # for what is still to be cleaned
            if not self._id:
                raise NeverRan(told) from error
            raise Lost(
                f"{told}; the job {self._id} is terminated by the next run of it, or ends by itself within "
                f"{format_duration(self._wanted.seconds)} (waitUntilCompletion)"
            ) from error
        finally:
            for task in (body, stopping):
                task.cancel()
            await asyncio.gather(body, stopping, return_exceptions=True)
            await self._clean()

    async def _from_claim_to_fetch(self) -> CommandEnd:
        self._queue, fargate = await self._place()
        await self._claim()
        given = self._own.get("jobDefinitionArn")
        if not given:
            made = await self._aws.call("batch", "register_job_definition", **definition(self._wanted, fargate=fargate))
            self._definition = made["jobDefinitionArn"]
        if self._wanted.brings_files:
            await self._bring_in()
        await _whole(self._submit(given or self._definition, given=bool(given)))
        job = await self._follow()
        return await self._end(job)

    async def _end(self, job: dict[str, Any]) -> CommandEnd:
        code, told = exit_code(job), why(job)
        if self._stop.is_set():
            return CommandEnd(-signal.SIGTERM if code is None else code)
        if out_of_memory(job):
            return CommandEnd(
                137 if code is None else code, "OUT_OF_MEMORY", f"the command used too much memory: {told}"
            )
        if side_failed(job, IN):
            raise NeverRan(told)
        if code is None:
            kind = Lost if stream(job) else NeverRan
            raise kind(f"the job {self._id} of AWS Batch ended without its command's exit code: {told or 'no reason'}")
        if not self._wanted.output_files:
            return CommandEnd(code)
        if side_failed(job, OUT):
            return CommandEnd(code, "OUTPUT_FILES_FAILED", told)
        try:
            await self._fetch()
        except Refused as error:
            return CommandEnd(code, "OUTPUT_FILES_FAILED", str(error))
        return CommandEnd(code)

    # ── claim ──

    async def _place(self) -> tuple[str, bool]:
        """The queue, and whether Fargate is behind it."""
        queue, environment = self._own.get("jobQueueArn"), self._own.get("computeEnvironmentArn")
        if queue:
            found = (await self._aws.call("batch", "describe_job_queues", jobQueues=[queue]))["jobQueues"]
            if not found:
                raise NeverRan(f"there is no job queue {queue}: look at taskRunner.jobQueueArn and region")
            environment = environment or found[0]["computeEnvironmentOrder"][0]["computeEnvironment"]
        asked = {"computeEnvironments": [environment]}
        environments = (await self._aws.call("batch", "describe_compute_environments", **asked))["computeEnvironments"]
        if not environments:
            raise NeverRan(
                f"there is no compute environment {environment}: look at taskRunner.computeEnvironmentArn and region"
            )
        fargate = str(environments[0].get("computeResources", {}).get("type", "")).startswith("FARGATE")
        return queue or await self._queue_of(environments[0]), fargate

    async def _queue_of(self, environment: dict[str, Any]) -> str:
        """A queue before the compute environment: one that is there, or one that we make and leave for later runs."""
        arn = environment["computeEnvironmentArn"]
        async for queue in self._pages("batch", "describe_job_queues", "jobQueues"):
            order = [each["computeEnvironment"] for each in queue["computeEnvironmentOrder"]]
            if order == [arn] and queue["state"] == "ENABLED":
                return str(queue["jobQueueArn"])
        name = f"farhand-{environment['computeEnvironmentName']}"[:128]
        try:
            made = await self._aws.call(
                "batch",
                "create_job_queue",
                jobQueueName=name,
                state="ENABLED",
                priority=1,
                computeEnvironmentOrder=[{"order": 1, "computeEnvironment": arn}],
            )
            return str(made["jobQueueArn"])
        except Refused as error:
            if "already exists" in str(error):  # another run made it meanwhile
                return name
            raise

    async def _claim(self) -> None:
        told = False
        while earlier := [job for job in await self._namesakes() if job["status"] not in ENDED]:
            for job in earlier:
                tags = job.get("tags") or {}
                if tags.get(JOB) != self._wanted.job or not tags.get(FENCE, "").isdigit():
                    raise NeverRan(f"there is a job {self._wanted.name} in AWS Batch that Farhand did not submit")
                if int(tags[FENCE]) >= self._wanted.fence:
                    raise NeverRan(
                        f"the job runs in AWS Batch under the fence {tags[FENCE]}, and this run has the fence "
                        f"{self._wanted.fence}: it is not this worker's any more"
                    )
                if not told:
                    told = True
                    _complain(
                        f"a run of this job before (fence {tags[FENCE]}) is still in AWS Batch: terminating it first"
                    )
                await self._terminate(job["jobId"], "a newer run of the job starts")
            await asyncio.sleep(self._check)

    async def _submit(self, definition_arn: str, *, given: bool) -> None:
        asked = submission(self._wanted, self._queue, definition_arn, given=given)
        tried = False

        async def once() -> str:
            nonlocal tried
            if tried:  # the answer was lost, and the job may be there
                for job in await self._namesakes():
                    if (job.get("tags") or {}).get(RUN) == self._wanted.run:
                        return str(job["jobId"])
            tried = True
            return str((await self._aws.once("batch", "submit_job", **asked))["jobId"])

        self._id = await persist(once, self._aws.patience)

    async def _namesakes(self) -> list[dict[str, Any]]:
        """The jobs of our name that Batch still knows, described."""
        asked = {"jobQueue": self._queue, "filters": [{"name": "JOB_NAME", "values": [self._wanted.name]}]}
        ids = [job["jobId"] async for job in self._pages("batch", "list_jobs", "jobSummaryList", **asked)]
        jobs: list[dict[str, Any]] = []
        for start in range(0, len(ids), 100):
            jobs += (await self._aws.call("batch", "describe_jobs", jobs=ids[start : start + 100]))["jobs"]
        return jobs

    async def _terminate(self, id: str, reason: str) -> None:
        await self._aws.call("batch", "terminate_job", jobId=id, reason=reason)

    # ── follow ──

    async def _follow(self) -> dict[str, Any]:
        """Print the log until the job has ended and its log is whole; the job's last description."""
        waiting = ""
        while True:
            described = (await self._aws.call("batch", "describe_jobs", jobs=[self._id]))["jobs"]
            if not described:
                raise Lost(f"AWS Batch does not know the job {self._id} any more")
            job: dict[str, Any] = described[0]
            reason = str(job.get("statusReason") or "")
            if job["status"] == "RUNNABLE" and reason and reason != waiting:
                waiting = reason
                _complain(f"waiting: {reason}")
            name = stream(job)
            if job["status"] in ENDED:
                self._ended = True
                empty = 0
                while name and empty < SETTLED:
                    empty = 0 if await self._print(name) else empty + 1
                    await asyncio.sleep(min(self._check, 1.0))
                return job
            if name:
                await self._print(name)
            await asyncio.sleep(self._check)

    async def _print(self, name: str) -> bool:
        """Print what is new in the log; whether there was anything."""
        came = False
        while True:
            asked: dict[str, Any] = {"logGroupName": LOG_GROUP, "logStreamName": name, "startFromHead": True}
            if self._token is not None:
                asked["nextToken"] = self._token
            try:
                answer = await self._aws.call("logs", "get_log_events", **asked)
            except Refused as error:
                if error.code == "ResourceNotFoundException":  # not yet
                    return came
                raise
            for event in answer["events"]:
                came = True
                sys.stdout.buffer.write(event["message"].rstrip("\n").encode("utf-8", "replace") + b"\n")
            sys.stdout.buffer.flush()
            token, self._token = self._token, answer["nextForwardToken"]
            if token == self._token:  # the service's word for "that is all"
                return came

    # ── files ──

    async def _bring_in(self) -> None:
        files = [path for path in sorted(self._folder.rglob("*")) if path.is_file() and not path.is_symlink()]
        for path in files:
            key = f"{self._wanted.prefix}in/{path.relative_to(self._folder)}"
            try:
                await self._aws.upload(self._own["bucket"], key, path)
            except Refused as error:
                raise NeverRan(
                    f"the input files can't be put into the bucket {self._own['bucket']}: {error}"
                ) from error

    async def _fetch(self) -> None:
        start = f"{self._wanted.prefix}out/"
        patterns = [pattern.removeprefix("./") for pattern in self._wanted.output_files]
        keys = [key async for key in self._keys(start) if matches_any(patterns, key.removeprefix(start))]
        if len(keys) > MOST_FILES:
            raise Refused("", f"outputFiles mean {len(keys):,} files; {MOST_FILES:,} are allowed: pack them")
        for key in keys:
            to = self._folder / key.removeprefix(start)
            if ".." in to.relative_to(self._folder).parts:
                continue
            to.parent.mkdir(parents=True, exist_ok=True)
            await self._aws.download(self._own["bucket"], key, to)

    async def _keys(self, start: str) -> AsyncIterator[str]:
        more: dict[str, Any] = {}
        while True:
            asked = {"Bucket": self._own["bucket"], "Prefix": start, **more}
            answer = await self._aws.call("s3", "list_objects_v2", **asked)
            for each in answer.get("Contents") or ():
                yield each["Key"]
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    # ── clean ──

    async def _clean(self) -> None:
        with suppress(Refused, Away, NoAccess):
            if self._id and not self._ended:
                await self._terminate(self._id, "the run ended")
        with suppress(Refused, Away, NoAccess):
            if self._definition:
                await self._aws.call("batch", "deregister_job_definition", jobDefinition=self._definition)
        with suppress(Refused, Away, NoAccess):
            if self._wanted.prefix:
                async for key in self._keys(self._wanted.prefix):
                    await self._aws.call("s3", "delete_object", Bucket=self._own["bucket"], Key=key)

    async def _pages(self, service: str, method: str, field: str, **arguments: Any) -> AsyncIterator[dict[str, Any]]:
        more: dict[str, Any] = {}
        while True:
            answer = await self._aws.call(service, method, **arguments, **more)
            for each in answer[field]:
                yield each
            if not answer.get("nextToken"):
                return
            more = {"nextToken": answer["nextToken"]}


async def _whole(coroutine: Any) -> None:
    """Await it, also where we are cancelled meanwhile: a job that was submitted must be known."""
    task = asyncio.ensure_future(coroutine)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=15)
        task.cancel()
        raise


def _complain(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
