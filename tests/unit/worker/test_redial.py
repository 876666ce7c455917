"""How long to wait before the next dial, and which address it takes."""

import pytest

from farhand.worker.core.redial import Redial, Target, bound

A, B, C = (Target(name, name) for name in ("a:1", "b:1", "c:1"))


def dialed(redial: Redial, *targets: Target, jitter: float = 0.0) -> list[Target]:
    """A whole round."""
    redial.begin(targets, jitter=jitter)
    taken = []
    while not redial.exhausted:
        taken.append(redial.next())
    return taken


def test_the_first_retry_comes_within_half_a_second() -> None:
    assert bound(0, None) == 0.5


def test_the_bound_doubles_up_to_thirty_seconds() -> None:
    assert [bound(n, None) for n in (1, 2, 3, 6, 7, 1000)] == [1.0, 2.0, 4.0, 30.0, 30.0, 30.0]


def test_the_bound_never_passes_a_quarter_of_the_lease() -> None:
    assert bound(9, 10.0) == 2.5
    assert bound(0, 1.0) == 0.25


@pytest.mark.parametrize(("jitter", "order"), [(0.0, [A, B, C]), (0.4, [B, C, A]), (0.999, [C, A, B])])
def test_a_round_has_each_address_once_from_a_random_one_on(jitter: float, order: list[Target]) -> None:
    assert dialed(Redial(), A, B, C, jitter=jitter) == order


def test_an_address_that_two_names_stand_for_is_dialed_once() -> None:
    assert dialed(Redial(), A, B, A) == [A, B]


def test_the_address_that_was_dialed_last_comes_last() -> None:
    redial = Redial()
    assert dialed(redial, A, B, C) == [A, B, C]
    assert dialed(redial, A, B, C, jitter=0.7) == [A, B, C]
    assert dialed(redial, A, B) == [A, B]  # the last is no address any more


def test_within_a_round_the_next_is_dialed_at_once_and_behind_it_comes_a_wait() -> None:
    redial = Redial()
    redial.begin([A, B], jitter=0.0)
    redial.next()
    assert redial.failed(jitter=0.5, lease=None) == 0.0
    redial.next()
    assert redial.failed(jitter=0.5, lease=None) == 0.25


def test_a_session_that_broke_is_followed_by_a_wait_and_a_new_round() -> None:
    redial = Redial()
    redial.begin([A, B], jitter=0.0)
    redial.next()
    redial.accepted()
    assert redial.exhausted
    assert redial.failed(jitter=0.5, lease=None) == 0.25


def test_the_jitter_is_full() -> None:
    assert Redial(failures=3).failed(jitter=0.0, lease=None) == 0.0
    assert Redial(failures=3).failed(jitter=0.5, lease=None) == 2.0


def test_a_servers_wish_is_the_least() -> None:
    assert Redial().failed(jitter=0.5, lease=None, retry_delay=3.0) == 3.25


def test_the_longest_wish_of_a_round_counts_once_behind_it() -> None:
    redial = Redial()
    redial.begin([A, B], jitter=0.0)
    redial.next()
    assert redial.failed(jitter=0.0, lease=None, retry_delay=3.0) == 0.0
    redial.next()
    assert redial.failed(jitter=0.0, lease=None, retry_delay=1.0) == 3.0
    assert redial.failed(jitter=0.0, lease=None) == 0.0


def test_an_accepted_session_makes_the_next_wait_short_again() -> None:
    redial = Redial(failures=8)
    redial.accepted()
    assert redial.failed(jitter=1.0, lease=None) == 0.5


def test_who_is_sent_away_dials_at_once_or_after_the_delay_that_is_asked_for() -> None:
    assert Redial().sent_away(retry_delay=None, jitter=0.9, lease=None) == 0.0
    assert Redial().sent_away(retry_delay=1.0, jitter=0.5, lease=None) == 1.25
