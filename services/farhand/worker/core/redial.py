"""How long to wait before the next dial, and which address it takes.

Addresses are taken in rounds. A round has every address that the schedulers' names
stand for at its beginning, from a random one on, the one that was dialed last at
its end; within a round the next is dialed at once, since another replica may well
answer. Behind a round, and behind a session that broke, comes a wait with full
jitter: a uniform share of a bound that doubles, so that a thousand workers whose
scheduler restarts don't come back in step. The first retry comes within 500 ms;
the bound ends at min(30 s, lease/4), since a worker that waits longer than its
lease has lost its jobs (design.md, rule 6).
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

FIRST_BOUND = 0.5
LONGEST_BOUND = 30.0


def bound(attempt: int, lease: float | None) -> float:
    """The longest wait before retry number `attempt` (0 is the first), in seconds."""
    ceiling = LONGEST_BOUND if lease is None else min(LONGEST_BOUND, lease / 4)
    return min(ceiling, FIRST_BOUND * 2.0 ** min(attempt, 30))


class Target(NamedTuple):
    """Where to dial: `name` is HOST:PORT as it was given, which TLS checks; `at` the HOST:PORT to connect to."""

    name: str
    at: str


@dataclass(slots=True)
class Redial:
    """The round, and how many failed since the last accepted session."""

    failures: int = 0
    _round: deque[Target] = field(default_factory=deque)
    _last: Target | None = None
    _wish: float = 0.0  # the longest delay that a server of this round asked for

    @property
    def exhausted(self) -> bool:
        """The round is over: the next dial takes a new one."""
        return not self._round

    def begin(self, targets: Sequence[Target], *, jitter: float) -> None:
        """Begin a round with these. `jitter` is uniform in [0, 1) and chooses the first."""
        start = int(jitter * len(targets))
        others = [target for target in (*targets[start:], *targets[:start]) if target != self._last]
        last = [self._last] if self._last is not None and self._last in targets else []
        self._round = deque(dict.fromkeys([*others, *last]))

    def next(self) -> Target:
        """The target to dial now; the round must not be exhausted."""
        self._last = self._round.popleft()
        return self._last

    def accepted(self) -> None:
        """A session stood: the next wait is short again, and names may mean other addresses by then."""
        self.failures = 0
        self._wish = 0.0
        self._round.clear()

    def failed(self, *, jitter: float, lease: float | None, retry_delay: float | None = None) -> float:
        """A dial or a session failed. Seconds to wait before the next: none while the round goes on.

        `retry_delay` is the server's own wish; behind the round it counts as the least, and jitter of up
        to the bound comes on top so that those who were sent away together part.
        """
        self._wish = max(self._wish, retry_delay or 0.0)
        if self._round:
            return 0.0
        wait = jitter * bound(self.failures, lease) + self._wish
        self.failures += 1
        self._wish = 0.0
        return wait

    def sent_away(self, *, retry_delay: float | None, jitter: float, lease: float | None) -> float:
        """The scheduler wants this worker elsewhere: dial another at once, or after the delay that it asks for."""
        if retry_delay is None:
            return 0.0
        return retry_delay + jitter * bound(0, lease)
