"""Ending together: the kernel's signal to a child whose parent died (Linux's PR_SET_PDEATHSIG)."""

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(number: signal.Signals) -> None:
    """Ask the kernel to send this signal to the calling process when its parent's forking thread ends.

    Does nothing where the kernel is not Linux.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
