"""Wires the registry: the only place that knows all its parts."""

import asyncio
import base64
import secrets
from contextlib import AsyncExitStack
from datetime import timedelta
from importlib import metadata

from farhand.api.registry.v1.flow_service_pb2_grpc import add_FlowServiceServicer_to_server
from farhand.api.registry.v1.namespace_file_service_pb2_grpc import add_NamespaceFileServiceServicer_to_server
from farhand.api.registry.v1.namespace_service_pb2_grpc import add_NamespaceServiceServicer_to_server
from farhand.api.registry.v1.roll_service_pb2_grpc import add_RollServiceServicer_to_server
from farhand.api.registry.v1.tenant_service_pb2_grpc import add_TenantServiceServicer_to_server
from farhand.api.registry.v1.watch_service_pb2_grpc import add_WatchServiceServicer_to_server
from farhand.api.registry.v1.worker_group_service_pb2_grpc import add_WorkerGroupServiceServicer_to_server
from farhand.registry.loops.feed import Feed
from farhand.registry.rpc.access import ACCESS, SERVICE_NAMES
from farhand.registry.rpc.flow_reader import FlowReader
from farhand.registry.rpc.flow_service import FlowService
from farhand.registry.rpc.group_deletion import GroupDeletion
from farhand.registry.rpc.namespace_file_service import NamespaceFileService
from farhand.registry.rpc.namespace_service import NamespaceService
from farhand.registry.rpc.reading_threads import ReadingThreads
from farhand.registry.rpc.roll_service import RollService
from farhand.registry.rpc.tenant_service import TenantService
from farhand.registry.rpc.watch_service import WatchService
from farhand.registry.rpc.worker_group_service import WorkerGroupService
from farhand.registry.settings import RegistrySettings
from farhand.registry.store.notices import Notices
from farhand.registry.store.transactions import Transactions, meaning
from farhand.runtime import security
from farhand.runtime.database import make_engine, wait_until_migrated
from farhand.runtime.door import Door
from farhand.runtime.grpc_server import add_standard_services, bind, make_server
from farhand.runtime.security import Tokens
from farhand.runtime.service import Lifecycle


async def serve(lifecycle: Lifecycle, settings: RegistrySettings) -> None:
    """Serve until the process is asked to stop; then drain: readiness off, watches end, calls finish."""
    security.check_listen(settings)  # what is wrong with the settings is said before any waiting
    tokens = None if settings.tokens is None else Tokens.load(settings.tokens)
    await wait_until_migrated(settings.database_url, lifecycle, "farhand.registry", "registry")
    async with AsyncExitStack() as stack:
        engine = make_engine(settings.database_url)
        stack.push_async_callback(engine.dispose)
        transactions = Transactions(engine)
        feed = Feed(transactions, Notices(settings.database_url).listening)
        deletions = GroupDeletion(transactions, feed)
        threads = ReadingThreads()
        stack.callback(threads.close)
        lease_floor = timedelta(seconds=settings.lease_floor)
        reader = FlowReader(transactions, threads, installed_types(), lease_floor=lease_floor)

        door = Door()
        server = make_server(settings, tokens, ACCESS, translate=meaning, door=door)
        add_TenantServiceServicer_to_server(TenantService(transactions), server)
        add_NamespaceServiceServicer_to_server(NamespaceService(transactions), server)
        add_NamespaceFileServiceServicer_to_server(NamespaceFileService(transactions), server)
        add_WorkerGroupServiceServicer_to_server(
            WorkerGroupService(transactions, deletions, lease_floor=lease_floor, new_uid=new_uid),
            server,
        )
        add_FlowServiceServicer_to_server(FlowService(transactions, threads, reader), server)
        add_RollServiceServicer_to_server(RollService(transactions), server)
        add_WatchServiceServicer_to_server(WatchService(transactions, feed), server)
        health = add_standard_services(server, SERVICE_NAMES)
        address = await bind(server, settings)

        async with asyncio.TaskGroup() as siblings:
            siblings.create_task(feed.run(), name="feed")
            await server.start()
            stack.push_async_callback(server.stop, None)
            lifecycle.ready(address=address)
            await lifecycle.stopping.wait()
            await health.enter_graceful_shutdown()
            feed.close()
            await door.close()
            await server.stop(settings.drain_timeout)


def installed_types() -> frozenset[str]:
    """The types of tasks and triggers of packages beside the registry: entry points, which workers load and the
    registry only names."""
    groups = ("farhand.tasks", "farhand.triggers")
    return frozenset(entry.name for group in groups for entry in metadata.entry_points(group=group))


def new_uid() -> str:
    """A worker group's uid: 80 random bits, never used again."""
    return "wg_" + base64.b32encode(secrets.token_bytes(10)).decode().lower()
