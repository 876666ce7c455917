"""Where a job goes by what is declared, and how the copy of the registry moves from revision to revision."""

import dataclasses
import itertools

import pytest

from farhand.kernel.errors import GroupDeleting, NotFound, TenantNotAllowed
from farhand.kernel.resolution import Fallback
from farhand.scheduler.core.declared import (
    Change,
    Declared,
    Group,
    Namespace,
    OutOfOrder,
    Placement,
    RemovedGroup,
    RemovedNamespace,
    RemovedTenant,
    Resource,
    Tenant,
    changed_groups,
    place,
)

DEFAULT = Group("u-default", "")
GPU = Group("u-gpu", "gpu")
ACME_ONLY = Group("u-acme", "acme-boxes", allowed_tenants=frozenset({"acme"}))
LEAVING = Group("u-leaving", "leaving", deleting=True)


def a_registry(
    *namespaces: Namespace,
    tenants: tuple[Tenant, ...] = (Tenant("main"), Tenant("acme")),
    groups: tuple[Group, ...] = (DEFAULT, GPU, ACME_ONLY, LEAVING),
) -> Declared:
    return Declared.of(7, tenants, namespaces, groups)


def placed(
    declared: Declared,
    tenant: str = "main",
    namespace: str | None = None,
    group_key: str | None = None,
    fallback: Fallback | None = None,
) -> Placement:
    return place(declared, tenant=tenant, namespace=namespace, group_key=group_key, fallback=fallback)


def test_a_job_that_names_nothing_waits_in_the_default_group() -> None:
    assert placed(a_registry()) == Placement("u-default", "", Fallback.WAIT)


@pytest.mark.parametrize("key", ["", "_default"])
def test_both_names_of_the_default_group_beat_what_would_be_inherited(key: str) -> None:
    declared = a_registry(tenants=(Tenant("main", default_worker_group="gpu"),))
    assert placed(declared).group_uid == "u-gpu"
    assert placed(declared, group_key=key).group_uid == "u-default"


@pytest.mark.parametrize("key", ["", "_default"])
def test_a_namespace_may_lead_back_to_the_default_group(key: str) -> None:
    declared = a_registry(
        Namespace("main", "a", default_worker_group=key), tenants=(Tenant("main", default_worker_group="gpu"),)
    )
    assert placed(declared, namespace="a.b").group_uid == "u-default"


LEVELS = ["job", "a.b.c", "a.b", "a", "tenant"]


@pytest.mark.parametrize("declaring", [c for n in range(6) for c in itertools.combinations(LEVELS, n)], ids=",".join)
def test_the_first_level_that_declares_wins_for_group_and_fallback(declaring: tuple[str, ...]) -> None:
    key = {level: f"group-of-{level.replace('.', '-')}" if level in declaring else None for level in LEVELS}
    groups = (DEFAULT, *(Group(f"u-{k}", k) for k in key.values() if k))
    namespaces = [Namespace("main", level, default_worker_group=key[level]) for level in LEVELS[1:4]]
    declared = a_registry(*namespaces, tenants=(Tenant("main", key["tenant"]),), groups=groups)
    winner = next((level for level in LEVELS if level in declaring), None)
    assert placed(declared, namespace="a.b.c", group_key=key["job"]).key == (key[winner] if winner else "")

    # The same for fallbacks: every level but the winner would say otherwise.
    says = {level: Fallback.FAIL if level == winner else Fallback.CANCEL for level in declaring}
    namespaces = [Namespace("main", level, default_fallback=says.get(level)) for level in LEVELS[1:4]]
    declared = a_registry(*namespaces, tenants=(Tenant("main", None, says.get("tenant")),))
    placement = placed(declared, namespace="a.b.c", fallback=says.get("job"))
    assert placement.fallback == (Fallback.FAIL if winner else Fallback.WAIT)


def test_group_and_fallback_come_from_different_levels() -> None:
    declared = a_registry(
        Namespace("main", "a", default_worker_group="gpu", default_fallback=Fallback.CANCEL),
        Namespace("main", "a.b", default_fallback=Fallback.FAIL),
    )
    assert placed(declared, namespace="a.b") == Placement("u-gpu", "gpu", Fallback.FAIL)
    assert placed(declared, namespace="a.b", group_key="_default") == Placement("u-default", "", Fallback.FAIL)


def test_a_namespace_inherits_only_along_its_own_name_and_within_its_tenant() -> None:
    declared = a_registry(
        Namespace("main", "ab", default_worker_group="gpu"),
        Namespace("acme", "a", default_worker_group="gpu"),
        Namespace("main", "a.b.c", default_worker_group="gpu"),
    )
    assert placed(declared, namespace="a.b").group_uid == "u-default"
    assert placed(declared, "acme", namespace="a.b").group_uid == "u-gpu"


@pytest.mark.parametrize("namespace", ["", None])
def test_without_a_namespace_the_tenant_decides(namespace: str | None) -> None:
    declared = a_registry(tenants=(Tenant("main", "gpu", Fallback.FAIL),))
    assert placed(declared, namespace=namespace) == Placement("u-gpu", "gpu", Fallback.FAIL)


def test_an_unknown_tenant_is_not_found_and_no_other_tenant_is_told_of() -> None:
    with pytest.raises(NotFound) as refused:
        placed(a_registry(), "acmee")
    assert "'acmee'" in str(refused.value) and "near" not in refused.value.metadata
    with pytest.raises(NotFound, match="Did you mean 'main'"):
        placed(a_registry(), "mian")


