"""Becomes a PostgreSQL program: another user if told so, ended by its parent's death, in the right order.

Run as a file, `python -I -S postgres_launch.py PARENT SIGNAL UID GID PROGRAM ARGUMENT…`
(UID -1: stay who we are), so that nothing runs between fork and exec in a process
that may have gRPC's threads. Standard library only.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Replace this process by the program."""
    parent, number, uid, gid = (int(text) for text in sys.argv[1:5])
    # Loaded before the change of user: afterwards the interpreter's files may be out of reach.
    libc = ctypes.CDLL(None, use_errno=True)
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # After it: the kernel forgets the parent-death signal when the user changes.
    if sys.platform == "linux":
        libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)  # it died before the signal was armed
    os.umask(0o077)
    os.execv(sys.argv[5], sys.argv[5:])


if __name__ == "__main__":
    main()
