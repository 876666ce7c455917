"""Why a job waits: the first reason that would still hold if all after it were mended."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from farhand.kernel.quotas import Quota
from farhand.scheduler.core.explain import ActiveWorker, GroupFigures, WaitReason, explain
from farhand.scheduler.core.job import JobState
from farhand.scheduler.core.record import JobRecord
from farhand.scheduler.core.tenant_quotas import TenantFigures

NOW = datetime(2026, 11, 23, tzinfo=UTC)
JOB = JobRecord(
    key=7,
    tenant="acme",
    task_type="a.Task",
    group_uid="u-gpu",
    group_key="gpu",
    state=JobState.CREATED,
    fence=0,
    worker="",
    lost=0,
    created_at=NOW,
    assigned_at=None,
    started_at=None,
    ended_at=None,
    kill_at=None,
    exit_code=None,
    reason="",
    message="",
    run_us=None,
    result_fence=0,
    log_end=0,
    read_at=NOW,
)
GROUP = GroupFigures(
    uid="u-gpu",
    key="gpu",
    active_workers=1,
    slots=2,
    queued=4,
    running=2,
    ended=9,
    oldest_wait=190.0,
    paused=False,
)
FULL = replace(GROUP, tenants=(TenantFigures(Quota("acme", max_running=2), running=2, queued=4),))
WORKER = ActiveWorker("w1", True, frozenset({"a.Task"}), None, slots=2, held=2)

# Each line mends what the line above complains of, and leaves the rest as bad as can be.
LADDER = [
    (WaitReason.GROUP_UNKNOWN, replace(GROUP, gone=True, allowed_tenants=frozenset({"other"}), paused=True), []),
    (WaitReason.GROUP_UNKNOWN, replace(GROUP, deleting=True, allowed_tenants=frozenset({"other"}), paused=True), []),
    (WaitReason.TENANT_NOT_ALLOWED, replace(GROUP, allowed_tenants=frozenset({"other"}), paused=True), []),
    (WaitReason.GROUP_PAUSED, replace(GROUP, paused=True, allowed_tenants=frozenset({"acme"})), []),
    (WaitReason.NO_WORKER, GROUP, []),
    (WaitReason.NO_WORKER_FOR_TYPE, GROUP, [replace(WORKER, task_types=frozenset({"b"}), tenants=frozenset())]),
    (WaitReason.NO_WORKER_FOR_TENANT, FULL, [replace(WORKER, tenants=frozenset({"other"}))]),
    (WaitReason.QUOTA_REACHED, FULL, [WORKER]),
    (WaitReason.SLOTS_BUSY, GROUP, [WORKER]),
    (WaitReason.NEXT, GROUP, [replace(WORKER, held=1, tenants=frozenset({"acme"}))]),
]


@pytest.mark.parametrize(("reason", "group", "workers"), LADDER)
def test_the_first_thing_in_the_way_is_named(
    reason: WaitReason, group: GroupFigures, workers: list[ActiveWorker]
) -> None:
    assert explain(JOB, group, workers, 3).reason is reason


def test_busy_slots_tell_the_place_and_how_long_the_head_has_waited() -> None:
    message = explain(JOB, GROUP, [WORKER], 1234).message
    assert "2 slots" in message and "number 1,234 in the queue" in message and "3m10s" in message
    assert "over 10,000" in explain(JOB, GROUP, [WORKER], 10_001).message


def test_a_quota_that_is_reached_tells_its_figures() -> None:
    def told(before: int) -> str:
        return explain(JOB, FULL, [replace(WORKER, held=0)], 40, before).message

    assert told(12).startswith(
        "Its tenant 'acme' runs 2 of 2 jobs in its worker group 'gpu', as many as the quota there allows, and 12 of "
        "its jobs wait before it."
    )
    assert "and 1 of its jobs waits before it" in told(1) and "and none of its jobs waits before it" in told(0)
    more = replace(FULL, tenants=(TenantFigures(Quota("acme", max_running=3), running=2),))
    assert explain(JOB, more, [WORKER], 1).reason is WaitReason.SLOTS_BUSY


def test_a_free_slot_of_a_worker_that_does_not_fit_helps_nobody() -> None:
    other = ActiveWorker("w2", True, frozenset({"b.Task"}), None, slots=8, held=0)
    assert explain(JOB, GROUP, [WORKER, other], 1).reason is WaitReason.SLOTS_BUSY


def test_a_free_slot_behind_a_broken_stream_is_not_free_yet() -> None:
    away = replace(WORKER, connected=False, held=0)
    explained = explain(JOB, GROUP, [WORKER, away], 1)
    assert explained.reason is WaitReason.SLOTS_BUSY
    assert "1 worker not connected just now" in explained.message


def test_what_to_do_names_the_group_as_a_user_types_it() -> None:
    assert "--worker-group gpu" in explain(JOB, GROUP, [], 1).message
    default = replace(JOB, group_key="")
    message = explain(default, replace(GROUP, key=""), [], 1).message
    assert "'_default'" in message and "farhand server worker" in message and "--worker-group" not in message


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (replace(JOB, state=JobState.ASSIGNED, worker="w1"), "given to worker 'w1'"),
        (replace(JOB, state=JobState.RUNNING, worker="w1"), "runs on worker 'w1'"),
        (replace(JOB, state=JobState.KILLING, worker="w1"), "kill was asked for"),
        (
            replace(JOB, state=JobState.FAILED, reason="NONZERO_EXIT", message="It left with 3."),
            "FAILED (NONZERO_EXIT): It left with 3.",
        ),
        (replace(JOB, state=JobState.SUCCESS), "ended SUCCESS."),
        (
            replace(JOB, state=JobState.KILLED, reason="KILLED", message="It was killed."),
            "ended KILLED: It was killed.",
        ),
    ],
)
def test_a_job_that_does_not_wait_says_where_it_is(job: JobRecord, words: str) -> None:
    explained = explain(job, replace(GROUP, gone=True), [], 0)
    assert explained.reason is WaitReason.NOT_WAITING
    assert words in explained.message
