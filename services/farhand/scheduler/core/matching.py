"""Which waiting job goes to which worker.

Jobs are taken strictly in the order of the queue; each goes to the eligible seat
whose turn is oldest. A job that no seat may run is passed over, not waited for
(design.md, Order), and so is one whose tenant has as many jobs with workers as it
may. A seat that was given a job goes to the end of the line, so
work spreads over the workers of a group instead of piling on one.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(slots=True)
class Seat:
    """A session with credit. `lanes` are the ids of the lanes that it may run."""

    session_id: int
    credit: int
    lanes: frozenset[int]


@dataclass(frozen=True, slots=True)
class Limit:
    """No more than `room` jobs of these lanes, one tenant's, may go now; what is below 0 is too much already."""

    lanes: frozenset[int]
    room: int


def closed_lanes(limits: Sequence[Limit]) -> frozenset[int]:
    """The lanes of which nothing may go now. A claim does not look at them, or they would hide what is behind."""
    return frozenset().union(*(limit.lanes for limit in limits if limit.room <= 0))


class Match(NamedTuple):
    """The job at this place of the list goes to that session."""

    place: int
    session_id: int


def match(job_lanes: Sequence[int], seats: Sequence[Seat], limits: Sequence[Limit] = ()) -> list[Match]:
    """Match jobs, given by their lanes in queue order, to seats, the oldest turn first. No seat gets more
    than its credit (P7), and no tenant more than its limit (P13)."""
    limit_of = {lane: number for number, limit in enumerate(limits) for lane in limit.lanes}
    room = [limit.room for limit in limits]
    line: OrderedDict[int, Seat] = OrderedDict((seat.session_id, seat) for seat in seats if seat.credit > 0)
    credit = {seat.session_id: seat.credit for seat in seats}
    matches: list[Match] = []
    for index, lane in enumerate(job_lanes):
        if not line:
            break
        limit = limit_of.get(lane)
        if limit is not None and room[limit] <= 0:
            continue
        for seat in line.values():  # a loop, not a generator: this runs once per job
            if lane in seat.lanes:
                break
        else:
            continue
        matches.append(Match(index, seat.session_id))
        if limit is not None:
            room[limit] -= 1
        credit[seat.session_id] -= 1
        if credit[seat.session_id]:
            line.move_to_end(seat.session_id)
        else:
            del line[seat.session_id]
    return matches
