"""Places between two effects at which a process can be made to die, for tests alone.

`FARHAND_CRASH_POINT="claim committed"` kills this process with SIGKILL when it gets
there for the first time; `"claim committed:3"` the third time. Nothing else is ever
done here. tests/e2e/test_crash_points.py kills at each of them.
"""

import os
import signal

POINTS = {
    "enqueue committed": "scheduler: jobs are durable, nobody was told",
    "claim committed": "scheduler: jobs are assigned, nothing was sent",
    "assignments sent": "scheduler: jobs are in a stream's outbox, perhaps on the wire",
    "session opened": "scheduler: the epoch is raised, welcome was not said",
    "result committed": "scheduler: a result is recorded, its acknowledgement was not sent",
    "kill marked": "scheduler: a kill is recorded, the worker was not told",
    "drain committed": "scheduler: a session drains, its acknowledgement was not sent",
    "lease expired": "scheduler: a session is LOST and its jobs wait again, nobody was told",
    "assignments received": "worker: jobs arrived, none was started",
    "process started": "worker: a job's process runs, the scheduler was not told",
    "result journaled": "worker: a result is on disk, it was not sent",
    "result acknowledged": "worker: a result was acknowledged, it was not forgotten",
}

_NAME, _, _TIME = os.environ.get("FARHAND_CRASH_POINT", "").partition(":")
if _NAME and _NAME not in POINTS:
    raise SystemExit(f"FARHAND_CRASH_POINT: there is no point {_NAME!r}; there are {', '.join(POINTS)}")
_left = int(_TIME or 1)


def reach(name: str) -> None:
    """The process is at this point; it dies here if it was asked to."""
    global _left
    if name == _NAME:
        _left -= 1
        if not _left:
            os.kill(os.getpid(), signal.SIGKILL)
