"""A registry in this process, over real gRPC, on a database of the test's own.

    async with open_house(url) as house:
        await house.tenants().CreateTenant(…)              # as an admin
        await house.groups("acme").ListWorkerGroups(…)     # the same registry, as a client of the tenant acme

Everyone is known by a token whose text is its name: "admin", "service", "worker",
"nobody" (a client without tenants), and each tenant that the house is opened for.
The lease floor is 1 s, a heartbeat is said after 0.2 s of silence, and a deletion
waits 0.5 s for its answer unless said. At most 4 flows of a size wait to be read.
Two houses on one URL are two replicas.
"""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

import grpc.aio

from farhand.api.registry.v1 import (
    flow_service_pb2_grpc,
    namespace_file_service_pb2_grpc,
    namespace_service_pb2_grpc,
    roll_service_pb2_grpc,
    tenant_service_pb2_grpc,
    watch_service_pb2_grpc,
    worker_group_service_pb2_grpc,
)
from farhand.registry.bootstrap import new_uid
from farhand.registry.loops.feed import Feed
from farhand.registry.rpc.access import ACCESS
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
from farhand.registry.store.notices import Notices
from farhand.registry.store.transactions import Transactions, meaning
from farhand.runtime.database import make_engine
from farhand.runtime.grpc_channel import RemoteError, make_channel
from farhand.runtime.grpc_server import bind, make_server
from farhand.runtime.security import Identity, Role, Tokens
from farhand.runtime.settings import DialSettings, ListenSettings

if TYPE_CHECKING:
    from farhand.api.registry.v1.flow_service_pb2_grpc import FlowServiceAsyncStub
    from farhand.api.registry.v1.namespace_file_service_pb2_grpc import NamespaceFileServiceAsyncStub
    from farhand.api.registry.v1.namespace_service_pb2_grpc import NamespaceServiceAsyncStub
    from farhand.api.registry.v1.roll_service_pb2_grpc import RollServiceAsyncStub
    from farhand.api.registry.v1.tenant_service_pb2_grpc import TenantServiceAsyncStub
    from farhand.api.registry.v1.watch_service_pb2_grpc import WatchServiceAsyncStub
    from farhand.api.registry.v1.worker_group_service_pb2_grpc import WorkerGroupServiceAsyncStub


INSTALLED = "org.example.Installed"  # a task type of a package beside the registry


class House:
    """One replica and the way to it."""

    def __init__(
        self, address: str, transactions: Transactions, feed: Feed, threads: ReadingThreads, stack: AsyncExitStack
    ) -> None:
        self.address = address
        self.transactions = transactions
        self.feed = feed
        self.threads = threads
        self._stack = stack
        self._channels: dict[str, grpc.aio.Channel] = {}

    def channel(self, caller: str = "admin") -> grpc.aio.Channel:
        """A channel that says who calls."""
        if caller not in self._channels:
            self._channels[caller] = make_channel(self.address, DialSettings(token=caller))
            self._stack.push_async_callback(self._channels[caller].close, None)
        return self._channels[caller]

    def tenants(self, caller: str = "admin") -> "TenantServiceAsyncStub":
        return tenant_service_pb2_grpc.TenantServiceStub(self.channel(caller))

    def namespaces(self, caller: str = "admin") -> "NamespaceServiceAsyncStub":
        return namespace_service_pb2_grpc.NamespaceServiceStub(self.channel(caller))

    def files(self, caller: str = "admin") -> "NamespaceFileServiceAsyncStub":
        return namespace_file_service_pb2_grpc.NamespaceFileServiceStub(self.channel(caller))

    def groups(self, caller: str = "admin") -> "WorkerGroupServiceAsyncStub":
        return worker_group_service_pb2_grpc.WorkerGroupServiceStub(self.channel(caller))

    def flows(self, caller: str = "admin") -> "FlowServiceAsyncStub":
        return flow_service_pb2_grpc.FlowServiceStub(self.channel(caller))

    def roll(self, caller: str = "admin") -> "RollServiceAsyncStub":
        return roll_service_pb2_grpc.RollServiceStub(self.channel(caller))

    def watches(self, caller: str = "service") -> "WatchServiceAsyncStub":
        return watch_service_pb2_grpc.WatchServiceStub(self.channel(caller))


@asynccontextmanager
async def open_house(
    url: str, tenants: Collection[str] = ("acme", "rival"), *, deletion_wait: float = 0.5, memory: int = 1000
) -> AsyncIterator[House]:
    """Serve until the block ends."""
    async with AsyncExitStack() as stack:
        engine = make_engine(url)
        stack.push_async_callback(engine.dispose)
        transactions = Transactions(engine)
        feed = Feed(transactions, Notices(url).listening, memory=memory)
        listen = ListenSettings(listen="127.0.0.1:0")
        server = make_server(listen, _tokens(tenants), ACCESS, translate=meaning)
        tenant_service_pb2_grpc.add_TenantServiceServicer_to_server(TenantService(transactions), server)
        namespace_service_pb2_grpc.add_NamespaceServiceServicer_to_server(NamespaceService(transactions), server)
        namespace_file_service_pb2_grpc.add_NamespaceFileServiceServicer_to_server(
            NamespaceFileService(transactions), server
        )
        deletions = GroupDeletion(transactions, feed, deletion_wait)
        groups = WorkerGroupService(transactions, deletions, lease_floor=timedelta(seconds=1), new_uid=new_uid)
        worker_group_service_pb2_grpc.add_WorkerGroupServiceServicer_to_server(groups, server)
        threads = ReadingThreads(waiting=4)
        stack.callback(threads.close)
        reader = FlowReader(transactions, threads, frozenset({INSTALLED}), lease_floor=timedelta(seconds=1))
        flows = FlowService(transactions, threads, reader)
        flow_service_pb2_grpc.add_FlowServiceServicer_to_server(flows, server)
        roll_service_pb2_grpc.add_RollServiceServicer_to_server(RollService(transactions), server)
        watches = WatchService(transactions, feed, heartbeat=0.2)
        watch_service_pb2_grpc.add_WatchServiceServicer_to_server(watches, server)
        address = await bind(server, listen)
        async with asyncio.TaskGroup() as siblings:
            siblings.create_task(feed.run())
            await server.start()
            try:
                async with AsyncExitStack() as channels:
                    yield House(address, transactions, feed, threads, channels)
            finally:
                feed.close()
                await server.stop(None)


def paths(error: RemoteError) -> list[str]:
    """The fields that it complains about."""
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT, error
    return [violation.path for violation in error.violations]


def _tokens(tenants: Collection[str]) -> Tokens:
    callers = {name: Identity(name, Role.CLIENT, frozenset({name})) for name in tenants}
    callers["nobody"] = Identity("nobody", Role.CLIENT, frozenset())
    for role in (Role.ADMIN, Role.SERVICE, Role.WORKER):
        callers[role] = Identity(role, role)
    return Tokens([(sha256(name.encode()).digest(), caller) for name, caller in callers.items()])
