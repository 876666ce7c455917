"""Which streams a replica sends on, so that load spreads over replicas again.

Two reasons. A stream that is old moves (at an age that is drawn for each, so that
they don't move together), which in time spreads whatever came about by chance. And
a replica that has clearly more streams than the average, because another joined or
came back, sends some on at a bounded rate until it is near the average: far to
begin, near to end, so that counts which move about the average move nobody. Workers
that can't go elsewhere come back; a replica that sheds in vain tries ever less often.
"""

from collections.abc import Mapping
from dataclasses import dataclass

CLEARLY = 1.25  # times the average, and
AT_LEAST = 2  # streams over it: then a replica begins
SHARE = 0.05  # of its streams goes in one round
MOST_PATIENCE = 128  # rounds between two tries that help nothing
HEARD_WITHIN = 12.0  # seconds for which another replica's word counts


def age_limit(age: float, jitter: float) -> float:
    """How old one stream gets: the age ± a quarter. `jitter` is uniform in [0, 1)."""
    return age * (0.75 + jitter / 2)


@dataclass(slots=True)
class Balance:
    """Whether this replica is sending streams on; asked once a round."""

    shedding: bool = False
    _tried_with: int | None = None  # how many streams there were at the last try
    _patience: int = 0  # rounds between two tries
    _rest: int = 0  # rounds until the next

    def surplus(self, mine: int, others: Mapping[str, int]) -> int:
        """How many streams to send on in this round, given what the other replicas hold."""
        average = (mine + sum(others.values())) / (len(others) + 1)
        over = mine - average
        if over < 1:
            self.shedding, self._tried_with, self._patience, self._rest = False, None, 0, 0
        elif mine > average * CLEARLY and over > AT_LEAST:
            self.shedding = True
        if not self.shedding:
            return 0
        if self._rest:
            self._rest -= 1
            return 0
        in_vain = self._tried_with is not None and mine >= self._tried_with
        self._patience = min(max(1, 2 * self._patience), MOST_PATIENCE) if in_vain else 0
        self._rest, self._tried_with = self._patience, mine
        return min(int(over), max(1, int(mine * SHARE)))


@dataclass(slots=True)
class Word:
    """What another replica said: how many streams it holds, and when (own monotonic seconds)."""

    streams: int
    at: float


def still_heard(words: Mapping[str, Word], now: float) -> dict[str, int]:
    """The stream counts of the replicas that are there."""
    return {replica: word.streams for replica, word in words.items() if now - word.at <= HEARD_WITHIN}
