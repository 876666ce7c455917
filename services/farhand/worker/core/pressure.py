"""When this machine is too short of something to take new jobs (design.md, the worker stream, rule 13).

Below a floor of free disk or of available memory no more credit is given: the limit
that was told stands, since it never falls, and what runs goes on. Credit comes back
a quarter above the floor, so that a machine at the edge doesn't waver.
"""

from dataclasses import dataclass

RECOVERED = 1.25  # times the floor


@dataclass(slots=True)
class Pressure:
    """Floors in bytes; 0: no floor. `reasons` is what the machine is short of now, for people."""

    disk_floor: int
    memory_floor: int
    reasons: tuple[str, ...] = ()
    _short: frozenset[str] = frozenset()

    def observe(self, *, disk: int | None, memory: int | None) -> bool:
        """What is free now, in bytes; None: it can't be told, and counts as enough. True where the reasons are news."""
        short: dict[str, str] = {}
        for what, free, floor in (("disk", disk, self.disk_floor), ("memory", memory, self.memory_floor)):
            needed = floor * RECOVERED if what in self._short else floor
            if free is not None and free < needed:
                short[what] = f"{what}: {free >> 20:,} MiB free, {int(needed) >> 20:,} MiB needed"
        news = short.keys() != self._short
        self._short = frozenset(short)
        self.reasons = tuple(short.values())
        return news

    def __bool__(self) -> bool:
        return bool(self._short)
