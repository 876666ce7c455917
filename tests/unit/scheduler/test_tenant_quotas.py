"""What quotas allow, given what is there."""

from farhand.kernel.quotas import EVERYONE, Quota
from farhand.scheduler.core.matching import Limit
from farhand.scheduler.core.tenant_quotas import Place, QueueRoom, TenantFigures, limits_of, tenant_figures

QUOTAS = (Quota(EVERYONE, max_running=2), Quota("acme", max_queued=5), Quota("free"), Quota("rival", max_running=4))


def test_room_is_taken_place_by_place_and_what_is_too_much_already_is_none() -> None:
    room = QueueRoom(
        {("g", "acme"): Place("gpu", 2, 1), ("g", "main"): Place("gpu", 2, 7), ("h", "acme"): Place("", 0, 0)}
    )
    assert room.take("g", "acme") is None and room.take("g", "nobody") is None
    for group, tenant, said in (
        ("g", "acme", "Tenant 'acme' has 2 jobs waiting in worker group 'gpu', and its quota there allows 2."),
        ("g", "main", "Tenant 'main' has 7 jobs waiting in worker group 'gpu', and its quota there allows 2."),
        ("h", "acme", "Tenant 'acme' has 0 jobs waiting in worker group '_default', and its quota there allows 0."),
    ):
        refused = room.take(group, tenant)
        assert refused is not None and refused.message.startswith(said)
    assert room and not QueueRoom({})


def test_a_limit_is_over_all_lanes_of_a_tenant() -> None:
    lanes = [(1, "acme"), (2, "main"), (3, "main"), (4, "rival"), (5, "free")]
    found = limits_of(QUOTAS, lanes, {"main": 1, "rival": 6, "acme": 9, "free": 9})
    assert set(found) == {Limit(frozenset({2, 3}), 1), Limit(frozenset({4}), -2)}


def test_figures_are_of_those_who_are_bound_and_have_a_line_or_jobs() -> None:
    counts = {"main": (2, 3), "idle": (0, 0), "rival": (0, 0), "free": (9, 9)}
    assert tenant_figures(QUOTAS, counts) == (
        TenantFigures(QUOTAS[1]),
        TenantFigures(QUOTAS[2], 9, 9),
        TenantFigures(Quota("main", max_running=2), 2, 3),
        TenantFigures(QUOTAS[3]),
    )
    assert tenant_figures(QUOTAS[1:2], counts) == (TenantFigures(QUOTAS[1]),)
    assert tenant_figures((), counts) == ()
    assert TenantFigures(Quota("main", 2), 2).runs_all_it_may and not TenantFigures(Quota("main"), 2).runs_all_it_may
