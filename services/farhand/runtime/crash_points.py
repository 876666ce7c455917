"""Places between two effects at which a process can be made to die, for tests alone.

`FARHAND_CRASH_POINT="claim committed"` kills this process with SIGKILL when it gets
there for the first time; `"claim committed:3"` the third time. Nothing else is ever
done here. tests/e2e/test_crash_points.py kills at each of them, tests/chaos at random.
What is one transaction and tells nobody (retention, a rewritten file that is replaced
in one step) has no point: a death there is one before it or one after it.
"""

import os
import signal

POINTS = {
    "enqueue committed": "scheduler: jobs are durable, nobody was told",
    "claim committed": "scheduler: jobs are assigned, nothing was sent",
    "assignments sent": "scheduler: jobs are in a stream's outbox, perhaps on the wire",
    "session opened": "scheduler: the epoch is raised, welcome was not said",
    "welcome sent": "scheduler: a worker was welcomed, kills that it has not confirmed were not sent again",
    "renewal committed": "scheduler: a lease is renewed, the heartbeat was not answered",
    "start committed": "scheduler: a start is recorded, who watches the job was not told",
    "result committed": "scheduler: a result is recorded, its acknowledgement was not sent",
    "result answered": "scheduler: a result's acknowledgement is in a stream's outbox, perhaps on the wire",
    "logs committed": "scheduler: log records are durable, their worker was not told",
    "waiting job killed": "scheduler: a job was killed in the queue, nobody was told",
    "kill marked": "scheduler: a kill is recorded, the worker was not told",
    "kill sent": "scheduler: a kill is in a stream's outbox, perhaps on the wire",
    "kill confirmed": "scheduler: a worker's word that a job will not start is recorded, who asked was not told",
    "drain committed": "scheduler: a session drains, its acknowledgement was not sent",
    "drain answered": "scheduler: a drain's acknowledgement is in a stream's outbox, perhaps on the wire",
    "worker sent on": "scheduler: a worker was asked to move on, its stream still stands",
    "goodbye committed": "scheduler: a worker's goodbye gave back its jobs, its stream was not closed",
    "stream's end noted": "scheduler: a session is DISCONNECTED, nobody was told",
    "return committed": "scheduler: jobs that were handed back unstarted wait again, nobody was told",
    "difference mended": "scheduler: jobs that a worker does not hold wait again, nobody was told",
    "file arriving": "scheduler: a part of an output file came",
    "file stored": "scheduler: an output file is stored, the worker was not told",
    "lease expired": "scheduler: a session is LOST and its jobs wait again, nobody was told",
    "fence committed": "scheduler: an operator's word gave back a worker's jobs, nobody was told",
    "fallback settled": "scheduler: jobs ended with their group's last worker, nobody was told",
    "secrets sealed anew": "rotate-key: a batch of secrets is encrypted anew, and not committed",
    "copy committed": "scheduler: a change of the registry's is in the database, this replica does not know it",
    "report answered": "scheduler: the registry has the leader's report, the leader does not know it",
    "deletion ended jobs": "scheduler: waiting jobs of a deleted group are ended, nobody was told",
    "deletion counted": "scheduler: the jobs of a deleted group are counted, the registry was not answered",
    "deletion answered": "scheduler: the registry knows what is left in a deleted group, its change is not here yet",
    "execution created": "scheduler: an execution is durable, nobody was told",
    "place taken": "scheduler: an execution has its place or its place in the line, not committed yet",
    "execution taken over": "scheduler: what a restarted execution takes over is written, not committed yet",
    "triggered flows claimed": "scheduler: flows whose triggers are to be taken over are this replica's, none was read",
    "triggers taken over": "scheduler: a flow's triggers are what it says, nobody was told",
    "triggers locked": "scheduler: triggers are held for a look, nothing of it is written",
    "ticks written": "scheduler: executions of ticks are written with their triggers' next times, not committed yet",
    "evaluations queued": "scheduler: evaluations of triggers are in the queue with their triggers, not committed yet",
    "ticks committed": "scheduler: executions of triggers' ticks are durable, nobody was told",
    "execution locked": "scheduler: executions are held for a step, nothing of it is written",
    "execution kill marked": "scheduler: an execution's jobs are ended or marked, not committed yet",
    "places given": "scheduler: executions end and others begin in their places, not committed yet",
    "step written": "scheduler: all that follows in executions is written, not committed yet",
    "step committed": "scheduler: executions moved, nobody was told",
    "jobs announced": "scheduler: executions moved and all were told",
    "incarnation noted": "worker: this process is named on disk, no scheduler has heard of it",
    "hello sent": "worker: hello is on the wire, nothing came back",
    "deadline set": "worker: the warden has a new deadline, nothing was started under it",
    "dead reported": "worker: a scheduler knows which incarnations are dead, they still stand on disk",
    "assignments received": "worker: jobs arrived, none was started",
    "folder made": "worker: a job has its folder and no process",
    "process started": "worker: a job's process runs, the scheduler was not told",
    "process ended": "worker: a job's process ended, its result is on no disk",
    "result journaled": "worker: a result is on disk, it was not sent",
    "result sent": "worker: a result is on the wire, nothing came back",
    "result acknowledged": "worker: a result was acknowledged, it was not forgotten",
    "result forgotten": "worker: a result is forgotten, the scheduler was not given credit for its slot",
    "logs acknowledged": "worker: the scheduler has a log, its file is still there",
    "kill obeyed": "worker: a job is being ended, the kill was not confirmed",
    "drain acknowledged": "worker: nothing new can come, what is done may not be sent",
    "jobs given up": "worker: the drain ran out of time and jobs are being ended, goodbye was not said",
    "goodbye sent": "worker: goodbye is on the wire, nothing came back",
    "stream handed over": "worker: the old stream stands and gives no more, hello was not said on the new one",
    "successor welcomed": "worker: the new stream is welcomed, the old one was not closed",
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
