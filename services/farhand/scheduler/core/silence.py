"""When a stream is given up though its connection stands.

A worker leaves a scheduler that leaves two heartbeats unanswered (design.md, rule 6).
This is the same from the other end, and a little more patient. A stream is *silent*
when nothing came on it for three heartbeats, which are half a lease where that is
60 s or less: its worker is stopped or stuck, or the network loses what it says. A
worker is *deaf* when its own heartbeats say that it applied none of the last four
answers; ours leave before, so this is for those that somebody else wrote.

Neither takes a job from anybody. The stream ends, so its worker is DISCONNECTED and
given no more; its lease runs on (core/lease.py), and it may come back within it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from farhand.scheduler.core.lease import LeaseWatch, Renewal, heartbeat_interval

SILENT_HEARTBEATS = 3  # during which nothing came
DEAF_HEARTBEATS = 4  # of which no answer was applied
LONGEST_GAP = 2.0  # seconds between two looks; more, and what came meanwhile may wait to be read


def deaf(sequence: int, answered_sequence: int) -> bool:
    """Whether a heartbeat says that its worker hears nothing."""
    return sequence - answered_sequence > DEAF_HEARTBEATS


@dataclass(frozen=True, slots=True)
class Heard:
    """How many frames came on a stream so far, and the longest lease (s) that its worker may count with."""

    session_id: int
    epoch: int
    frames: int
    lease: float


@dataclass(slots=True)
class Silence:
    """Since when each stream of this replica has been silent."""

    _watch: LeaseWatch = field(default_factory=LeaseWatch)
    _last: float | None = None

    def look(self, streams: Iterable[Heard], now: float) -> list[int]:
        """The streams (session ids) that have been silent for too long; `now` on the own monotonic clock."""
        if self._last is None or now - self._last > LONGEST_GAP:  # this process stood still: they have not, perhaps
            self._watch = LeaseWatch()
        self._last = now
        counters = [
            Renewal(heard.session_id, heard.epoch, heard.frames, SILENT_HEARTBEATS * heartbeat_interval(heard.lease))
            for heard in streams
        ]
        return [stood.session_id for stood in self._watch.observe(counters, now)]
