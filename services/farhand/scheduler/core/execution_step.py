"""What follows, given a flow, an execution of it and its task runs.

`step` walks over the flow, along what has begun. Each task answers where it is: the
walk begins what may begin, ends what has ended, and goes on behind it, so that one
step does a whole cascade, as far as nobody outside has to be asked. The rules
(semantics.md, 3 and 4; design.md, Executions):

A sequence stops at its first failure. A Parallel lets its siblings finish, those too
that wait for a place, and then fails. Then the flow's `errors` run, in sequence, and
the execution is FAILED. `allowFailure` makes WARNING of a failure, and the flow goes
on; `retry` makes another attempt, of FAILED alone; a disabled task is SKIPPED.

A kill that is asked for, or a task run that is KILLED (its fallback is CANCEL, or its
job was killed), ends the execution KILLED: nothing begins from then on, `errors` do
not run, what waits ends, what runs is killed and waited for. Before it begins
anything a step looks for such a task run everywhere.
"""

from collections.abc import Mapping
from datetime import datetime

from farhand.kernel.flow import Flow
from farhand.scheduler.core.execution import Effect, Execution
from farhand.scheduler.core.task_run import Run, RunId


def step(flow: Flow, execution: Execution, runs: Mapping[RunId, Run], *, now: datetime) -> list[Effect]:
    """What follows now, in the order in which it is to be written; empty: nothing.

    `runs` are all task runs of the execution, each under its id. Deterministic, and of an execution that has ended
    always empty. Costs time in proportion to the runs.
    """
    raise NotImplementedError


def abandon(execution: Execution, runs: Mapping[RunId, Run], message: str) -> list[Effect]:
    """What ends an execution of which a step failed by a mistake of ours: FAILED, with all that it runs (INTERNAL).

    Live jobs are killed, and not waited for.
    """
    raise NotImplementedError
