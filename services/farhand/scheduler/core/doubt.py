"""When a scheduler asks a worker what it holds (design.md, the worker stream).

A heartbeat says how many slots are taken. What was outstanding at two heartbeats in
a row and is more than these slots hold, or slots that are taken by more than was
ever outstanding, twice in a row, is a doubt: results that wait to be recorded can
explain it, and the inventory tells. A worker that stays at odds is asked again only
after a while.
"""

from collections.abc import Collection
from dataclasses import dataclass

PATIENCE = 6  # heartbeats between two questions


@dataclass(slots=True)
class Doubt:
    """What one stream's heartbeats said; fences are assignments without a result."""

    _before: frozenset[int] = frozenset()
    _too_busy: bool = False  # at the last heartbeat
    _silence: int = 0  # heartbeats until it may be asked again

    def beat(self, outstanding: Collection[int], busy: int) -> bool:
        """A heartbeat came; True: ask."""
        now = frozenset(outstanding)
        idle = busy < len(now & self._before)
        too_busy = busy > len(now)
        doubtful = idle or (too_busy and self._too_busy)
        self._before, self._too_busy = now, too_busy
        self._silence = max(0, self._silence - 1)
        if not doubtful or self._silence:
            return False
        self._silence = PATIENCE
        return True
