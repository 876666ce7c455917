"""WorkerControlService: an operator's hand on workers."""

from typing import Any

import asyncpg
import grpc

from farhand.api.registry.v1 import worker_pb2
from farhand.api.scheduler.v1 import worker_control_service_pb2 as pb
from farhand.api.scheduler.v1 import worker_control_service_pb2_grpc
from farhand.kernel.errors import WorkerNotConnected
from farhand.kernel.names import check_worker_id, not_found, shown
from farhand.runtime import wire
from farhand.runtime.database import database_error
from farhand.scheduler.loops.sessions import Sessions
from farhand.scheduler.store.sql import SQL


class WorkerControlService(worker_control_service_pb2_grpc.WorkerControlServiceServicer):
    """See the module."""

    def __init__(self, pool: asyncpg.Pool, sessions: Sessions) -> None:
        self._pool = pool
        self._sessions = sessions

    async def DrainWorker(
        self, request: pb.DrainWorkerRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DrainWorkerResponse:
        """Nothing is assigned to it once this answers (P8)."""
        row = await self._living(request.id, "drain")
        await self._sessions.drain_worker(row["id"])
        return pb.DrainWorkerResponse(worker=_worker(await self._session(request.id)))

    async def FenceWorker(
        self, request: pb.FenceWorkerRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.FenceWorkerResponse:
        """Its jobs are given back now."""
        row = await self._living(request.id, "fence")
        count = await self._sessions.fence_worker(row["id"])
        return pb.FenceWorkerResponse(worker=_worker(await self._session(request.id)), given_back_jobs=count)

    async def _living(self, worker_id: str, what: str) -> asyncpg.Record:
        row = await self._session(worker_id)
        if row["state"] in ("LOST", "STOPPED"):
            raise WorkerNotConnected(
                f"Worker {shown(worker_id)} is {row['state']}; there is nothing to {what}. "
                "`farhand worker list` shows those that are connected."
            )
        return row

    async def _session(self, worker_id: str) -> asyncpg.Record:
        possible = not check_worker_id("id", worker_id)  # PostgreSQL can't even be asked for a NUL
        try:
            row = await self._pool.fetchrow(SQL["session_of_worker"], worker_id) if possible else None
            if row is None:
                known = [found["id"] for found in await self._pool.fetch(SQL["known_workers"])]
                raise not_found("worker", worker_id, known, "`farhand worker list` shows them.")
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise database_error(error) or error from error
        return row


def _worker(row: asyncpg.Record) -> worker_pb2.Worker:
    state = "DRAINING" if row["draining"] and row["state"] == "CONNECTED" else row["state"]
    return worker_pb2.Worker(
        id=row["worker_id"],
        worker_group=row["group_key"],
        worker_group_uid=row["group_uid"],
        state=worker_pb2.WorkerState.Value(f"WORKER_STATE_{state}"),
        host=row["host"],
        version=row["version"],
        slots=row["slots"],
        busy_slots=row["busy_slots"],
        task_types=row["task_types"],
        tenants=row["tenants"] or [],
        start_time=wire.timestamp(row["connected_at"]),
        heartbeat_time=wire.timestamp(row["heartbeat_at"]),
        subject=row["subject"],
    )
