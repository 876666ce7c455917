"""Quotas of a real scheduler: what clients are told, and that an end lets the next job go (P13)."""

from collections.abc import AsyncIterator

import grpc
import pytest

from farhand.api.scheduler.v1.group_service_pb2 import GetGroupFiguresRequest
from farhand.api.scheduler.v1.group_service_pb2_grpc import GroupServiceStub
from farhand.api.scheduler.v1.job_service_pb2 import (
    WAIT_REASON_QUOTA_REACHED,
    BatchSubmitJobsRequest,
    ExplainJobRequest,
    TenantFigures,
)
from farhand.kernel.errors import QuotaExceeded
from farhand.kernel.quotas import EVERYONE, Quota
from farhand.runtime.grpc_channel import remote_error, status_error
from farhand.runtime.security import Identity, Role
from farhand.scheduler.core.declared import Group
from tests.fixtures.fake_registry import FakeRegistry
from tests.fixtures.scheduler_rows import Rows
from tests.fixtures.scheduler_service import SchedulerService, a_scheduler, declare
from tests.rpc.scheduler.job_house import open_house


@pytest.fixture
async def bounded(fresh_database: str) -> AsyncIterator[SchedulerService]:
    """A scheduler whose default group gives every tenant one running job and three that wait."""
    await declare(fresh_database, [""], quotas=[Quota(EVERYONE, max_running=1, max_queued=3)])
    async with a_scheduler(fresh_database) as service:
        yield service


async def test_a_submit_beyond_the_quota_is_refused_with_its_figures_row_by_row(bounded: SchedulerService) -> None:
    specs = [bounded.spec() for _ in range(4)] + [bounded.spec(tenant="other")]
    rows = (await bounded.jobs.BatchSubmitJobs(BatchSubmitJobsRequest(specs=specs))).results
    assert [row.WhichOneof("result") for row in rows] == ["job_id", "job_id", "job_id", "error", "job_id"]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await bounded.submit()
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for error in remote_error(refused.value), status_error(rows[3].error):
        assert error.reason == QuotaExceeded.reason
        assert error.metadata == {"worker_group": "_default", "tenant": "main", "limit": "3", "queued": "3"}
        assert "has 3 jobs waiting in worker group '_default', and its quota there allows 3" in error.message


async def test_a_job_that_waits_for_its_quota_is_explained_with_the_figures(bounded: SchedulerService) -> None:
    worker = await bounded.worker()
    await worker.credit(10)
    ids = [(await bounded.submit()).id]
    await worker.assignments()
    ids += [(await bounded.submit()).id for _ in range(3)]
    answer = await bounded.jobs.ExplainJob(ExplainJobRequest(id=ids[-1]))
    assert answer.reason == WAIT_REASON_QUOTA_REACHED
    assert "Its tenant 'main' runs 1 of 1 jobs" in answer.message and "2 of its jobs wait before it" in answer.message
    figures = TenantFigures(tenant="main", running_jobs=1, max_running=1, queued_jobs=3, max_queued=3)
    assert list(answer.figures.tenants) == [figures]
    read = await GroupServiceStub(bounded.channel).GetGroupFigures(GetGroupFiguresRequest())
    assert list(read.figures.tenants) == [figures]


async def test_a_job_that_ends_lets_the_next_of_its_tenant_go_to_a_worker_of_another_replica(
    bounded: SchedulerService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farhand.scheduler.loops.dispatch.POLL_SECONDS", 3600.0)
    async with a_scheduler(bounded.database) as second:
        here, there = await bounded.worker(), await second.worker()
        await here.credit(1)
        first = (await bounded.submit()).id
        [assignment] = await here.assignments()
        others = [(await bounded.submit()).id for _ in range(2)]
        foreign = (await bounded.submit(tenant="other")).id
        await there.credit(10)
        assert [one.job_id for one in await there.assignments()] == [foreign]  # it passes them
        assert await here.result(assignment) == "RECORDED" and assignment.job_id == first
        assert [one.job_id for one in await there.assignments()] == others[:1]  # nothing else woke it
        assert await bounded.state(others[1]) == "CREATED"


async def test_quotas_are_followed_as_they_are_declared(registry: FakeRegistry, fresh_database: str) -> None:
    async with a_scheduler(fresh_database, registry=registry.address) as service:
        await registry.declare(Group("u-gpu", "gpu", quotas=(Quota("main", max_running=0, max_queued=1),)))
        worker = await service.worker(group="gpu")
        await worker.credit(10)
        job = (await service.submit(group="gpu")).id
        with pytest.raises(grpc.aio.AioRpcError):
            await service.submit(group="gpu")
        await registry.declare(Group("u-gpu", "gpu", quotas=(Quota("main", max_running=1),)))
        assert [one.job_id for one in await worker.assignments()] == [job]
        await service.submit_many(5, group="gpu")


async def test_a_client_is_told_the_figures_of_its_own_tenants(rows: Rows) -> None:
    default = await rows.group("", quotas=[Quota(EVERYONE, max_running=2), Quota("rival", max_queued=9)])
    for tenant in ("acme", "beta", "rival"):
        await rows.waiting(await rows.lane(default, tenant))
    callers = {"t": Identity("ci", Role.CLIENT, tenants=frozenset({"acme"})), "a": Identity("root", Role.ADMIN)}
    async with open_house(rows, callers=callers) as house:
        told = {
            caller: (await house.groups(caller).GetGroupFigures(GetGroupFiguresRequest())).figures.tenants
            for caller in callers
        }
    assert list(told["t"]) == [TenantFigures(tenant="acme", max_running=2, queued_jobs=1)]
    assert [each.tenant for each in told["a"]] == ["acme", "beta", "rival"]
