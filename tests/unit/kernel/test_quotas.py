"""Which line of a group's quotas binds a tenant."""

from farhand.kernel.quotas import EVERYONE, Quota, quota_of

ACME = Quota("acme", max_running=4)
OTHERS = Quota(EVERYONE, max_running=2, max_queued=10)


def test_a_tenant_is_bound_by_its_own_line_alone() -> None:
    assert quota_of([OTHERS, ACME], "acme") == ACME  # nothing of the other line is inherited


def test_one_without_a_line_is_bound_by_everyone_s() -> None:
    assert quota_of([OTHERS, ACME], "main") == Quota("main", 2, 10)


def test_without_any_line_nothing_is_bound() -> None:
    assert quota_of([], "main") == quota_of([ACME], "main") == Quota("main")


def test_a_line_without_numbers_frees_its_tenant() -> None:
    assert quota_of([OTHERS, Quota("free")], "free") == Quota("free")
