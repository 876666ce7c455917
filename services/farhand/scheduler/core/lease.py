"""Leases without a shared clock (design.md, the worker stream, rule 6).

Two small rules. `LeaseWatch` tells a replica when a session may be expired: when
it saw the renewal counter unchanged for one whole lease on its *own* monotonic
clock. `LeaseTerms` tells which lease the worker may be counting with: a longer one
holds from the moment it is offered, a shorter one only once the worker has
answered that offer.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

AVAILABLE_WITHIN = 15.0  # seconds since the last heartbeat (semantics.md, 3)
LONGEST_GAP = 5.0  # seconds between two looks; more, and heartbeats may have been missed


def heartbeat_interval(lease: float) -> float:
    """Seconds between heartbeats: min(lease/6, 10 s)."""
    return min(lease / 6, 10.0)


@dataclass(frozen=True, slots=True)
class Renewal:
    """A session's counter as the database has it."""

    session_id: int
    epoch: int
    renewal: int
    lease: float  # seconds


@dataclass(slots=True)
class LeaseWatch:
    """When each session's counter was first seen at its present value."""

    _seen: dict[int, tuple[int, int, float]] = field(default_factory=dict)

    def observe(self, renewals: Iterable[Renewal], now: float) -> list[Renewal]:
        """Note what the database says now (seconds, own monotonic clock, read *before* the query was sent);
        answer which sessions stood still for one whole lease. A session that is seen for the first time,
        as all are after a restart, has one lease from now."""
        seen: dict[int, tuple[int, int, float]] = {}
        expired = []
        for row in renewals:
            before = self._seen.get(row.session_id)
            if before is None or before[:2] != (row.epoch, row.renewal):
                before = (row.epoch, row.renewal, now)
            elif now - before[2] >= row.lease:
                expired.append(row)
            seen[row.session_id] = before
        self._seen = seen
        return expired


@dataclass(slots=True)
class Sight:
    """Since when a replica has seen, without a gap, what the database says of heartbeats. After one (the database
    was away, or this process stood still) old heartbeats tell of the gap, and not yet of the workers."""

    since: float | None = None
    last: float | None = None

    def look(self, now: float) -> None:
        """The database answered; seconds on the own monotonic clock."""
        if self.last is None or self.since is None or now - self.last > LONGEST_GAP:
            self.since = now
        self.last = now

    @property
    def clear(self) -> bool:
        """Whether every worker that lives has had the time to show it."""
        return self.since is not None and self.last is not None and self.last - self.since >= AVAILABLE_WITHIN


@dataclass(slots=True)
class LeaseTerms:
    """The leases that one stream has offered and that its worker may be counting with; milliseconds."""

    counted: int  # with what the worker counts, by its last word
    _offers: deque[tuple[int, int]] = field(default_factory=deque)  # (sequence, lease) not yet answered for

    def offer(self, sequence: int, wanted: int) -> int:
        """The answer to `sequence` offers `wanted`. Returns the lease that must be in the database before
        the answer is sent: the longest that the worker may count with from now on."""
        # An offer that a later one outbids no longer matters, so those that are kept only fall, and the first is
        # the longest. A worker that never answers for any does not make them many.
        while self._offers and self._offers[-1][1] <= wanted:
            self._offers.pop()
        self._offers.append((sequence, wanted))
        return self.longest

    @property
    def longest(self) -> int:
        """The longest lease that the worker may be counting with."""
        return max(self.counted, self._offers[0][1]) if self._offers else self.counted

    def heard(self, answered_sequence: int, counted: int) -> None:
        """A heartbeat says which answer was applied last and which lease is counted with since."""
        while self._offers and self._offers[0][0] <= answered_sequence:
            self._offers.popleft()
        self.counted = counted
