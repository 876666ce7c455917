"""The leader finishes what the registry began: the deletion of worker groups (design.md, "Deleting a group").

A group in state DELETING takes no jobs from the moment that the copy says so. The
leader looks what is left there under the group's lock and answers the registry:
nothing, so the group may go; or so many, so it stays. With `force` it ends the
waiting jobs and asks kills for the others until none is left. All of it is read
from the database at each look, so a new leader goes on where the old one was.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import grpc
import grpc.aio
from asyncpg import DeadlockDetectedError

from farhand.api.registry.v1.worker_group_service_pb2 import ResolveWorkerGroupDeletionRequest
from farhand.api.registry.v1.worker_group_service_pb2_grpc import WorkerGroupServiceStub
from farhand.kernel.errors import NotDeleting, Unavailable
from farhand.kernel.names import group_label
from farhand.runtime.crash_points import reach
from farhand.runtime.grpc_channel import remote_error
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.loops.using import using
from farhand.scheduler.loops.waiting import Waiting
from farhand.scheduler.store.deletion import (
    JobsLeft,
    Leaving,
    count_jobs,
    end_waiting_jobs,
    read_leaving,
    read_not_killed,
)
from farhand.scheduler.store.groups import EncodeLog, Ending

log = logging.getLogger(__name__)

POLL = 1.0  # seconds
PATIENCE = 5.0  # seconds for one call to the registry
BATCH = 5000  # waiting jobs that end in one transaction
KILLS_AT_ONCE = 64
GRACE_MS = 10_000  # from TERM to KILL


class Kills(Protocol):
    """Ends jobs that workers have."""

    async def kill(self, key: int, grace_ms: int) -> None:
        """Ask for a job's end; returns when that is recorded. Raises Unavailable."""


class Deletion:
    """See the module. `on_ended` gets the keys of jobs that ended, after the commit, and must not block."""

    def __init__(
        self,
        connection: HotConnection,
        channel: grpc.aio.Channel,
        kills: Kills,
        *,
        writer: str,
        encode_log: EncodeLog,
        on_ended: Callable[[Sequence[int]], None],
    ) -> None:
        self._connection = connection
        self._groups = WorkerGroupServiceStub(channel)
        self._kills = kills
        self._writer = writer
        self._encode_log = encode_log
        self._on_ended = on_ended
        self._wake = asyncio.Event()
        self._waiting = Waiting(log, "what the deletion of a worker group needs")

    def wake(self) -> None:
        """Some group changed."""
        self._wake.set()

    async def run(self) -> None:
        """Look at every wake-up, and once a second, for ever."""
        while True:
            self._wake.clear()
            try:
                await self.once()
                self._waiting.over()
            except Unavailable as error:
                self._waiting.still(error.message)
            except DeadlockDetectedError:
                continue  # it met another writer, and nothing was changed
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL):
                    await self._wake.wait()

    async def once(self) -> None:
        """Bring every deletion as far as it goes now. Raises Unavailable."""
        async with using(self._connection) as connection:
            groups = await read_leaving(connection)
        for group in groups:
            if group.forced or group.vanished:
                await self._end_waiting(group)
            if group.vanished:
                continue
            if group.forced:
                await self._kill_held(group)
            async with using(self._connection) as connection:
                left = await count_jobs(connection, group.uid)
            if left is not None and not (group.forced and left != JobsLeft(0, 0)):
                await self._resolve(group, left)

    async def _end_waiting(self, group: Leaving) -> None:
        message = f"Worker group {group_label(group.key)} was deleted while the job waited."
        ending = Ending("KILLED", "GROUP_DELETED", message, self._encode_log(message), asked=True)
        while True:
            async with using(self._connection) as connection:
                ended = await end_waiting_jobs(connection, group, ending, limit=BATCH, writer=self._writer)
            if not ended:
                return
            reach("deletion ended jobs")
            self._on_ended(ended)
            log.info("jobs were killed with their group", extra={"group": group.uid, "jobs": len(ended)})

    async def _kill_held(self, group: Leaving) -> None:
        keys = [0]
        while keys:
            async with using(self._connection) as connection:
                keys = await read_not_killed(connection, group.uid, after=keys[-1], limit=KILLS_AT_ONCE)
            lost: BaseException | None = None
            try:
                async with asyncio.TaskGroup() as siblings:
                    for key in keys:
                        siblings.create_task(self._kills.kill(key, GRACE_MS))
            except* Unavailable as errors:
                lost = errors
            # Not inside of except*: some releases of Python 3.11 make a group of what is raised there.
            if lost is not None:
                raise Unavailable("A kill could not be recorded.") from lost

    async def _resolve(self, group: Leaving, left: JobsLeft) -> None:
        reach("deletion counted")
        try:
            await self._groups.ResolveWorkerGroupDeletion(
                ResolveWorkerGroupDeletionRequest(uid=group.uid, queued_jobs=left.queued, running_jobs=left.running),
                timeout=PATIENCE,
            )
        except grpc.aio.AioRpcError as error:
            told = remote_error(error)
            if told.code is grpc.StatusCode.NOT_FOUND or told.reason == NotDeleting.reason:
                return  # it was resolved before; the copy will say so
            raise Unavailable(f"The registry takes no answer about a deletion: {told.message}") from error
        reach("deletion answered")
        log.info(
            "the deletion of a worker group is answered",
            extra={"group": group.uid, "queued": left.queued, "running": left.running},
        )
