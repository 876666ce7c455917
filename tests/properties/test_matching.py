"""Matching: in order (P5), within credit (P7) and quotas (P13), only to who may run it (P10), and spread."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from farhand.scheduler.core.matching import Limit, Seat, closed_lanes, match

LANES = st.integers(0, 4)
SEATS = st.lists(
    st.builds(lambda credit, lanes: (credit, frozenset(lanes)), st.integers(0, 5), st.sets(LANES)), max_size=5
).map(lambda seats: [Seat(number, credit, lanes) for number, (credit, lanes) in enumerate(seats)])

# Each lane is one of three tenants'; a limit binds some of these, and may be passed already.
LIMITS = st.tuples(
    st.lists(st.integers(0, 2), min_size=5, max_size=5),
    st.lists(st.none() | st.integers(-1, 4), min_size=3, max_size=3),
).map(
    lambda drawn: [
        Limit(frozenset(lane for lane, owner in enumerate(drawn[0]) if owner == tenant), room)
        for tenant, room in enumerate(drawn[1])
        if room is not None
    ]
)


def limit_of(lane: int, limits: list[Limit]) -> Limit | None:
    return next((limit for limit in limits if lane in limit.lanes), None)


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


@given(st.lists(LANES, max_size=30), SEATS, LIMITS)
def test_no_tenant_gets_more_than_its_limit_and_its_first_jobs_are_those(
    jobs: list[int], seats: list[Seat], limits: list[Limit]
) -> None:
    matches = match(jobs, seats, limits)
    given_to = Counter(found.session_id for found in matches)
    assert all(given_to[seat.session_id] <= seat.credit for seat in seats)
    assert all(jobs[found.place] in seats[found.session_id].lanes for found in matches)
    for limit in limits:
        assert sum(jobs[found.place] in limit.lanes for found in matches) <= max(0, limit.room)


@given(st.lists(LANES, max_size=30), SEATS, LIMITS)
def test_a_job_is_passed_for_a_quota_only_by_those_of_other_tenants(
    jobs: list[int], seats: list[Seat], limits: list[Limit]
) -> None:
    matches = match(jobs, seats, limits)
    room = {id(limit): limit.room for limit in limits}
    credit = {seat.session_id: seat.credit for seat in seats}
    to = {found.place: found.session_id for found in matches}
    for place, lane in enumerate(jobs):  # as it went: what is left had no seat, or no room, when its turn came
        limit = limit_of(lane, limits)
        if place in to:
            credit[to[place]] -= 1
            if limit is not None:
                room[id(limit)] -= 1
        else:
            fits = any(credit[seat.session_id] > 0 and lane in seat.lanes for seat in seats)
            assert not fits or (limit is not None and room[id(limit)] <= 0)


@given(st.lists(LANES, max_size=30), SEATS, LIMITS)
def test_what_is_closed_may_as_well_not_be_looked_at(jobs: list[int], seats: list[Seat], limits: list[Limit]) -> None:
    closed = closed_lanes(limits)
    shown = [(place, lane) for place, lane in enumerate(jobs) if lane not in closed]
    matches = match([lane for _, lane in shown], seats, limits)
    assert [(shown[found.place][0], found.session_id) for found in matches] == match(jobs, seats, limits)


def test_jobs_spread_over_the_seats_in_turn() -> None:
    seats = [Seat(1, 3, frozenset({0})), Seat(2, 1, frozenset({0})), Seat(3, 3, frozenset({0}))]
    assert [found.session_id for found in match([0] * 7, seats)] == [1, 2, 3, 1, 3, 1, 3]


def test_a_job_that_nobody_may_run_is_passed_over() -> None:
    assert [found.place for found in match([9, 0, 9, 0], [Seat(1, 5, frozenset({0}))])] == [1, 3]
