"""How long to wait before the next dial, and which address it takes.

Full jitter: a uniform share of a bound that doubles, so that a thousand workers
whose scheduler restarts don't come back in step. The first retry comes within
500 ms; the bound ends at min(30 s, lease/4), since a worker that waits longer
than its lease has lost its jobs (design.md, rule 6).
"""

from collections.abc import Sequence
from dataclasses import dataclass

FIRST_BOUND = 0.5
LONGEST_BOUND = 30.0


def bound(attempt: int, lease: float | None) -> float:
    """The longest wait before retry number `attempt` (0 is the first), in seconds."""
    ceiling = LONGEST_BOUND if lease is None else min(LONGEST_BOUND, lease / 4)
    return min(ceiling, FIRST_BOUND * 2.0 ** min(attempt, 30))


@dataclass(slots=True)
class Redial:
    """The scheduler's addresses, taken in turn, and the failures since the last accepted session."""

    addresses: Sequence[str]
    failures: int = 0
    turn: int = 0

    @property
    def address(self) -> str:
        """The address to dial now."""
        return self.addresses[self.turn % len(self.addresses)]

    def accepted(self) -> None:
        """A session stood: the next wait is short again."""
        self.failures = 0

    def failed(self, *, jitter: float, lease: float | None, retry_delay: float | None = None) -> float:
        """A dial or a session failed: go to the next address. Seconds to wait first.

        `jitter` is uniform in [0, 1). `retry_delay` is the server's own wish; it counts as the least,
        and jitter of up to the bound comes on top so that those who were sent away together part.
        """
        wait = jitter * bound(self.failures, lease) + (retry_delay or 0.0)
        self.failures += 1
        self.turn += 1
        return wait

    def sent_away(self, *, retry_delay: float | None, jitter: float, lease: float | None) -> float:
        """The scheduler closed a good session (go_away): dial another at once, or after the delay that it asks for."""
        self.turn += 1
        if retry_delay is None:
            return 0.0
        return retry_delay + jitter * bound(0, lease)
