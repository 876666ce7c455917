"""Which waiting job goes to which worker.

Jobs are taken strictly in the order of the queue; each goes to the eligible seat
whose turn is oldest. A job that no seat may run is passed over, not waited for
(design.md, Order). A seat that was given a job goes to the end of the line, so
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


class Match(NamedTuple):
    """The job at this place of the list goes to that session."""

    place: int
    session_id: int


def match(job_lanes: Sequence[int], seats: Sequence[Seat]) -> list[Match]:
    """Match jobs, given by their lanes in queue order, to seats, the oldest turn first. No seat gets more
    than its credit (P7)."""
    line: OrderedDict[int, Seat] = OrderedDict((seat.session_id, seat) for seat in seats if seat.credit > 0)
    credit = {seat.session_id: seat.credit for seat in seats}
    matches: list[Match] = []
    for index, lane in enumerate(job_lanes):
        if not line:
            break
        for seat in line.values():  # a loop, not a generator: this runs once per job
            if lane in seat.lanes:
                break
        else:
            continue
        matches.append(Match(index, seat.session_id))
        credit[seat.session_id] -= 1
        if credit[seat.session_id]:
            line.move_to_end(seat.session_id)
        else:
            del line[seat.session_id]
    return matches
