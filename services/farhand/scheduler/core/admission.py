"""How many streams a replica takes, and how fast (design.md, the worker stream, rule 13).

When a replica dies its workers all come at once, and each Connect is a transaction
under its group's lock. So a token bucket admits them at a steady rate, and sends
the others away with the time at which it will be their turn, as if they stood in a
line: they come back spread over that time instead of all at once. Workers that
hold jobs have a lease to lose; the last quarter of the bucket is theirs.
"""

from dataclasses import dataclass, field

RESERVE = 0.25  # of the bucket, for workers that hold jobs
LONGEST_WAIT = 10.0  # seconds that a worker is told to wait at most
FULL_WAIT = 5.0  # seconds, when the replica has as many streams as it takes


@dataclass(slots=True)
class Admission:
    """The bucket: `rate` streams a second, one second's worth at once. `most` streams in all."""

    rate: float
    most: int
    _tokens: float = field(init=False)
    _at: float = 0.0  # when the tokens were counted
    _turn: float = 0.0  # when it is the turn of the last in the line

    def __post_init__(self) -> None:
        self._tokens = self._size

    @property
    def _size(self) -> float:
        return max(1.0, self.rate)

    def admit(self, now: float, *, open_streams: int, holds_jobs: bool) -> float | None:
        """None: the stream may be opened. Else the seconds to wait. `now`: monotonic seconds."""
        self._tokens = min(self._size, self._tokens + (now - self._at) * self.rate) if self._at else self._tokens
        self._at = now
        if open_streams >= self.most:
            return FULL_WAIT
        if self._tokens >= (1.0 if holds_jobs else min(1.0 + RESERVE * self._size, self._size)):
            self._tokens -= 1.0
            return None
        self._turn = min(max(self._turn, now) + 1.0 / self.rate, now + LONGEST_WAIT)
        return self._turn - now
