"""Ending together: the kernel's signal to a child whose parent died (Linux's PR_SET_PDEATHSIG)."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(number: signal.Signals, parent: int) -> None:
    """Ask the kernel to send this signal to the calling process when its parent's forking thread ends.

    parent: its pid, as the parent itself knew it. Where that process is the parent no
    more, it ended before the kernel was asked, and the signal comes at once. Other
    kernels than Linux tell nothing later.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)
