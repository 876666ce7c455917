"""How many streams a replica takes, and how fast."""

import pytest

from farhand.scheduler.core.admission import FULL_WAIT, LONGEST_WAIT, Admission


def asked(admission: Admission, count: int, now: float, *, holds_jobs: bool = True) -> list[float | None]:
    return [admission.admit(now, open_streams=0, holds_jobs=holds_jobs) for _ in range(count)]


def test_a_second_s_worth_is_admitted_at_once_and_the_rest_is_sent_away() -> None:
    answers = asked(Admission(100.0, 1000), 150, now=50.0)
    assert answers[:100] == [None] * 100
    assert all(answer is not None for answer in answers[100:])


def test_the_bucket_fills_at_the_rate_and_never_over_its_size() -> None:
    admission = Admission(100.0, 1000)
    asked(admission, 100, now=50.0)
    assert asked(admission, 100, now=50.5).count(None) == 50
    assert asked(admission, 300, now=999.0).count(None) == 100


def test_those_who_are_sent_away_are_told_one_turn_after_the_other() -> None:
    admission = Admission(100.0, 1000)
    waits = [wait for wait in asked(admission, 150, now=50.0) if wait is not None]
    assert waits == pytest.approx([0.01 * turn for turn in range(1, 51)])
    assert asked(admission, 2000, now=50.0)[-1] == pytest.approx(LONGEST_WAIT)


def test_workers_that_hold_jobs_go_first() -> None:
    admission = Admission(100.0, 1000)
    idle = asked(admission, 100, now=50.0, holds_jobs=False)
    assert idle.count(None) == 75
    assert asked(admission, 100, now=50.0).count(None) == 25


def test_a_worker_without_jobs_gets_its_turn_in_a_small_bucket_too() -> None:
    admission = Admission(0.5, 1000)
    assert asked(admission, 2, now=50.0, holds_jobs=False)[0] is None
    assert asked(admission, 1, now=51.0, holds_jobs=False) != [None]
    assert asked(admission, 1, now=52.0, holds_jobs=False) == [None]


def test_a_full_replica_takes_no_more() -> None:
    admission = Admission(100.0, most=3)
    assert admission.admit(50.0, open_streams=2, holds_jobs=True) is None
    assert admission.admit(50.0, open_streams=3, holds_jobs=True) == FULL_WAIT
