"""The rules of tenants, namespaces, worker groups, workers, request ids and visibility."""

from dataclasses import replace
from datetime import timedelta

import pytest

from farhand.kernel.errors import EtagMismatch, GroupDeleting, InUse, InvalidArgument, Protected, RequestIdReused
from farhand.kernel.resolution import Fallback
from farhand.registry.core import request_id, tenant, worker, worker_group
from farhand.registry.core.etag import check_etag, etag
from farhand.registry.core.references import check_default_group_use
from farhand.registry.core.tenant import Tenant
from farhand.registry.core.visibility import Visibility
from farhand.registry.core.worker import Report, Worker, WorkerState
from farhand.registry.core.worker_group import GroupState, WorkerGroup

FLOOR = timedelta(seconds=10)
GPU = WorkerGroup(key="gpu", uid="wg_a")


def paths(group: WorkerGroup) -> list[str]:
    return [violation.path for violation in worker_group.check(group, FLOOR)]


def test_all_that_is_wrong_with_a_group_is_said_at_once() -> None:
    wrong = replace(GPU, description="x" * 1001, allowed_tenants=("main", "Bad", "worse!"), lease=timedelta(seconds=9))
    assert paths(wrong) == [
        "worker_group.description",
        "worker_group.allowed_tenants[1]",
        "worker_group.allowed_tenants[2]",
        "worker_group.lease",
    ]


def test_a_lease_lies_between_the_floor_and_seven_days() -> None:
    for good in (FLOOR, timedelta(minutes=1), timedelta(days=7)):
        assert paths(replace(GPU, lease=good)) == []
    for bad in (timedelta(seconds=9.999), timedelta(days=7, milliseconds=1), timedelta(seconds=-60)):
        assert paths(replace(GPU, lease=bad)) == ["worker_group.lease"]
    assert "10s to 7d" in worker_group.check(replace(GPU, lease=timedelta(0)), FLOOR)[0].description
    assert (
        "whole" in worker_group.check(replace(GPU, lease=timedelta(seconds=60, microseconds=1)), FLOOR)[0].description
    )


def test_a_group_names_a_thousand_tenants_at_most() -> None:
    assert paths(replace(GPU, allowed_tenants=tuple(f"t{n}" for n in range(1001)))) == ["worker_group.allowed_tenants"]


def test_only_the_asked_for_fields_are_checked() -> None:
    wrong = replace(GPU, description="x" * 1001, lease=timedelta(0))
    assert [v.path for v in worker_group.check(wrong, FLOOR, ["lease"])] == ["worker_group.lease"]


def test_an_etag_is_current_or_refused_and_empty_is_whatever_it_is_now() -> None:
    check_etag("", "tenant 'a'", 4)
    check_etag(etag(4), "tenant 'a'", 4)
    check_etag(etag(4), "tenant 'a'", 5, 4)
    for old in (etag(3), "rubbish"):
        with pytest.raises(EtagMismatch, match="tenant 'a' has changed"):
            check_etag(old, "tenant 'a'", 4, None)


def test_main_is_protected_and_a_tenant_in_use_says_by_whom() -> None:
    with pytest.raises(Protected):
        tenant.check_removal("main", [], [])
    tenant.check_removal("acme", [], [])
    with pytest.raises(InUse, match=r"its namespaces a\.b and the allowed tenants of the worker groups gpu"):
        tenant.check_removal("acme", ["a.b"], ["gpu"])


def test_a_default_group_must_stay_and_allow_the_tenant() -> None:
    check_default_group_use("p", GPU, "acme")
    with pytest.raises(GroupDeleting):
        check_default_group_use("p", replace(GPU, state=GroupState.DELETING), "acme")
    with pytest.raises(InvalidArgument, match="'gpu' does not allow the tenant 'acme'"):
        check_default_group_use("p", replace(GPU, allowed_tenants=("main",)), "acme")


def test_the_digest_of_a_request_tells_bodies_apart_but_not_output_fields_of_later_releases() -> None:
    one = Tenant("acme", default_fallback=Fallback.FAIL)
    assert request_id.digest(one) == request_id.digest(replace(one))
    others = [replace(one, description="x"), replace(one, default_fallback=None), replace(one, default_worker_group="")]
    assert len({request_id.digest(each) for each in [one, *others]}) == 4
    with pytest.raises(RequestIdReused):
        request_id.check_same("r", request_id.digest(one), request_id.digest(others[0]))


def test_a_client_sees_groups_that_its_tenants_may_use_and_no_other_tenants_name() -> None:
    ours = Visibility(frozenset({"acme"}))
    shared = replace(GPU, allowed_tenants=("acme", "rival"))
    assert ours.sees_group(GPU) and ours.sees_group(shared)
    assert not ours.sees_group(replace(GPU, allowed_tenants=("rival",)))
    assert not Visibility(frozenset()).sees_group(GPU)
    assert ours.of_group(shared).allowed_tenants == ("acme",)
    everything = Visibility(None)
    assert everything.sees_group(shared) and everything.of_group(shared) == shared


def test_the_newest_report_of_a_worker_counts_and_reports_are_sorted() -> None:
    def report(worker_id: str, epoch: int, sequence: int) -> Report:
        return Report(Worker(worker_id, "", "wg_d", WorkerState.CONNECTED), epoch, sequence)

    given = [report("b", 1, 9), report("a", 1, 1), report("b", 2, 0), report("b", 1, 10)]
    assert worker.newest(given) == [report("a", 1, 1), report("b", 2, 0)]


def test_all_that_is_wrong_with_a_report_is_said_at_once() -> None:
    wrong = Worker("bad id", "no group!", "", None, host="a\0b", slots=-1, task_types=("x" * 201,))
    assert [v.path for v in worker.check("reports[2]", Report(wrong, -1, 0))] == [
        "reports[2].worker.id",
        "reports[2].worker.worker_group",
        "reports[2].worker.worker_group_uid",
        "reports[2].worker.state",
        "reports[2].worker.host",
        "reports[2].worker.task_types[0]",
        "reports[2].worker.slots",
        "reports[2].epoch",
    ]