def test_an_unknown_group_is_not_found_with_near_matches() -> None:
    with pytest.raises(NotFound) as refused:
        placed(a_registry(), group_key="gpuu")
    assert str(refused.value) == "There is no worker group 'gpuu'. Did you mean 'gpu'?"
    assert refused.value.metadata["near"] == "gpu"


def test_near_matches_are_groups_that_the_tenant_may_use_and_that_stay() -> None:
    with pytest.raises(NotFound) as refused:
        placed(a_registry(), group_key="acme-boxe")
    assert "near" not in refused.value.metadata
    with pytest.raises(NotFound) as refused:
        placed(a_registry(), "acme", group_key="acme-boxe")
    assert refused.value.metadata["near"] == "acme-boxes"
    with pytest.raises(NotFound) as refused:
        placed(a_registry(), group_key="leavin")
    assert "near" not in refused.value.metadata


def test_an_unknown_default_says_whose_default_it_is() -> None:
    declared = a_registry(Namespace("main", "a", default_worker_group="vanished"))
    with pytest.raises(NotFound, match=r"'vanished'.*default of namespace 'a'"):
        placed(declared, namespace="a.b")


def test_a_tenant_that_is_not_allowed_is_told_the_group_the_tenant_and_what_to_do() -> None:
    with pytest.raises(TenantNotAllowed) as refused:
        placed(a_registry(), group_key="acme-boxes")
    for part in ("'acme-boxes'", "'main'", "allowed tenants"):
        assert part in str(refused.value)
    assert refused.value.metadata == {"worker_group": "acme-boxes", "tenant": "main"}
    assert placed(a_registry(), "acme", group_key="acme-boxes").group_uid == "u-acme"


def test_a_forbidden_group_that_is_being_deleted_is_forbidden() -> None:
    group = dataclasses.replace(ACME_ONLY, deleting=True)
    with pytest.raises(TenantNotAllowed):
        placed(a_registry(groups=(DEFAULT, group)), group_key="acme-boxes")


def test_a_group_that_is_being_deleted_takes_no_jobs() -> None:
    with pytest.raises(GroupDeleting, match="'leaving'"):
        placed(a_registry(), group_key="leaving")


def test_a_paused_group_takes_jobs() -> None:
    declared = a_registry(groups=(DEFAULT, dataclasses.replace(GPU, paused=True)))
    assert placed(declared, group_key="gpu").group_uid == "u-gpu"


def test_a_copy_that_was_never_filled_knows_nothing() -> None:
    with pytest.raises(NotFound):
        placed(Declared())


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        (Tenant("new"), Declared.of(8, [Tenant("main"), Tenant("new")], [Namespace("main", "a")], [DEFAULT, GPU])),
        (
            Tenant("main", "gpu"),
            Declared.of(8, [Tenant("main", "gpu")], [Namespace("main", "a")], [DEFAULT, GPU]),
        ),
        (RemovedTenant("main"), Declared.of(8, [], [Namespace("main", "a")], [DEFAULT, GPU])),
        (
            Namespace("main", "a", "gpu"),
            Declared.of(8, [Tenant("main")], [Namespace("main", "a", "gpu")], [DEFAULT, GPU]),
        ),
        (RemovedNamespace("main", "a"), Declared.of(8, [Tenant("main")], [], [DEFAULT, GPU])),
        (
            Group("u-gpu", "gpu", paused=True),
            Declared.of(8, [Tenant("main")], [Namespace("main", "a")], [DEFAULT, Group("u-gpu", "gpu", paused=True)]),
        ),
        (RemovedGroup("u-gpu"), Declared.of(8, [Tenant("main")], [Namespace("main", "a")], [DEFAULT])),
        (RemovedGroup("never-was"), Declared.of(8, [Tenant("main")], [Namespace("main", "a")], [DEFAULT, GPU])),
        (None, Declared.of(8, [Tenant("main")], [Namespace("main", "a")], [DEFAULT, GPU])),
    ],
    ids=repr,
)
def test_each_change_gives_the_next_revision_and_leaves_the_one_before(
    resource: Resource | None, expected: Declared
) -> None:
    before = Declared.of(7, [Tenant("main")], [Namespace("main", "a")], [DEFAULT, GPU])
    assert before.after(Change(8, resource)) == expected
    assert before == Declared.of(7, [Tenant("main")], [Namespace("main", "a")], [DEFAULT, GPU])


def test_a_group_made_again_under_an_old_key_is_another_group() -> None:
    declared = a_registry().after(Change(8, RemovedGroup("u-gpu"))).after(Change(9, Group("u-gpu-2", "gpu")))
    assert placed(declared, group_key="gpu").group_uid == "u-gpu-2"
    assert "u-gpu" not in declared.groups_by_uid


@pytest.mark.parametrize("revision", [6, 7, 9])
def test_a_change_out_of_order_is_refused(revision: int) -> None:
    with pytest.raises(OutOfOrder):
        a_registry().after(Change(revision, Tenant("new")))


def test_changed_groups_are_those_that_came_went_or_differ() -> None:
    before = a_registry(groups=(DEFAULT, GPU, LEAVING))
    now = a_registry(groups=(DEFAULT, dataclasses.replace(GPU, lease_ms=10_000), ACME_ONLY))
    assert changed_groups(before, now) == {"u-gpu", "u-leaving", "u-acme"}
    assert changed_groups(now, now) == frozenset()
