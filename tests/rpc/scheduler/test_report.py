"""The registry's roll is told of every change of a worker once, and of everything after an absence."""

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc.aio
import pytest

from farhand.api.registry.v1 import worker_pb2
from farhand.api.registry.v1.roll_service_pb2 import WorkerReport
from farhand.kernel.errors import Unavailable
from farhand.runtime.wire import moment
from farhand.scheduler.loops import report as module
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.loops.report import Report
from tests.fixtures.fake_registry import FakeRegistry
from tests.fixtures.scheduler_rows import Rows


@pytest.fixture
async def report(rows: Rows, registry_channel: grpc.aio.Channel) -> AsyncIterator[Report]:
    connection = HotConnection(rows.url)
    yield Report(connection, registry_channel)
    connection.drop()


def told(registry: FakeRegistry) -> dict[str, WorkerReport]:
    """What was reported since the last time, by worker."""
    reports = {report.worker.id: report for call in registry.reports for report in call}
    assert len(reports) == sum(len(call) for call in registry.reports), "a worker was reported twice"
    registry.reports.clear()
    return reports


async def change(rows: Rows, session: int, assignment: str) -> None:
    await rows.connection.execute(
        f"UPDATE scheduler.session SET {assignment}, report = report + 1 WHERE id = $1", session
    )


async def test_a_row_says_what_the_session_is(report: Report, rows: Rows, registry: FakeRegistry) -> None:
    session = await rows.session(await rows.group("gpu"), worker="w1")
    await change(rows, session, "tenants = '{b,a}', busy_slots = 3")
    await report.once()
    row = await rows.connection.fetchrow("SELECT connected_at, heartbeat_at, epoch FROM scheduler.session")
    found = told(registry)["w1"]
    worker = found.worker
    assert (worker.worker_group, worker.worker_group_uid) == ("gpu", "u-gpu")
    assert (worker.host, worker.version, worker.subject) == ("a-host", "1.2.3", "a token")
    assert (worker.slots, worker.busy_slots) == (4, 3)
    assert list(worker.task_types) == ["a.Task", "b.Task"]
    assert list(worker.tenants) == ["a", "b"]
    assert moment(worker.start_time) == row["connected_at"]
    assert moment(worker.heartbeat_time) == row["heartbeat_at"]
    assert (found.epoch, found.sequence) == (row["epoch"], 2)


@pytest.mark.parametrize(
    ("state", "draining", "expected"),
    [
        ("CONNECTED", False, worker_pb2.WORKER_STATE_CONNECTED),
        ("CONNECTED", True, worker_pb2.WORKER_STATE_DRAINING),
        ("DRAINING", True, worker_pb2.WORKER_STATE_DRAINING),
        ("DISCONNECTED", False, worker_pb2.WORKER_STATE_DISCONNECTED),
        ("DISCONNECTED", True, worker_pb2.WORKER_STATE_DISCONNECTED),
        ("LOST", False, worker_pb2.WORKER_STATE_LOST),
        ("STOPPED", True, worker_pb2.WORKER_STATE_STOPPED),
    ],
)
async def test_states_are_named_as_the_roll_names_them(
    report: Report, rows: Rows, registry: FakeRegistry, state: str, draining: bool, expected: int
) -> None:
    await rows.session(await rows.group("gpu"), worker="w1", state=state, draining=draining)
    await report.once()
    assert told(registry)["w1"].worker.state == expected


@pytest.mark.parametrize("fresh", [0, module.FRESH])
async def test_only_what_changed_is_told_again(
    report: Report, rows: Rows, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch, fresh: int
) -> None:
    monkeypatch.setattr(module, "FRESH", fresh)
    uid = await rows.group("gpu")
    first, _ = await rows.session(uid, worker="w1"), await rows.session(uid, worker="w2")
    await report.once()
    assert told(registry).keys() == {"w1", "w2"}
    await report.once()
    assert told(registry) == {}
    await change(rows, first, "state = 'LOST'")
    await report.once()
    assert {id: row.worker.state for id, row in told(registry).items()} == {"w1": worker_pb2.WORKER_STATE_LOST}
    await report.once()
    assert told(registry) == {}
    await change(rows, first, "state = 'CONNECTED'")  # its process lived, and came back
    await report.once()
    assert told(registry).keys() == {"w1"}


async def test_a_session_that_came_and_ended_between_two_looks_is_told(
    report: Report, rows: Rows, registry: FakeRegistry
) -> None:
    uid = await rows.group("gpu")
    await rows.session(uid, worker="w1")
    await report.once()
    await rows.session(uid, worker="short", state="STOPPED")
    await report.once()
    assert "short" in told(registry)


async def test_of_two_sessions_of_a_worker_the_newer_epoch_is_the_row(
    report: Report, rows: Rows, registry: FakeRegistry
) -> None:
    uid = await rows.group("gpu")
    older = await rows.session(uid, worker="w1", incarnation=b"1")
    newer = await rows.session(uid, worker="w1", incarnation=b"2")
    await report.once()
    first = told(registry)["w1"]
    await change(rows, older, "state = 'LOST'")
    await report.once()
    assert all(row == first for row in told(registry).values())
    await rows.connection.execute(
        "UPDATE scheduler.session SET epoch = epoch + 10, report = report + 1 WHERE id = $1", newer
    )
    await report.once()
    assert told(registry)["w1"].epoch == first.epoch + 10


async def test_everything_is_told_again_after_the_registry_was_away(
    report: Report, rows: Rows, registry: FakeRegistry
) -> None:
    uid = await rows.group("gpu")
    await rows.session(uid, worker="ended", state="STOPPED")
    moving = await rows.session(uid, worker="w1")
    await report.once()
    told(registry)
    registry.failure = Unavailable("away")
    await change(rows, moving, "busy_slots = 2")
    with pytest.raises(grpc.aio.AioRpcError):
        await report.once()
    registry.failure = None
    await report.once()
    assert told(registry).keys() == {"ended", "w1"}


async def test_a_call_has_a_bounded_number_of_rows(
    report: Report, rows: Rows, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS", 2)
    uid = await rows.group("gpu")
    for number in range(5):
        await rows.session(uid, worker=f"w{number}")
    await report.once()
    assert [len(call) for call in registry.reports] == [2, 2, 1]


async def test_a_row_that_the_registry_refuses_hides_no_other(
    report: Report, rows: Rows, registry: FakeRegistry
) -> None:
    uid = await rows.group("gpu")
    for number in range(5):
        await rows.session(uid, worker=f"w{number}")
    registry.refused_workers = {"w3"}
    await report.once()
    assert told(registry).keys() == {"w0", "w1", "w2", "w4"}
    await report.once()
    assert told(registry) == {}


async def test_the_loop_outlives_registry_and_database(
    report: Report, rows: Rows, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVERY", 0.001)
    session = await rows.session(await rows.group("gpu"), worker="w1")
    await registry.stop()
    tried = asyncio.Event()
    once = report.once

    async def seen() -> None:
        try:
            await once()
        finally:
            tried.set()

    wrap: Callable[[], object] = seen
    monkeypatch.setattr(report, "once", wrap)
    running = asyncio.create_task(report.run())
    await tried.wait()
    await registry.start()
    await registry.was_reported("w1", 1)
    await rows.cut_connections()
    await change(rows, session, "busy_slots = 2")
    await registry.was_reported("w1", 2)
    running.cancel()
