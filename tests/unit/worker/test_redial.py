"""How long to wait before the next dial."""

from farhand.worker.core.redial import Redial, bound


def test_the_first_retry_comes_within_half_a_second() -> None:
    assert bound(0, None) == 0.5


def test_the_bound_doubles_up_to_thirty_seconds() -> None:
    assert [bound(n, None) for n in (1, 2, 3, 6, 7, 1000)] == [1.0, 2.0, 4.0, 30.0, 30.0, 30.0]


def test_the_bound_never_passes_a_quarter_of_the_lease() -> None:
    assert bound(9, 10.0) == 2.5
    assert bound(0, 1.0) == 0.25


def test_each_failure_takes_the_next_address() -> None:
    redial = Redial(("a:1", "b:1"))
    seen = [redial.address]
    for _ in range(2):
        redial.failed(jitter=0.0, lease=None)
        seen.append(redial.address)
    assert seen == ["a:1", "b:1", "a:1"]


def test_the_jitter_is_full() -> None:
    redial = Redial(("a:1",), failures=3)
    assert redial.failed(jitter=0.0, lease=None) == 0.0
    redial.failures = 3
    assert redial.failed(jitter=0.5, lease=None) == 2.0


def test_a_servers_wish_is_the_least() -> None:
    assert Redial(("a:1",)).failed(jitter=0.5, lease=None, retry_delay=3.0) == 3.25


def test_an_accepted_session_makes_the_next_wait_short_again() -> None:
    redial = Redial(("a:1",), failures=8)
    redial.accepted()
    assert redial.failed(jitter=1.0, lease=None) == 0.5


def test_who_is_sent_away_dials_the_next_at_once() -> None:
    redial = Redial(("a:1", "b:1"))
    assert redial.sent_away(retry_delay=None, jitter=0.9, lease=None) == 0.0
    assert redial.address == "b:1"
