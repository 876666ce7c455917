"""The warden: a small process beside the worker that is the parent of every job (design.md, rule 7; P1).

It exists to keep one promise when the worker can't: nothing that a job started
is alive after the lease's deadline, nor after the worker. So it does little
else, needs nothing but Python's standard library, and runs by its file's path
in an interpreter of its own (about 12 MB); it never imports the rest of
farhand, and what it does not import (dataclasses, typing, subprocess) it leaves
out because of the memory they cost.

    worker ── socketpair, frames ── warden ─┬─ keeper of run 1 ── program ── …
                                            ├─ keeper of run 2 ── program ── …

The warden holds the deadline and the table of runs, in one single-threaded
loop. For each run it forks a **keeper**, which is the child subreaper of that
run alone: whatever the program forks, daemonises or moves to another session
stays below the keeper, by the kernel's book-keeping and not by ours. So a run's
processes can't be confused with another's, whatever they do to their
environment, and "all gone" is the kernel's word (`waitpid` knows no child).

Who dies, and what follows:
  worker (also kill -9)     its socket closes: the warden has all killed, then ends
  worker stopped or stuck   the deadline comes, and nobody moves it: all killed
  warden (also kill -9)     its sockets close: each keeper kills its run; the worker sees `dead`
  keeper (kill -9)          the program dies with it (PDEATHSIG), what is below falls to the warden, which kills it
  all of them at one stroke the programs die (PDEATHSIG); of their detached grandchildren the worker kills those that
                            still carry FARHAND_RUN_ID in their environment; without a worker they survive

A warden and its keepers hold what the worker gave them as stdin: a locked file, which is free again when all of
this is over (farhand.worker.data_folder). No program inherits it.

What a program begins elsewhere (a container) is none of its processes. A run may carry an *undo* for that: one
request that the keeper sends once nothing of the program is left, however it ended; the warden does for a keeper
that was killed. If that can't be done in its time the worker is told, and goes on trying (undo_notes).

Not held either: a process of another user that a job started through a setuid
program can't be signalled by us; its run stays until it ends by itself.

Rooms: `loop` (the warden), `run_table` (pure: what is allowed, what is due),
`keeper`, `program` (the last steps before exec), `undo`, `tree` (what /proc knows),
`frames` (the socket's language), `linux` (the three calls Python lacks).
"""
