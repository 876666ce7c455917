"""Workers are killed, stopped, asked to stop, drained and declared dead."""

import asyncio
import fcntl

import grpc

from farhand.api.scheduler.v1 import worker_control_service_pb2, worker_control_service_pb2_grpc
from tests.chaos.hand import Fault, Ground, Hand


class WorkerFaults:
    """See the module."""

    def __init__(self, ground: Ground, hand: Hand) -> None:
        self._ground = ground
        self._hand = hand
        self.kinds: dict[str, Fault] = {
            "a worker is killed -9": self._worker_killed,
            "a worker is killed, and declared dead by an operator": self._worker_fenced,
            "a worker stands still for longer than its lease": self._worker_stopped,
            "a worker gets SIGTERM and comes back": self._worker_terminated,
            "a worker is drained by an operator, and restarted": self._worker_drained,
        }

    async def _worker_killed(self, kind: str) -> None:
        name = self._ground.worker(self._hand)
        async with self._hand.hits(kind, name) as hit:
            if hit:
                worker = self._ground.mesh.workers[name]
                worker.kill()
                await asyncio.sleep(self._hand.chance.choice((0.0, self._ground.lease / 2, self._ground.lease * 1.5)))
                await worker.restart()

    async def _worker_fenced(self, kind: str) -> None:
        name = self._ground.worker(self._hand)
        async with self._hand.hits(kind, name) as hit:
            if hit:
                worker = self._ground.mesh.workers[name]
                worker.kill()
                await worker.ended()
                await self._nothing_lives_of(name)
                request = worker_control_service_pb2.FenceWorkerRequest(id=name)
                await self._control("FenceWorker", request)
                await asyncio.sleep(self._hand.chance.uniform(0, self._ground.lease))
                await worker.restart()

    async def _nothing_lives_of(self, name: str) -> None:
        """An operator's word is to be true: returns once its warden has killed all and let go of the data folder."""
        with (self._ground.mesh.folder / "workers" / name / "lock").open() as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    await asyncio.sleep(0.02)
                else:
                    return

    async def _worker_stopped(self, kind: str) -> None:
        name = self._ground.worker(self._hand)
        async with self._hand.hits(kind, name) as hit:
            if hit:
                worker = self._ground.mesh.workers[name]
                worker.pause()
                await asyncio.sleep(self._ground.lease * 1.5)
                worker.resume()

    async def _worker_terminated(self, kind: str) -> None:
        name = self._ground.worker(self._hand)
        async with self._hand.hits(kind, name) as hit:
            if hit:
                self._ground.mesh.workers[name].terminate()
                await self._ground.mesh.workers[name].restart()

    async def _worker_drained(self, kind: str) -> None:
        name = self._ground.worker(self._hand)
        async with self._hand.hits(kind, name) as hit:
            if hit:
                await self._drain(name)
                await asyncio.sleep(self._hand.chance.uniform(0, 2))
                self._ground.mesh.workers[name].terminate()
                await self._ground.mesh.workers[name].restart()

    async def _drain(self, name: str) -> None:
        await self._control("DrainWorker", worker_control_service_pb2.DrainWorkerRequest(id=name))

    async def _control(self, method: str, request: object) -> None:
        for attempt in range(20):
            scheduler = self._ground.mesh.schedulers[attempt % len(self._ground.mesh.schedulers)]
            stub = worker_control_service_pb2_grpc.WorkerControlServiceStub(self._ground.mesh.channel(scheduler))
            try:
                await getattr(stub, method)(request, timeout=5)
                return
            except grpc.aio.AioRpcError as error:
                # FAILED_PRECONDITION: it stood still or was cut off just before, and is LOST for now.
                if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                    return
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise
                await asyncio.sleep(0.1)
