"""WatchService over a real port: a snapshot, then every change once, in order, whatever happens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import sqlalchemy as sql

from farhand.api.registry.v1.namespace_pb2 import Namespace
from farhand.api.registry.v1.namespace_service_pb2 import CreateNamespaceRequest, DeleteNamespaceRequest
from farhand.api.registry.v1.tenant_pb2 import Tenant
from farhand.api.registry.v1.tenant_service_pb2 import (
    CreateTenantRequest,
    DeleteTenantRequest,
    GetTenantRequest,
    UpdateTenantRequest,
)
from farhand.api.registry.v1.watch_service_pb2 import Change, Snapshot, TriggeredFlow, WatchRequest, WatchResponse
from farhand.api.registry.v1.worker_group_pb2 import WorkerGroup
from farhand.api.registry.v1.worker_group_service_pb2 import CreateWorkerGroupRequest, ListWorkerGroupsRequest
from farhand.runtime.grpc_channel import remote_error
from tests.rpc.refusal import refused
from tests.rpc.registry.flow_calls import a_default, create, delete, make_namespace, set_tenant_defaults, source, update
from tests.rpc.registry.registry_house import House, open_house, paths


class Watcher:
    """A watch, read step by step."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def step(self) -> WatchResponse:
        async with asyncio.timeout(10):
            step: WatchResponse = await self._call.read()
        return step

    async def snapshot(self) -> Snapshot:
        step = await self.step()
        assert step.HasField("snapshot"), step
        return step.snapshot

    async def change(self) -> Change:
        """The next change; heartbeats may come before it."""
        while True:
            step = await self.step()
            if step.HasField("change"):
                return step.change
            assert step.HasField("heartbeat_revision"), step


@asynccontextmanager
async def watch(house: House, revision: int = 0) -> AsyncIterator[Watcher]:
    call = house.watches().Watch(WatchRequest(revision=revision))
    try:
        yield Watcher(call)
    finally:
        call.cancel()


async def declare(house: House, tenant_id: str, description: str = "") -> Tenant:
    request = CreateTenantRequest(tenant=Tenant(id=tenant_id, description=description))
    return (await house.tenants().CreateTenant(request)).tenant


async def test_a_new_watcher_gets_everything_at_one_revision(house: House) -> None:
    await house.namespaces().CreateNamespace(CreateNamespaceRequest(namespace=Namespace(name="a.b")))
    async with watch(house) as watcher:
        snapshot = await watcher.snapshot()
    assert snapshot.revision == 5
    assert [tenant.id for tenant in snapshot.tenants] == ["acme", "main", "rival"]
    assert [(namespace.tenant, namespace.name) for namespace in snapshot.namespaces] == [("main", "a.b")]
    (group,) = snapshot.worker_groups
    listed = await house.groups().ListWorkerGroups(ListWorkerGroupsRequest())
    assert group.worker_group == listed.worker_groups[0] and not group.force_deletion
    assert snapshot.tenants[0] == (await house.tenants().GetTenant(GetTenantRequest(id="acme"))).tenant


async def test_every_kind_of_change_is_told_as_it_is(house: House) -> None:
    async with watch(house) as watcher:
        assert (await watcher.snapshot()).revision == 4
        tenant = await declare(house, "new")
        request = UpdateTenantRequest(tenant=Tenant(id="new", description="d"))
        changed = (await house.tenants().UpdateTenant(request)).tenant
        namespace = CreateNamespaceRequest(namespace=Namespace(tenant="new", name="a.b"))
        made = (await house.namespaces().CreateNamespace(namespace)).namespace
        await house.namespaces().DeleteNamespace(DeleteNamespaceRequest(tenant="new", name="a.b"))
        await house.tenants().DeleteTenant(DeleteTenantRequest(id="new"))
        asked = CreateWorkerGroupRequest(worker_group=WorkerGroup(key="gpu", paused=True))
        group = (await house.groups().CreateWorkerGroup(asked)).worker_group
        told = [await watcher.change() for _ in range(6)]
    assert [change.revision for change in told] == [5, 6, 7, 8, 9, 10]
    assert told[0].tenant == tenant and told[1].tenant == changed
    assert told[2].namespace == made
    assert told[3].removed_namespace == Namespace(tenant="new", name="a.b")
    assert told[4].removed_tenant == "new"
    assert told[5].worker_group.worker_group == group


NIGHTLY = "triggers:\n  - id: nightly\n    type: io.kestra.plugin.core.trigger.Schedule\n    cron: '0 3 * * *'\n"


def triggered(flow_id: str, revision: int = 0) -> TriggeredFlow:
    return TriggeredFlow(tenant="acme", namespace="company.team", id=flow_id, revision=revision)


async def test_of_flows_only_those_with_triggers_are_told_each_time_that_one_is_saved(house: House) -> None:
    async with watch(house) as watcher:
        await watcher.snapshot()
        await create(house, source("quiet"))
        await create(house, source("b", more=NIGHTLY))
        await update(house, source("b", more=NIGHTLY, message="other"))
        await update(house, source("b", more=NIGHTLY, message="other"))  # no change
        await update(house, source("b"))
        await update(house, source("b", message="again"))
        await update(house, source("quiet", more=NIGHTLY))
        await create(house, source("c", more=NIGHTLY))
        await delete(house, "quiet")
        told = [await watcher.change() for _ in range(6)]
    assert [(change.triggered_flow, change.removed_triggered_flow) for change in told] == [
        (triggered("b", 1), TriggeredFlow()),
        (triggered("b", 2), TriggeredFlow()),
        (TriggeredFlow(), triggered("b")),
        (triggered("quiet", 2), TriggeredFlow()),
        (triggered("c", 1), TriggeredFlow()),
        (TriggeredFlow(), triggered("quiet")),
    ]
    async with watch(house) as watcher:
        snapshot = await watcher.snapshot()
    assert list(snapshot.triggered_flows) == [triggered("c", 1)] and snapshot.revision == told[-1].revision


