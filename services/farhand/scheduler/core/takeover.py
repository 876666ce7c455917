"""What an execution takes over from the one that it goes on from or repeats.

A state that is final never changes, so a restart and a replay are new executions. What
had ended well comes over as it was, with its outputs and files, and is not run again.

A restart takes all that ended well. Flow control that failed goes on: which branch was
chosen stays chosen, and of what is inside only that runs again which did not end well.
A replay from a task takes what stands before it, all of which must have ended well.
Either way what is inside of flow control that comes over comes with it, also a failure
that was allowed there. The flow's `errors` never come over: they ran for that failure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from farhand.kernel.errors import FarhandError, InvalidArgument, NotReplayable, Violation
from farhand.kernel.flow import Flow, ForEach
from farhand.kernel.names import near_matches, shown
from farhand.scheduler.core.flow_outline import Place
from farhand.scheduler.core.task_run import RunId, RunState

_WELL = frozenset({RunState.SUCCESS, RunState.WARNING, RunState.SKIPPED})
_PATH = "from_task_id"


@dataclass(frozen=True, slots=True)
class OldRun:
    """A task run of the execution that is gone on from; `chose`: flow control that knows what is to run of it."""

    id: RunId
    state: RunState
    chose: bool


@dataclass(frozen=True, slots=True)
class Takeover:
    """Which task runs come over: as they ended, or to go on."""

    as_ended: frozenset[RunId]
    go_on: frozenset[RunId]
    over: frozenset[RunId] = frozenset()
    """Of those that had ended: what is inside of a loop that has, so that no step needs to look at it."""


NOTHING = Takeover(frozenset(), frozenset())


def restart(places: Mapping[str, Place], runs: Sequence[OldRun]) -> Takeover:
    """What a restart takes over. `places`: of the flow's tasks, by their ids."""
    newest = _newest(runs)
    as_ended: set[RunId] = set()
    go_on: set[RunId] = set()
    for run in runs:
        if run.id.task_id not in places or places[run.id.task_id].in_errors:
            continue
        around = [newest.get(each) for each in _around(places, run.id)]
        if any(each is not None and each.state in _WELL for each in around):
            as_ended.add(run.id)
        elif newest[_one(run.id)] is run and run.chose:
            go_on.add(run.id)
    return _takeover(places, runs, as_ended, go_on)


def replay(flow: Flow, places: Mapping[str, Place], runs: Sequence[OldRun], task_id: str, name: str) -> Takeover:
    """What a replay that begins with this task takes over; `name`: how people call the execution. Raises
    InvalidArgument for a task that is not one of the flow's own list, NotReplayable where something before it did not
    end well."""
    if (wrong := _no_beginning(places, task_id)) is not None:
        raise wrong
    newest = _newest(runs)
    before: set[str] = set()
    for task in flow.tasks:
        if task.id == task_id:
            break
        run = newest.get((task.id, ""))
        if not task.disabled and (run is None or run.state not in _WELL):
            how = "did not run" if run is None else f"ended {run.state}"
            raise NotReplayable(
                f"Task {shown(task.id)}, which stands before {shown(task_id)}, {how} in execution {name}, so there is "
                f"nothing of it to take over. Replay from {shown(task.id)} or from before it."
            )
        before.add(task.id)
    as_ended = {
        run.id for run in runs if run.id.task_id in places and _top(places, run.id.task_id) in before
    }  # what the flow does not have any more is of no use to it
    return _takeover(places, runs, as_ended, set())


def _takeover(places: Mapping[str, Place], runs: Sequence[OldRun], as_ended: set[RunId], go_on: set[RunId]) -> Takeover:
    # One that was killed would kill the execution that takes it over.
    as_ended -= {run.id for run in runs if run.state is RunState.KILLED}
    ended = {_one(id) for id in as_ended}
    over = {
        id
        for id in as_ended
        if any(
            isinstance(places[task_id].task, ForEach) and (task_id, iteration) in ended
            for task_id, iteration in _around(places, id)
            if task_id != id.task_id
        )
    }
    return Takeover(frozenset(as_ended), frozenset(go_on), frozenset(over))


def _no_beginning(places: Mapping[str, Place], task_id: str) -> FarhandError | None:
    place = places.get(task_id)
    if place is None:
        near = near_matches(task_id, places)
        hint = f" Did you mean {' or '.join(shown(each) for each in near)}?" if near else ""
        return InvalidArgument.of(Violation(_PATH, f"the flow has no task {shown(task_id)}.{hint}"))
    if place.in_errors:
        what = f"{shown(task_id)} is one of the tasks that run upon failure; a replay begins with one of the others"
        return InvalidArgument.of(Violation(_PATH, what))
    if place.parent:
        top = _top(places, task_id)
        what = f"{shown(task_id)} stands inside of {shown(top)}; a replay begins with that, or with another task of "
        return InvalidArgument.of(Violation(_PATH, what + "the flow's own list"))
    return None


def _top(places: Mapping[str, Place], task_id: str) -> str:
    while (parent := places[task_id].parent) or places[task_id].in_errors:
        if not parent:
            return ""  # of `errors`
        task_id = parent
    return task_id


def _one(id: RunId) -> tuple[str, str]:
    return id.task_id, id.iteration


def _around(places: Mapping[str, Place], id: RunId) -> Iterable[tuple[str, str]]:
    """It, and what it stands in, by id and iteration."""
    task_id, iteration = _one(id)
    yield task_id, iteration
    while parent := places[task_id].parent:
        task_id = parent
        if isinstance(places[task_id].task, ForEach):
            iteration = iteration.rpartition("/")[0]
        yield task_id, iteration


def _newest(runs: Sequence[OldRun]) -> dict[tuple[str, str], OldRun]:
    newest: dict[tuple[str, str], OldRun] = {}
    for run in runs:
        known = newest.get(_one(run.id))
        if known is None or known.id.attempt < run.id.attempt:
            newest[_one(run.id)] = run
    return newest
