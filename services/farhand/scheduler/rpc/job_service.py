"""JobService: takes work and tells what became of it. Each method reads its request, asks a room beside this
one, and writes the answer."""

import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from grpc.aio import ServicerContext

from farhand.api.scheduler.v1 import job_service_pb2 as messages
from farhand.api.scheduler.v1 import job_service_pb2_grpc
from farhand.kernel.errors import InvalidArgument, Violation
from farhand.kernel.job_id import execution_id
from farhand.kernel.names import DEFAULT_TENANT
from farhand.runtime.raw_batch import RawBatch
from farhand.runtime.security import Identity, identity
from farhand.scheduler.core.record import JobRecord
from farhand.scheduler.core.submission import Fresh
from farhand.scheduler.rpc.declared_groups import DeclaredGroups
from farhand.scheduler.rpc.explanations import Explanations
from farhand.scheduler.rpc.fields import bounded, caller_traceparent, make_token, read_token, wrong_token
from farhand.scheduler.rpc.ports import Kills
from farhand.scheduler.rpc.submits import Submits
from farhand.scheduler.rpc.tails import Tails
from farhand.scheduler.rpc.validation import check_admits
from farhand.scheduler.rpc.visible_jobs import VisibleJobs
from farhand.scheduler.rpc.watching import Watching
from farhand.scheduler.rpc.wire import fresh_message, job_message, job_states
from farhand.scheduler.store.execution_reads import read_execution_of_job
from farhand.scheduler.store.jobs import list_jobs, read_lost
from farhand.scheduler.store.reading import Reading

_DEFAULT_PAGE = 50
_LARGEST_PAGE = 1000
_MOST_WATCHED = 1000
_PAGE = "jobs"


@dataclass(frozen=True, slots=True)
class Rooms:
    """What the service is made of."""

    submits: Submits
    jobs: VisibleJobs
    groups: DeclaredGroups
    kills: Kills
    watching: Watching
    tails: Tails
    explanations: Explanations
    reading: Reading


class JobServicer(job_service_pb2_grpc.JobServiceServicer):
    """farhand.api.scheduler.v1.JobService."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    async def SubmitJob(
        self, request: messages.SubmitJobRequest, context: ServicerContext[Any, Any]
    ) -> messages.SubmitJobResponse:
        """See the proto."""
        key, row = await self._rooms.submits.one(request, identity(context), caller_traceparent(context))
        if isinstance(key, Fresh):
            return messages.SubmitJobResponse(job=fresh_message(key, row))
        record = await self._rooms.jobs.again(key, full=True)
        return messages.SubmitJobResponse(job=await self._with_lost(record))

    async def BatchSubmitJobs(  # type: ignore[override]  # the server reads this request leniently
        self, request: RawBatch[messages.BatchSubmitJobsRequest], context: ServicerContext[Any, Any]
    ) -> messages.BatchSubmitJobsResponse:
        """See the proto. `access.LENIENT` says how the request is read."""
        return await self._rooms.submits.many(request, identity(context), caller_traceparent(context))

    async def GetJob(
        self, request: messages.GetJobRequest, context: ServicerContext[Any, Any]
    ) -> messages.GetJobResponse:
        """See the proto."""
        record = await self._rooms.jobs.find(request.id, identity(context), full=True)
        job = await self._with_lost(record)
        async with self._rooms.reading.connection() as connection:
            execution = await read_execution_of_job(connection, record.key)
        if execution is not None:
            job.execution = execution_id(execution)
        return messages.GetJobResponse(job=job)

    async def ListJobs(
        self, request: messages.ListJobsRequest, context: ServicerContext[Any, Any]
    ) -> messages.ListJobsResponse:
        """See the proto."""
        caller = identity(context)
        tenant = request.tenant or DEFAULT_TENANT
        check_admits(caller, tenant)
        try:
            states = job_states(request.states)
        except KeyError as error:
            raise InvalidArgument.of(Violation("states", f"{error} is not a JobState")) from None
        if request.page_size < 0:
            raise InvalidArgument.of(Violation("page_size", "must not be negative"))
        group_uid = (await self._group(request.worker_group, caller)) if request.worker_group else None
        asked = zlib.crc32(repr((tenant, request.worker_group, sorted(states))).encode())
        before = None
        if request.page_token:
            of, before = read_token("page_token", request.page_token, _PAGE, 2)
            if of != asked:
                raise wrong_token("page_token")
        size = min(request.page_size or _DEFAULT_PAGE, _LARGEST_PAGE)
        async with self._rooms.reading.connection() as connection:
            page = await list_jobs(connection, tenant, group_uid, states, before, size)
        token = "" if page.next_before is None else make_token(_PAGE, asked, page.next_before)
        return messages.ListJobsResponse(jobs=map(job_message, page.records), next_page_token=token)

    async def WaitJob(
        self, request: messages.WaitJobRequest, context: ServicerContext[Any, Any]
    ) -> messages.WaitJobResponse:
        """See the proto."""
        timeout = bounded(request, "timeout", default=60.0, most=600.0)
        record = await self._rooms.watching.wait(request.id, identity(context), timeout)
        return messages.WaitJobResponse(job=job_message(record))

    async def WatchJobs(
        self, request: messages.WatchJobsRequest, context: ServicerContext[Any, Any]
    ) -> AsyncIterator[messages.WatchJobsResponse]:
        """See the proto."""
        if not 1 <= len(request.ids) <= _MOST_WATCHED:
            raise InvalidArgument.of(
                Violation("ids", f"holds {len(request.ids):,} ids; 1 to {_MOST_WATCHED:,} are allowed")
            )
        async for records in self._rooms.watching.watch(request.ids, identity(context)):
            yield messages.WatchJobsResponse(jobs=map(job_message, records))

    async def KillJob(
        self, request: messages.KillJobRequest, context: ServicerContext[Any, Any]
    ) -> messages.KillJobResponse:
        """See the proto."""
        grace = bounded(request, "grace", default=10.0, most=600.0)
        record = await self._rooms.jobs.find(request.id, identity(context), full=True)
        if not record.ended:
            await self._rooms.kills.kill(record.key, round(grace * 1000))
            record = await self._rooms.jobs.again(record.key, full=True)
        return messages.KillJobResponse(job=job_message(record))

    async def ExplainJob(
        self, request: messages.ExplainJobRequest, context: ServicerContext[Any, Any]
    ) -> messages.ExplainJobResponse:
        """See the proto."""
        return await self._rooms.explanations.explain(request.id, identity(context))

    async def TailLogs(
        self, request: messages.TailLogsRequest, context: ServicerContext[Any, Any]
    ) -> AsyncIterator[messages.TailLogsResponse]:
        """See the proto."""
        tail = self._rooms.tails.tail(request.id, identity(context), request.position, follow=request.follow)
        async for answer in tail:
            yield answer

    async def _group(self, group_id: str, caller: Identity) -> str:
        return (await self._rooms.groups.find(group_id, caller)).uid

    async def _with_lost(self, record: JobRecord) -> Any:
        if not record.fence:  # never assigned
            return job_message(record)
        async with self._rooms.reading.connection() as connection:
            return job_message(record, lost=await read_lost(connection, record.key))
