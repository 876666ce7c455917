"""How long this worker may run what it holds (design.md, rule 6).

The lease runs from the moment the last *answered* heartbeat was *sent*, by this
machine's CLOCK_BOOTTIME, so no clock is shared with anyone and a suspended
machine counts its sleep. What runs must be dead by the deadline: sent + lease −
max(1 s, 10 %), which is earlier than the scheduler can give the jobs away.

A lease may be shortened while it runs. The scheduler counts the shorter one only
once this worker has echoed it, and a deadline that was handed out can't be taken
back (the warden may be all that still moves here). So the shorter lease is
echoed only when no deadline of the longer one lies beyond it.
"""

from dataclasses import dataclass

MARGIN_SECONDS = 1.0
MARGIN_SHARE = 0.1


def deadline_of(sent: float, duration: float) -> float:
    """When everything must be dead: the safety margin is a tenth of the lease and at least one second."""
    return sent + duration - max(MARGIN_SECONDS, MARGIN_SHARE * duration)


@dataclass(slots=True)
class Lease:
    """The lease of one incarnation, over all its sessions."""

    duration: float | None = None  # seconds; what is echoed to the scheduler; None before the first welcome
    deadline: float = float("-inf")  # CLOCK_BOOTTIME seconds; only ever moves forward

    def renew(self, sent: float, duration: float) -> bool:
        """A frame that was sent at `sent` is answered with a lease of `duration`; True where the deadline moved."""
        deadline = deadline_of(sent, duration)
        if deadline < self.deadline:
            return False
        moved = deadline > self.deadline
        self.deadline = deadline
        self.duration = duration
        return moved

    def expired(self, now: float) -> bool:
        """Nothing may run any more. True also before the first welcome."""
        return now >= self.deadline
