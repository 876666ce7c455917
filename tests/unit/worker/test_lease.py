"""How long a worker may run what it holds."""

from hypothesis import given
from hypothesis import strategies as st

from farhand.worker.core.lease import Lease, deadline_of


def test_everything_is_dead_a_tenth_of_the_lease_before_its_end() -> None:
    assert deadline_of(100.0, 60.0) == 154.0


def test_the_margin_is_at_least_one_second() -> None:
    assert deadline_of(100.0, 3.0) == 102.0


def test_nothing_may_run_before_the_first_welcome() -> None:
    assert Lease().expired(now=-1e9)


def test_a_renewal_counts_from_when_the_frame_was_sent() -> None:
    lease = Lease()
    assert lease.renew(sent=10.0, duration=60.0)
    assert not lease.expired(63.9) and lease.expired(64.0)


def test_an_answer_to_an_older_frame_moves_nothing() -> None:
    lease = Lease()
    lease.renew(sent=20.0, duration=60.0)
    assert not lease.renew(sent=10.0, duration=60.0)
    assert lease.deadline == 74.0


def test_a_shorter_lease_is_echoed_only_when_no_deadline_of_the_longer_lies_beyond_it() -> None:
    lease = Lease()
    lease.renew(sent=0.0, duration=60.0)
    lease.renew(sent=10.0, duration=10.0)
    assert (lease.duration, lease.deadline) == (60.0, 54.0)  # a warden may know 54 and hear nothing more
    lease.renew(sent=46.0, duration=10.0)
    assert (lease.duration, lease.deadline) == (10.0, 55.0)


def test_a_longer_lease_counts_at_once() -> None:
    lease = Lease()
    lease.renew(sent=0.0, duration=10.0)
    lease.renew(sent=1.0, duration=60.0)
    assert (lease.duration, lease.deadline) == (60.0, 55.0)


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(2, 300)), min_size=1))
def test_the_scheduler_never_counts_less_than_any_deadline_that_was_handed_out(
    steps: list[tuple[float, float]],
) -> None:
    """It counts the echoed lease from any frame sent now or later; what runs is dead before that is over."""
    lease = Lease()
    now = 0.0
    for wait, duration in steps:
        now += wait
        lease.renew(now, duration)
        assert lease.duration is not None
        assert lease.deadline <= deadline_of(now, lease.duration)
