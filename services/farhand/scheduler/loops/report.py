"""The leader tells the registry's roll what became of workers, at most 2 seconds after it did.

A row is a worker's newest session; epoch and counter travel with it, so a report
that comes late or twice changes nothing. What was told is remembered here alone:
a new leader, and a registry that was away, are told everything once.
"""

import asyncio
import logging

import grpc
import grpc.aio

from farhand.api.registry.v1 import worker_pb2
from farhand.api.registry.v1.roll_service_pb2 import ReportWorkersRequest, WorkerReport
from farhand.api.registry.v1.roll_service_pb2_grpc import RollServiceStub
from farhand.kernel.errors import Unavailable
from farhand.runtime.crash_points import reach
from farhand.runtime.grpc_channel import remote_error
from farhand.runtime.wire import timestamp
from farhand.scheduler.core.session import SessionState
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.loops.using import using
from farhand.scheduler.loops.waiting import Waiting
from farhand.scheduler.store.roll import Counter, RollRow, read_counters, read_counters_of, read_newest

log = logging.getLogger(__name__)

EVERY = 1.0  # seconds
ROWS = 1000  # at most, of one call
PATIENCE = 5.0  # seconds for one call
# Sessions are looked at by their id for so long after they came, since a short one may come and end between two looks.
FRESH = 1000

_STATES = {
    SessionState.CONNECTED: worker_pb2.WORKER_STATE_CONNECTED,
    SessionState.DRAINING: worker_pb2.WORKER_STATE_DRAINING,
    SessionState.DISCONNECTED: worker_pb2.WORKER_STATE_DISCONNECTED,
    SessionState.LOST: worker_pb2.WORKER_STATE_LOST,
    SessionState.STOPPED: worker_pb2.WORKER_STATE_STOPPED,
}


class Report:
    """See the module. Made anew for each leadership."""

    def __init__(self, connection: HotConnection, channel: grpc.aio.Channel) -> None:
        self._connection = connection
        self._roll = RollServiceStub(channel)
        self._told: dict[int, int] = {}  # session id → its counter when it was last told
        self._newest = 0  # the highest session id that was ever seen here; 0: everything is to be told
        self._database = Waiting(log, "the database, for the roll of workers")

    async def run(self) -> None:
        """Report, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self.once()
                self._database.over()
            except grpc.aio.AioRpcError as error:
                log.debug("the registry takes no report: %s", remote_error(error).message)  # loops.copy says it loudly
            except Unavailable as error:
                self._database.still(error.message)
            await asyncio.sleep(max(0.0, began + EVERY - loop.time()))

    async def once(self) -> None:
        """Report what changed since the last time. Raises AioRpcError, Unavailable (the database)."""
        counters, rest = await self._read_counters()
        changed = sorted({c.worker_id for id, c in (counters | rest).items() if self._told.get(id) != c.report})
        try:
            for start in range(0, len(changed), ROWS):
                await self._send(await self._read_newest(changed[start : start + ROWS]))
        except BaseException:
            self._told, self._newest = {}, 0
            raise
        self._told = {id: counter.report for id, counter in counters.items()}
        self._newest = max(self._newest, *counters, 0)

    async def _read_counters(self) -> tuple[dict[int, Counter], dict[int, Counter]]:
        """Of sessions that live or are fresh; and of those that no longer do but were told as if."""
        async with using(self._connection) as connection:
            counters = await read_counters(connection, after=self._newest - FRESH if self._newest else 0)
            gone = self._told.keys() - counters.keys()
            return counters, await read_counters_of(connection, gone) if gone else {}

    async def _read_newest(self, workers: list[str]) -> list[RollRow]:
        async with using(self._connection) as connection:
            return await read_newest(connection, workers)

    async def _send(self, rows: list[RollRow]) -> None:
        try:
            await self._roll.ReportWorkers(
                ReportWorkersRequest(reports=[_report(row) for row in rows]), timeout=PATIENCE
            )
            reach("report answered")
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            if len(rows) == 1:  # one worker's odd row must not hide the others
                log.error(
                    "the registry refuses a worker's row: %s",
                    remote_error(error).message,
                    extra={"worker": rows[0].worker_id},
                )
                return
            await self._send(rows[: len(rows) // 2])
            await self._send(rows[len(rows) // 2 :])


def _report(row: RollRow) -> WorkerReport:
    return WorkerReport(
        worker=worker_pb2.Worker(
            id=row.worker_id,
            worker_group=row.group_key,
            worker_group_uid=row.group_uid,
            state=_STATES[row.state],
            host=row.host,
            version=row.version,
            slots=row.slots,
            busy_slots=row.busy_slots,
            task_types=sorted(row.task_types),
            tenants=sorted(row.tenants or ()),
            start_time=timestamp(row.connected_at),
            heartbeat_time=timestamp(row.heartbeat_at),
            subject=row.subject,
        ),
        epoch=row.epoch,
        sequence=row.report,
    )