async def test_a_watcher_goes_on_from_its_revision(house: House) -> None:
    for name in ("a", "b", "c"):
        await declare(house, name)
    async with watch(house, 5) as watcher:
        assert [(await watcher.change()).tenant.id for _ in range(2)] == ["b", "c"]
    async with watch(house, 7) as watcher:
        await declare(house, "d")
        assert (await watcher.change()).tenant.id == "d"


async def test_a_registry_that_was_started_again_goes_on_from_the_log(fresh_database: str) -> None:
    async with open_house(fresh_database) as house:
        for name in ("a", "b", "c"):
            await declare(house, name)
    async with open_house(fresh_database) as house, watch(house, 3) as watcher:
        assert [(await watcher.change()).revision for _ in range(2)] == [4, 5]
        await declare(house, "d")
        assert (await watcher.change()).revision == 6


async def test_a_watcher_behind_the_log_gets_a_replacing_snapshot(house: House) -> None:
    async with watch(house, 1) as watcher:
        assert (await watcher.snapshot()).revision == 4
        await declare(house, "a")
        assert (await watcher.change()).revision == 5


async def test_silence_is_broken_by_heartbeats_with_the_revision(house: House) -> None:
    async with watch(house, 4) as watcher:
        for _ in range(2):
            assert (await watcher.step()).heartbeat_revision == 4
        await declare(house, "a")
        assert (await watcher.change()).revision == 5
        assert (await watcher.step()).heartbeat_revision == 5


async def test_a_revision_that_was_not_reached_is_refused(house: House) -> None:
    async with watch(house, 5) as watcher:
        error = await refused(watcher.step())
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FUTURE_REVISION")
    assert "Start again from 0" in error.message
    async with watch(house, -1) as watcher:
        assert paths(await refused(watcher.step())) == ["revision"]


async def test_a_watcher_of_a_past_that_was_undone_is_sent_back(house: House) -> None:
    await declare(house, "a")
    async with watch(house, 5) as watcher:
        assert (await watcher.step()).heartbeat_revision == 5
        async with house.transactions.changing() as connection:  # a backup was restored
            await connection.execute(sql.text("UPDATE registry.revision SET revision = 4"))
            await connection.execute(sql.text("DELETE FROM registry.change WHERE revision > 4"))
        await house.feed.once()
        with pytest.raises(grpc.aio.AioRpcError) as error:
            while True:
                await watcher.step()
    assert remote_error(error.value).reason == "FUTURE_REVISION"


async def test_many_watchers_hear_the_same_in_the_same_order(house: House) -> None:
    async def follow(revision: int) -> list[int]:
        async with watch(house, revision) as watcher:
            return [(await watcher.change()).revision for _ in range(20)]

    async with asyncio.TaskGroup() as group:
        watchers = [group.create_task(follow(4)) for _ in range(30)]
        for number in range(20):
            group.create_task(declare(house, f"t{number}"))
    assert all(watcher.result() == list(range(5, 25)) for watcher in watchers)


async def test_changes_of_another_replica_are_told(fresh_database: str) -> None:
    async with open_house(fresh_database) as one, open_house(fresh_database) as other, watch(one) as watcher:
        await watcher.snapshot()
        for number in range(6):
            await declare((one, other)[number % 2], f"t{number}")
        assert [(await watcher.change()).tenant.id for _ in range(6)] == [f"t{number}" for number in range(6)]


async def test_a_watcher_that_sleeps_misses_nothing_and_is_kept_in_no_memory(fresh_database: str) -> None:
    async with open_house(fresh_database, memory=5) as house, watch(house) as watcher:
        assert (await watcher.snapshot()).revision == 2
        # More than the flow-control window of the connection can take in.
        for number in range(300):
            await declare(house, f"t{number:03}", "x" * 1000)
        assert len(house.feed._recent) == 5
        told = [await watcher.change() for _ in range(300)]
    assert [change.revision for change in told] == list(range(3, 303))
    assert [change.tenant.id for change in told] == [f"t{number:03}" for number in range(300)]


async def test_a_registry_that_stops_ends_its_watches_with_a_word(house: House) -> None:
    async with watch(house) as watcher:
        await watcher.snapshot()
        house.feed.close()
        error = await refused(watcher.step())
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    assert error.retry_delay == 1.0


async def test_plugin_defaults_come_with_the_snapshot_with_each_change_and_from_the_log(
    house: House, fresh_database: str
) -> None:
    naming = a_default("a.b", workerGroup={"fallback": "FAIL"}, timeout="PT1M", x=[1, {"y": None}])
    await set_tenant_defaults(house, naming)
    await make_namespace(house, "a", naming)
    async with watch(house) as watcher:
        snapshot = await watcher.snapshot()
        assert [list(tenant.plugin_defaults) for tenant in snapshot.tenants] == [[naming], [], []]
        assert [list(namespace.plugin_defaults) for namespace in snapshot.namespaces] == [[naming]]
        changed = await set_tenant_defaults(house, naming, a_default("c", forced=True))
        change = await watcher.change()
        assert change.tenant == changed
        assert list(changed.plugin_defaults) == [naming, a_default("c", forced=True)]
    async with open_house(fresh_database) as other, watch(other, snapshot.revision - 1) as watcher:
        assert list((await watcher.change()).namespace.plugin_defaults) == [naming]
        assert await watcher.change() == change
