"""The calls to Linux that Python 3.11 has no name for: prctl, and a timer on CLOCK_BOOTTIME.

The timer must be the kernel's (timerfd) and not a select time-out: a time-out
stands still while the host is suspended, so after a night's sleep it would ring
hours after the deadline.
"""

import ctypes
import os
import time
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_TFD_TIMER_ABSTIME = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends (PR_SET_CHILD_SUBREAPER; forks don't inherit it)."""
    _checked(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def die_with_parent(signal_number: int) -> None:
    """Get this signal when the parent ends. Check getppid() afterwards: it may have ended already."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0))


def name_process(name: str) -> None:
    """What `ps -o comm` and `top` show; at most 15 bytes."""
    _checked(_libc.prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode("ascii")), 0, 0, 0))


class BootTimer:
    """A descriptor that becomes readable at a moment of CLOCK_BOOTTIME."""

    def __init__(self) -> None:
        self.fd = _checked(_libc.timerfd_create(time.CLOCK_BOOTTIME, os.O_NONBLOCK | os.O_CLOEXEC))

    def set(self, at: float | None) -> None:
        """Ring at `at` (seconds of CLOCK_BOOTTIME; at once where it has passed), or never."""
        # A value of zero means never, so the earliest moment is the first nanosecond.
        nanoseconds = 0 if at is None else max(int(at * 1e9), 1)
        interval_then_value = (ctypes.c_long * 4)(0, 0, nanoseconds // 10**9, nanoseconds % 10**9)
        _checked(_libc.timerfd_settime(self.fd, _TFD_TIMER_ABSTIME, interval_then_value, None))

    def acknowledge(self) -> None:
        """Make the descriptor quiet again after it rang."""
        with suppress(BlockingIOError):
            os.read(self.fd, 8)
