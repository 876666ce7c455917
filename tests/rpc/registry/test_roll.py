"""RollService over a real port."""

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from farhand.api.registry.v1.roll_service_pb2 import (
    GetWorkerRequest,
    ListWorkersRequest,
    ReportWorkersRequest,
    WorkerReport,
)
from farhand.api.registry.v1.worker_group_pb2 import WorkerGroup
from farhand.api.registry.v1.worker_group_service_pb2 import CreateWorkerGroupRequest, GetWorkerGroupRequest
from farhand.api.registry.v1.worker_pb2 import (
    WORKER_STATE_CONNECTED,
    WORKER_STATE_LOST,
    WORKER_STATE_STOPPED,
    Worker,
)
from tests.rpc.refusal import refused
from tests.rpc.registry.registry_house import House, paths

NOON = Timestamp(seconds=1_795_435_200, nanos=123_456_000)


def a_report(worker_id: str, epoch: int = 1, sequence: int = 1, **fields: object) -> WorkerReport:
    worker = Worker(
        id=worker_id,
        worker_group_uid="wg_d",
        state=WORKER_STATE_CONNECTED,
        host="far.example",
        version="0.1.0",
        slots=4,
        busy_slots=1,
        task_types=["a", "b"],
        start_time=NOON,
        heartbeat_time=NOON,
        subject="gpu workers",
    )
    worker.MergeFrom(Worker(**fields))  # type: ignore[arg-type]
    return WorkerReport(worker=worker, epoch=epoch, sequence=sequence)


async def report(house: House, *reports: WorkerReport) -> None:
    await house.roll("service").ReportWorkers(ReportWorkersRequest(reports=reports))


async def get(house: House, worker_id: str, caller: str = "admin") -> Worker:
    return (await house.roll(caller).GetWorker(GetWorkerRequest(id=worker_id))).worker


async def listed(house: House, caller: str = "admin", **filters: object) -> list[str]:
    response = await house.roll(caller).ListWorkers(ListWorkersRequest(**filters))  # type: ignore[arg-type]
    return [worker.id for worker in response.workers]


async def test_a_reported_worker_is_read_back_as_it_was(house: House) -> None:
    sent = a_report("w.1-a", worker_group="gpu", tenants=["acme"])
    await report(house, sent)
    assert await get(house, "w.1-a") == sent.worker


async def test_an_older_report_changes_nothing_in_whatever_order_they_come(house: House) -> None:
    await report(house, a_report("w", 2, 7), a_report("w", 2, 9, busy_slots=3), a_report("w", 2, 8))
    assert (await get(house, "w")).busy_slots == 3
    await report(house, a_report("w", 2, 9, busy_slots=4))
    await report(house, a_report("w", 1, 99, busy_slots=4))
    assert (await get(house, "w")).busy_slots == 3
    await report(house, a_report("w", 3, 0, busy_slots=2))
    assert (await get(house, "w")).busy_slots == 2


async def test_what_was_not_told_is_not_made_up(house: House) -> None:
    bare = Worker(id="w", worker_group_uid="wg_d", state=WORKER_STATE_STOPPED)
    await report(house, WorkerReport(worker=bare))
    assert await get(house, "w") == bare


async def test_no_reports_are_fine_and_too_many_are_refused(house: House) -> None:
    await report(house)
    await report(house, *(a_report(f"w{number}") for number in range(1000)))
    assert paths(await refused(report(house, *(a_report(f"w{number}") for number in range(1001))))) == ["reports"]


async def test_bad_rows_are_named_by_their_index(house: House) -> None:
    bad = a_report("w", -1, worker_group="no group")
    bad.worker.state = 42  # type: ignore[assignment]
    bad.worker.heartbeat_time.seconds = 2**62
    bad.worker.slots = -1
    error = await refused(report(house, a_report("good"), bad))
    assert paths(error) == [
        "reports[1].worker.heartbeat_time",
        "reports[1].worker.worker_group",
        "reports[1].worker.state",
        "reports[1].worker.slots",
        "reports[1].epoch",
    ]
    assert await listed(house) == []


async def test_lists_are_of_those_present_unless_states_are_asked_for(house: House) -> None:
    await report(
        house,
        a_report("a"),
        a_report("b", worker_group="gpu"),
        a_report("c", state=WORKER_STATE_LOST),
        a_report("d", state=WORKER_STATE_STOPPED),
    )
    assert await listed(house) == ["a", "b"]
    assert await listed(house, worker_group="gpu") == ["b"]
    assert await listed(house, worker_group="_default") == ["a"]
    assert await listed(house, worker_group="none") == []
    assert await listed(house, states=[WORKER_STATE_LOST, WORKER_STATE_STOPPED]) == ["c", "d"]
    error = await refused(listed(house, states=[WORKER_STATE_LOST, 0, 9], worker_group="?"))
    assert paths(error) == ["states[1]", "states[2]", "worker_group"]


async def test_pages_are_bound_to_their_filters(house: House) -> None:
    await report(house, *(a_report(f"w{number}") for number in range(3)))
    first = await house.roll().ListWorkers(ListWorkersRequest(page_size=2, worker_group="_default"))
    token = first.next_page_token
    assert [worker.id for worker in first.workers] == ["w0", "w1"] and token
    assert await listed(house, page_token=token, worker_group="_default", page_size=1) == ["w2"]
    for filters in ({}, {"worker_group": "gpu"}, {"worker_group": "_default", "states": [WORKER_STATE_LOST]}):
        error = await refused(listed(house, page_token=token, **filters))
        assert paths(error) == ["page_token"]


async def test_a_missing_worker_is_named_with_near_matches(house: House) -> None:
    await report(house, a_report("worker-1"), a_report("zebra"))
    error = await refused(get(house, "worker-l"))
    assert (error.code, error.metadata["near"]) == (grpc.StatusCode.NOT_FOUND, "worker-1")
    for worker_id in ("no\0body", "x" * 1_000_000, "ü"):
        assert (await refused(get(house, worker_id))).code is grpc.StatusCode.NOT_FOUND
    assert paths(await refused(get(house, ""))) == ["id"]


async def test_a_client_sees_the_workers_that_may_run_jobs_of_its_tenants(house: House) -> None:
    request = CreateWorkerGroupRequest(worker_group=WorkerGroup(key="theirs", allowed_tenants=["rival"]))
    theirs = (await house.groups().CreateWorkerGroup(request)).worker_group.uid
    default = (await house.groups().GetWorkerGroup(GetWorkerGroupRequest())).worker_group.uid
    await report(
        house,
        a_report("everyones", worker_group_uid=default),
        a_report("shared", worker_group_uid=default, tenants=["acme", "rival"]),
        a_report("rivals", worker_group_uid=default, tenants=["rival"]),
        a_report("far", worker_group="theirs", worker_group_uid=theirs),
        a_report("orphan", worker_group="gone", worker_group_uid="wg_gone"),
    )
    assert await listed(house, "acme") == ["everyones", "shared"]
    assert await listed(house, "rival") == ["everyones", "far", "rivals", "shared"]
    assert await listed(house, "nobody") == []
    assert len(await listed(house, "service")) == 5
    assert list((await get(house, "shared", "acme")).tenants) == ["acme"]
    error = await refused(get(house, "rivals", "acme"))
    assert error.code is grpc.StatusCode.NOT_FOUND and not error.metadata
