"""The whole service as bootstrap wires it: start, readiness, outages of its database, and the drain."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from farhand.api.registry.v1 import (
    roll_service_pb2_grpc,
    tenant_service_pb2_grpc,
    watch_service_pb2_grpc,
    worker_group_service_pb2_grpc,
)
from farhand.api.registry.v1.roll_service_pb2 import ReportWorkersRequest
from farhand.api.registry.v1.tenant_service_pb2 import GetTenantRequest
from farhand.api.registry.v1.watch_service_pb2 import WatchRequest
from farhand.api.registry.v1.worker_group_service_pb2 import GetWorkerGroupRequest
from farhand.registry.bootstrap import serve
from farhand.registry.settings import RegistrySettings
from farhand.runtime.grpc_channel import make_channel
from farhand.runtime.service import Lifecycle, StartupError, Stopping
from farhand.runtime.settings import DialSettings
from tests.rpc.refusal import refused


class Observed(Lifecycle):
    """A lifecycle that tells when the service is ready."""

    def __init__(self) -> None:
        super().__init__("registry")
        self.address: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def ready(self, **facts: object) -> None:
        self.address.set_result(str(facts["address"]))


@asynccontextmanager
async def served(url: str) -> AsyncIterator[tuple[grpc.aio.Channel, Observed, "asyncio.Task[None]"]]:
    """The service on a port of its own; stopped at the end."""
    lifecycle = Observed()
    settings = RegistrySettings(listen="127.0.0.1:0", database_url=url)
    service = asyncio.create_task(serve(lifecycle, settings))
    either: list[asyncio.Future[Any]] = [service, lifecycle.address]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if service.done():
        await service
    async with make_channel(lifecycle.address.result(), DialSettings()) as channel:
        yield channel, lifecycle, service
        lifecycle.stopping.set()
        async with asyncio.timeout(20):
            await service


async def test_it_migrates_an_empty_database_and_serves_everything(empty_database: str) -> None:
    async with served(empty_database) as (channel, _, _):
        tenants = tenant_service_pb2_grpc.TenantServiceStub(channel)
        assert (await tenants.GetTenant(GetTenantRequest(id="main"))).tenant.id == "main"
        groups = worker_group_service_pb2_grpc.WorkerGroupServiceStub(channel)
        assert (await groups.GetWorkerGroup(GetWorkerGroupRequest())).worker_group.uid
        # On loopback without tokens everyone may do everything, also what is a scheduler's.
        await roll_service_pb2_grpc.RollServiceStub(channel).ReportWorkers(ReportWorkersRequest())
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "farhand.api.registry.v1.WatchService"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_stop_ends_watches_first_and_then_itself(fresh_database: str) -> None:
    async with served(fresh_database) as (channel, lifecycle, service):
        call: Any = watch_service_pb2_grpc.WatchServiceStub(channel).Watch(WatchRequest())
        assert (await call.read()).snapshot.revision == 2
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await health.read()).status == health_pb2.HealthCheckResponse.SERVING
        lifecycle.stopping.set()
        assert (await refused(call.read())).reason == "SHUTTING_DOWN"
        with suppress(grpc.aio.AioRpcError):
            assert (await health.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        health.cancel()
        async with asyncio.timeout(20):
            await service


async def test_a_database_that_goes_away_is_unavailable_and_then_it_goes_on(fresh_database: str) -> None:
    async with Way.to(fresh_database) as way, served(way.url) as (channel, _, service):
        tenants = tenant_service_pb2_grpc.TenantServiceStub(channel)
        watches = watch_service_pb2_grpc.WatchServiceStub(channel)
        await tenants.GetTenant(GetTenantRequest(id="main"))
        call = watches.Watch(WatchRequest(revision=1))
        await call.read()
        await way.close()
        error = await refused(read_on(call))
        assert (error.code, error.reason, error.retry_delay) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE", 1.0)
        for unavailable in (tenants.GetTenant(GetTenantRequest(id="main")), read_on(watches.Watch(WatchRequest()))):
            assert (await refused(unavailable)).reason == "UNAVAILABLE"
        await way.open()
        assert (await tenants.GetTenant(GetTenantRequest(id="main"))).tenant.id == "main"
        assert not service.done()


async def read_on(call: Any) -> None:
    """Read a watch to its end."""
    while await call.read() is not grpc.aio.EOF:
        pass


class Way:
    """A way to the database that can be closed: connections on it are cut, and new ones refused."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self._there = f"@{parts.hostname}:{parts.port}/"
        self._far = url
        self._port = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str) -> AsyncIterator["Way"]:
        way = cls(url)
        await way.open()
        try:
            yield way
        finally:
            await way.close()

    @property
    def url(self) -> str:
        return self._far.replace(self._there, f"@127.0.0.1:{self._port}/")

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        await asyncio.gather(*self._pumps)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._open |= {writer, far_writer}
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            pump = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    @staticmethod
    async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()


async def test_it_waits_for_its_database_and_can_be_stopped_meanwhile() -> None:
    lifecycle = Observed()
    settings = RegistrySettings(listen="127.0.0.1:0", database_url="postgresql://nobody:secret@127.0.0.1:1/nothing")
    waiting = asyncio.create_task(serve(lifecycle, settings))
    lifecycle.stopping.set()
    with pytest.raises(Stopping):
        await waiting
    assert not lifecycle.address.done()


async def test_what_is_wrong_with_the_settings_is_said_before_any_waiting() -> None:
    settings = RegistrySettings(listen="0.0.0.0:0", database_url="postgresql://127.0.0.1:1/nothing")
    with pytest.raises(StartupError, match="--tls-cert"):
        await serve(Observed(), settings)


def test_a_floor_above_the_default_lease_is_refused() -> None:
    with pytest.raises(ValueError, match="--lease-floor must be from 100ms to 1m"):
        RegistrySettings(database_url="x", lease_floor=61.0)
