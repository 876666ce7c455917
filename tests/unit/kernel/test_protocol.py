"""Which versions of the worker protocol work together."""

import pytest

from farhand.kernel.protocol import PROTOCOL_VERSION, agree


@pytest.mark.parametrize("n", [2, 3, 17])
def test_a_version_works_with_itself_and_with_its_neighbours_on_the_lower(n: int) -> None:
    assert [agree(n, theirs) for theirs in (n - 1, n, n + 1)] == [n - 1, n, n]


@pytest.mark.parametrize("n", [3, 4, 17])
def test_what_is_two_versions_away_is_refused(n: int) -> None:
    assert agree(n, n - 2) is None
    assert agree(n, n + 2) is None
    assert agree(n, 99) is None


@pytest.mark.parametrize("mine", range(1, 6))
@pytest.mark.parametrize("theirs", range(1, 6))
def test_both_sides_come_to_the_same(mine: int, theirs: int) -> None:
    assert agree(mine, theirs) == agree(theirs, mine)


def test_there_is_no_version_before_the_first() -> None:
    assert agree(1, 0) is None
    assert agree(0, 1) is None
    assert agree(1, -1) is None
    assert PROTOCOL_VERSION >= 1
