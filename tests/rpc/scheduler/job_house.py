"""A scheduler's front rooms on a real port and a real database, with a queue and kills that are simple rows.

async with open_house(rows) as house:
    await house.jobs.SubmitJob(...)
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
from opentelemetry.trace import NoOpTracer

from farhand.api.scheduler.v1.group_service_pb2_grpc import GroupServiceStub, add_GroupServiceServicer_to_server
from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceStub, add_JobServiceServicer_to_server
from farhand.kernel.errors import FarhandError, RequestIdReused
from farhand.runtime.database import database_error, make_engine
from farhand.runtime.grpc_channel import make_channel
from farhand.runtime.grpc_server import bind, make_server
from farhand.runtime.security import Identity, Tokens
from farhand.runtime.settings import DialSettings, ListenSettings
from farhand.scheduler.core.declared import Declared, Group, Tenant
from farhand.scheduler.core.submission import Answer, JobRow, Submission
from farhand.scheduler.loops.changes import Changes
from farhand.scheduler.loops.reads import JobReads
from farhand.scheduler.rpc.access import ACCESS, LENIENT
from farhand.scheduler.rpc.declared_groups import DeclaredGroups
from farhand.scheduler.rpc.explanations import Explanations
from farhand.scheduler.rpc.group_service import GroupServicer
from farhand.scheduler.rpc.job_service import JobServicer, Rooms
from farhand.scheduler.rpc.submits import Submits
from farhand.scheduler.rpc.tails import Tails
from farhand.scheduler.rpc.visible_jobs import VisibleJobs
from farhand.scheduler.rpc.watching import Poll, Watching
from farhand.scheduler.store.reading import Reading
from tests.fixtures.scheduler_rows import Rows

if TYPE_CHECKING:
    from farhand.api.scheduler.v1.group_service_pb2_grpc import GroupServiceAsyncStub
    from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceAsyncStub


@dataclass
class Registry:
    """The copy of a registry that holds the default group and what `add` put there."""

    declared: Declared = field(
        default_factory=lambda: Declared.of(1, [Tenant("main"), Tenant("acme")], [], [Group("u-default", "")])
    )
    late: list[Group] = field(default_factory=list)  # known to the registry, not yet here
    asked: int = 0

    def add(self, *groups: Group) -> None:
        known = [*self.declared.groups_by_uid.values(), *groups]
        self.declared = Declared.of(1, self.declared.tenants.values(), [], known)

    async def catch_up(self) -> None:
        self.asked += 1
        self.add(*self.late)


@dataclass
class Queue:
    """Puts each row where the enqueue would."""

    rows: Rows
    registry: Registry
    submissions: list[Submission] = field(default_factory=list)
    answers: dict[tuple[str, str], tuple[bytes, Answer]] = field(default_factory=dict)

    async def submit(self, submission: Submission) -> Answer:
        self.submissions.append(submission)
        name = (submission.tenant, submission.request_id)
        if submission.request_id and name in self.answers:
            body_hash, answer = self.answers[name]
            if body_hash != submission.body_hash:
                raise RequestIdReused("The request_id was used before for another request.")
            return answer
        answer = tuple([await self._put(row) for row in submission.rows])
        self.answers[name] = (submission.body_hash, answer)
        return answer

    async def _put(self, row: JobRow | bytes) -> int | bytes | FarhandError:
        if isinstance(row, bytes):
            return row
        try:
            where = row.place(self.registry.declared)
        except FarhandError as error:
            return error
        key: int = await self.rows.connection.fetchval(
            """WITH lane AS (
                   INSERT INTO scheduler.lane (group_uid, tenant, task_type) VALUES ($1, $2, $3)
                   ON CONFLICT (group_uid, tenant, task_type) DO UPDATE SET tenant = excluded.tenant RETURNING id
               ), job AS (
                   INSERT INTO scheduler.job (key, lane_id, fallback, max_deliveries, namespace, traceparent, task)
                   SELECT nextval('scheduler.job_key'), id, $4::text::"char", $5, $6, $7, $8 FROM lane RETURNING *
               ) INSERT INTO scheduler.queue SELECT lane_id, key, fallback, 0 FROM job RETURNING key""",
            where.group_uid,
            row.tenant,
            row.task_type,
            where.fallback[0],
            row.max_deliveries,
            row.namespace,
            row.traceparent,
            row.task,
        )
        return key


@dataclass
class Kills:
    """Ends a waiting job, marks one that a worker has."""

    rows: Rows
    killed: list[tuple[int, int]] = field(default_factory=list)

    async def kill(self, key: int, grace_ms: int) -> None:
        self.killed.append((key, grace_ms))
        await self.rows.connection.execute("UPDATE scheduler.live SET kill_at = now() WHERE key = $1", key)
        await self.rows.connection.execute(
            """WITH taken AS (DELETE FROM scheduler.queue WHERE key = $1 RETURNING *)
               INSERT INTO scheduler.done (key, lane_id, state, fence, lost, ended_at, reason, message)
               SELECT key, lane_id, 'KILLED', 0, lost, now(), 'KILLED', 'It was killed while it waited.' FROM taken""",
            key,
        )


@dataclass
class House:
    """The stubs of a caller, and what stands behind the servicers."""

    rows: Rows
    address: str
    registry: Registry
    queue: Queue
    kills: Kills
    changes: Changes
    _channels: list[grpc.aio.Channel] = field(default_factory=list)

    def dial(self, token: str | None = None) -> grpc.aio.Channel:
        channel = make_channel(self.address, DialSettings(token=token))
        self._channels.append(channel)
        return channel

    def jobs(self, token: str | None = None) -> "JobServiceAsyncStub":
        return JobServiceStub(self.dial(token))

    def groups(self, token: str | None = None) -> "GroupServiceAsyncStub":
        return GroupServiceStub(self.dial(token))

    async def watched(self, key: int, *, by: int = 1) -> None:
        """Wait until so many calls watch the job."""
        while len(self.changes.watching(key)) != by:
            await self.rows.connection.execute("SELECT 1")

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


@asynccontextmanager
async def open_house(
    rows: Rows,
    *,
    callers: dict[str, Identity] | None = None,
    payload_limit: int = 256 << 10,
    poll_seconds: float = 60.0,
    database_url: str | None = None,
) -> AsyncIterator[House]:
    """`callers`: by token; none: everyone is local. Polls are slow, so that a test sees whether news
    arrive. `database_url`: the way to the database of `rows`."""
    registry = Registry()
    queue, kills, changes = Queue(rows, registry), Kills(rows), Changes()
    engine = make_engine(database_url or rows.url)
    reading = Reading(engine)
    reads = JobReads(reading)
    jobs, groups, poll = VisibleJobs(reads), DeclaredGroups(registry), Poll(lambda: 0.5, poll_seconds)
    rooms = Rooms(
        submits=Submits(queue, NoOpTracer(), payload_limit=payload_limit),
        jobs=jobs,
        groups=groups,
        kills=kills,
        watching=Watching(jobs, changes, poll),
        tails=Tails(jobs, reading, changes, poll),
        explanations=Explanations(jobs, reading),
        reading=reading,
    )
    settings = ListenSettings(listen="127.0.0.1:0")
    tokens = None
    if callers is not None:
        tokens = Tokens([(hashlib.sha256(token.encode()).digest(), caller) for token, caller in callers.items()])
    server = make_server(settings, tokens, ACCESS, translate=database_error, lenient=LENIENT)
    add_JobServiceServicer_to_server(JobServicer(rooms), server)
    add_GroupServiceServicer_to_server(GroupServicer(groups, reading), server)
    address = await bind(server, settings)
    await server.start()
    reader = asyncio.create_task(reads.run())
    house = House(rows, address, registry, queue, kills, changes)
    try:
        yield house
    finally:
        await house.close()
        await server.stop(0)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        await engine.dispose()
