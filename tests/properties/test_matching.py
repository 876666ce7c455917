"""Matching: in order (P5), within credit (P7), only to who may run it (P10), and spread."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from farhand.scheduler.core.matching import Seat, match

LANES = st.integers(0, 4)
SEATS = st.lists(
    st.builds(lambda credit, lanes: (credit, frozenset(lanes)), st.integers(0, 5), st.sets(LANES)), max_size=5
).map(lambda seats: [Seat(number, credit, lanes) for number, (credit, lanes) in enumerate(seats)])


@given(st.lists(LANES, max_size=30), SEATS)
def test_no_seat_gets_more_than_its_credit_or_what_it_may_not_run(jobs: list[int], seats: list[Seat]) -> None:
    matches = match(jobs, seats)
    given_to = Counter(found.session_id for found in matches)
    for seat in seats:
        assert given_to[seat.session_id] <= seat.credit
    assert all(jobs[found.place] in seats[found.session_id].lanes for found in matches)


@given(st.lists(LANES, max_size=30), SEATS)
def test_no_job_overtakes_an_older_one_that_the_same_seat_may_run(jobs: list[int], seats: list[Seat]) -> None:
    matches = match(jobs, seats)
    taken = {found.place for found in matches}
    assert [found.place for found in matches] == sorted(taken)
    for found in matches:
        older = [index for index in range(found.place) if index not in taken]
        assert all(jobs[index] not in seats[found.session_id].lanes for index in older)


@given(st.lists(LANES, max_size=30), SEATS)
def test_a_job_is_left_only_when_nobody_with_credit_left_may_run_it(jobs: list[int], seats: list[Seat]) -> None:
    matches = match(jobs, seats)
    left = {seat.session_id: seat.credit for seat in seats}
    for found in matches:
        left[found.session_id] -= 1
    waiting = {lane for index, lane in enumerate(jobs) if index not in {found.place for found in matches}}
    for seat in seats:
        if left[seat.session_id] > 0:
            assert not waiting & seat.lanes


def test_jobs_spread_over_the_seats_in_turn() -> None:
    seats = [Seat(1, 3, frozenset({0})), Seat(2, 1, frozenset({0})), Seat(3, 3, frozenset({0}))]
    assert [found.session_id for found in match([0] * 7, seats)] == [1, 2, 3, 1, 3, 1, 3]


def test_a_job_that_nobody_may_run_is_passed_over() -> None:
    assert [found.place for found in match([9, 0, 9, 0], [Seat(1, 5, frozenset({0}))])] == [1, 3]
