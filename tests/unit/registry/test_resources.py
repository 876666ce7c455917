"""The rules of tenants, namespaces, worker groups, workers, request ids and visibility."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from farhand.kernel.errors import (
    EtagMismatch,
    GroupDeleting,
    InUse,
    InvalidArgument,
    Protected,
    RequestIdReused,
    Violation,
)
from farhand.kernel.quotas import EVERYONE, Quota
from farhand.kernel.resolution import Fallback
from farhand.registry.core import plugin_defaults, request_id, tenant, worker, worker_group
from farhand.registry.core.etag import check_etag, etag
from farhand.registry.core.flow import FlowRevision, check_newest
from farhand.registry.core.flow_groups import FlowGroups
from farhand.registry.core.references import check_default_group_use
from farhand.registry.core.tenant import Tenant
from farhand.registry.core.update_mask import concerning
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


def test_quotas_have_one_line_for_each_tenant_that_bounds_something_or_frees_it() -> None:
    good = (Quota("acme", 0, 0), Quota("free"), Quota(EVERYONE, max_queued=1_000_000_000))
    assert paths(replace(GPU, quotas=good)) == []
    wrong = (
        Quota("acme", 1),
        Quota("Bad", -1, 1_000_000_001),
        Quota("acme", 2),
        Quota(EVERYONE),
    )
    assert paths(replace(GPU, quotas=wrong)) == [
        "worker_group.quotas[1].tenant",
        "worker_group.quotas[1].max_running",
        "worker_group.quotas[1].max_queued",
        "worker_group.quotas[2].tenant",
        "worker_group.quotas[3]",
    ]
    assert paths(replace(GPU, quotas=tuple(Quota(f"t{n}", 1) for n in range(1001)))) == ["worker_group.quotas"]
    assert "'acme' has a line already" in worker_group.check(replace(GPU, quotas=wrong), FLOOR)[3].description


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
        tenant.check_removal("main", [], [], [])
    tenant.check_removal("acme", [], [], [])
    with pytest.raises(
        InUse, match=r"its namespaces a\.b and its flows a\.b\.c and the allowed tenants of the worker groups gpu"
    ):
        tenant.check_removal("acme", ["a.b"], ["gpu"], ["a.b.c"])


def test_a_default_group_must_stay_and_allow_the_tenant() -> None:
    check_default_group_use("p", GPU, "acme")
    with pytest.raises(GroupDeleting):
        check_default_group_use("p", replace(GPU, state=GroupState.DELETING), "acme")
    with pytest.raises(InvalidArgument, match="'gpu' does not allow the tenant 'acme'"):
        check_default_group_use("p", replace(GPU, allowed_tenants=("main",)), "acme")


def test_the_digest_of_a_request_tells_bodies_apart_but_not_output_fields_of_later_releases() -> None:
    one = Tenant("acme", default_fallback=Fallback.FAIL)
    assert request_id.digest(one) == request_id.digest(replace(one))
    (default,), _ = plugin_defaults.read("p", [{"type": "a", "values": {}}])
    others = [
        replace(one, description="x"),
        replace(one, default_fallback=None),
        replace(one, default_worker_group=""),
        replace(one, plugin_defaults=(default,)),
    ]
    assert len({request_id.digest(each) for each in [one, *others]}) == 5
    with pytest.raises(RequestIdReused):
        request_id.check_same("r", request_id.digest(one), request_id.digest(others[0]))


def test_the_digest_of_a_request_with_plugin_defaults_is_that_of_what_was_written() -> None:
    """Pinned: what a later release adds to the models must not change it, or a repeated request is refused."""
    (default,), _ = plugin_defaults.read("p", [{"type": "a", "values": {"workerGroup": {"key": "gpu"}}}])
    asked = request_id.digest(Tenant("acme", plugin_defaults=(default,)))
    assert asked.hex() == "42aa401a456fd39ecbf3f7bf206ff96d93dfe1d3aa7ea322d96383b6860f0ee5"


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


def test_a_flow_may_name_groups_that_are_there_stay_and_allow_its_tenant_and_they_are_remembered() -> None:
    groups = FlowGroups(
        "acme",
        [
            WorkerGroup("", "wg_d"),
            GPU,
            replace(GPU, key="gpu-2", allowed_tenants=("rival",)),
            replace(GPU, key="gpu-3", state=GroupState.DELETING),
        ],
    )
    assert [groups.why_not(key) for key in ("", "gpu")] == ["", ""]
    assert groups.why_not("gpuu") == "there is no worker group 'gpuu'. Did you mean 'gpu'?"
    assert groups.why_not("gpu-2") == ("the worker group 'gpu-2' does not allow the tenant 'acme'. Did you mean 'gpu'?")
    assert groups.why_not("gpu-3") == "the worker group 'gpu-3' is being deleted. Did you mean 'gpu'?"
    assert groups.named == {"gpu", "gpuu", "gpu-2", "gpu-3"}


def test_a_flow_full_of_unknown_groups_is_compared_with_the_others_a_few_times_only() -> None:
    groups = FlowGroups("acme", [GPU])
    hinted = ["Did you mean" in groups.why_not(f"gpu{number % 10}{number}") for number in range(100)]
    assert hinted[0] and sum(hinted) <= 20


def test_the_etag_of_a_flow_changes_with_its_deletion_and_the_newest_one_counts() -> None:
    flow = FlowRevision("acme", "a.b", "c", revision=3)
    assert len({flow.etag, replace(flow, revision=4).etag, replace(flow, deleted=True).etag}) == 3
    check_newest("", flow)
    check_newest(flow.etag, flow)
    with pytest.raises(EtagMismatch, match=r"flow 'a\.b/c' in the tenant 'acme' has changed"):
        check_newest(replace(flow, revision=2).etag, flow)


def test_plugin_defaults_are_read_back_as_they_were_written() -> None:
    given: list[dict[str, Any]] = [
        {"type": "a.b", "values": {"timeout": "PT1M", "x": [1, {"y": None}]}},
        {"type": "a", "forced": True, "values": {"workerGroup": {"key": "gpu", "fallback": "FAIL"}}},
    ]
    defaults, violations = plugin_defaults.read("p", given)
    assert violations == []
    assert plugin_defaults.written(defaults) == given
    assert plugin_defaults.stored(given) == defaults
    assert list(plugin_defaults.groups("p", defaults)) == [("p[1].values.workerGroup.key", "gpu")]


def test_an_update_hears_of_the_fields_that_it_names_alone() -> None:
    wrong = [Violation("tenant.plugin_defaults[3].values.x", "a"), Violation("tenant.default_fallback", "b")]
    assert concerning(["plugin_defaults"], wrong) == wrong[:1]
    assert concerning(["default_fallback", "description"], wrong) == wrong[1:]
