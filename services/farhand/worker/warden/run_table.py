"""What the warden knows about its runs, and what is due. Pure: no clock, no process, no socket.

A run is in one of the states below; TRANSITIONS says what each event does to
it. Three rules stand behind the table:

 1. Nothing starts unless a deadline was set and is still ahead.
 2. At the deadline, and when the worker is gone, every run is killed whatever
    its state. A grace never reaches beyond that: it is only another, earlier
    reason to kill.
 3. A run that is still alive when that moment comes ends as *fenced*, even if
    it was being killed on request already or its program happens to end by
    itself meanwhile: someone else may hold the job by now, so its end is no
    result. Better one result too few (the job runs again) than one too many.

Times are seconds of CLOCK_BOOTTIME, given by the caller.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum


class State(StrEnum):
    """Where a run stands."""

    STARTING = "STARTING"  # its keeper is forked; whether the program can be run is not known yet
    RUNNING = "RUNNING"  # the program was started
    ENDING = "ENDING"  # SIGTERM went to all of it; SIGKILL follows when the grace is over
    KILLED = "KILLED"  # SIGKILL is ordered, on request; the keeper has not reported the end yet
    FENCED = "FENCED"  # SIGKILL is ordered, by the deadline or because the worker is gone
    GONE = "GONE"  # nothing of it is left; the table forgets it


class Event(StrEnum):
    """What happens to a run."""

    STARTED = "STARTED"  # the keeper: the program was executed
    FAILED = "FAILED"  # the keeper: it can't be
    ENDED = "ENDED"  # the keeper, or its death: nothing of the run is left
    TERM_ASKED = "TERM_ASKED"  # the worker: end it, with a grace
    KILL_ASKED = "KILL_ASKED"  # the worker: end it now; or the grace is over
    FENCE = "FENCE"  # the deadline has come, or the worker is gone


class Effect(StrEnum):
    """What the loop has to do then."""

    TERMINATE = "TERMINATE"  # tell the keeper to send SIGTERM
    KILL = "KILL"  # tell the keeper to send SIGKILL until nothing is left
    TELL_STARTED = "TELL_STARTED"  # tell the worker, here and below
    TELL_FAILED = "TELL_FAILED"
    TELL_ENDED = "TELL_ENDED"
    TELL_FENCED = "TELL_FENCED"


_S, _E, _F = State, Event, Effect

TRANSITIONS: dict[tuple[State, Event], tuple[State, tuple[Effect, ...]]] = {
    (_S.STARTING, _E.STARTED): (_S.RUNNING, (_F.TELL_STARTED,)),
    (_S.STARTING, _E.FAILED): (_S.GONE, (_F.TELL_FAILED,)),
    # Its keeper was killed before it could say "started"; the program may have run.
    (_S.STARTING, _E.ENDED): (_S.GONE, (_F.TELL_STARTED, _F.TELL_ENDED)),
    (_S.STARTING, _E.TERM_ASKED): (_S.ENDING, (_F.TERMINATE,)),
    (_S.STARTING, _E.KILL_ASKED): (_S.KILLED, (_F.KILL,)),
    (_S.STARTING, _E.FENCE): (_S.FENCED, (_F.KILL,)),
    (_S.RUNNING, _E.ENDED): (_S.GONE, (_F.TELL_ENDED,)),
    (_S.RUNNING, _E.TERM_ASKED): (_S.ENDING, (_F.TERMINATE,)),
    (_S.RUNNING, _E.KILL_ASKED): (_S.KILLED, (_F.KILL,)),
    (_S.RUNNING, _E.FENCE): (_S.FENCED, (_F.KILL,)),
    # The keeper's word about the start may cross an order of ours.
    (_S.ENDING, _E.STARTED): (_S.ENDING, (_F.TELL_STARTED,)),
    (_S.ENDING, _E.FAILED): (_S.GONE, (_F.TELL_FAILED,)),
    (_S.ENDING, _E.ENDED): (_S.GONE, (_F.TELL_ENDED,)),
    # SIGTERM is sent once: a second one means "at once" to many programs. Only the grace may shrink.
    (_S.ENDING, _E.TERM_ASKED): (_S.ENDING, ()),
    (_S.ENDING, _E.KILL_ASKED): (_S.KILLED, (_F.KILL,)),
    (_S.ENDING, _E.FENCE): (_S.FENCED, (_F.KILL,)),
    (_S.KILLED, _E.STARTED): (_S.KILLED, (_F.TELL_STARTED,)),
    (_S.KILLED, _E.FAILED): (_S.GONE, (_F.TELL_FAILED,)),
    (_S.KILLED, _E.ENDED): (_S.GONE, (_F.TELL_ENDED,)),
    (_S.KILLED, _E.TERM_ASKED): (_S.KILLED, ()),
    (_S.KILLED, _E.KILL_ASKED): (_S.KILLED, ()),
    (_S.KILLED, _E.FENCE): (_S.FENCED, ()),
    (_S.FENCED, _E.STARTED): (_S.FENCED, (_F.TELL_STARTED,)),
    (_S.FENCED, _E.FAILED): (_S.GONE, (_F.TELL_FAILED,)),
    (_S.FENCED, _E.ENDED): (_S.GONE, (_F.TELL_FENCED,)),
    (_S.FENCED, _E.TERM_ASKED): (_S.FENCED, ()),
    (_S.FENCED, _E.KILL_ASKED): (_S.FENCED, ()),
    (_S.FENCED, _E.FENCE): (_S.FENCED, ()),
}


class IllegalEvent(Exception):
    """An event that can't happen in that state. The warden ends on it, and with it every run: it no longer knows."""


def step(state: State, event: Event) -> tuple[State, tuple[Effect, ...]]:
    """One row of the table. Raises IllegalEvent."""
    row = TRANSITIONS.get((state, event))
    if row is None:
        raise IllegalEvent(f"{event} in state {state}")
    return row


class _Run:
    __slots__ = ("kill_at", "state")

    def __init__(self) -> None:
        self.state = State.STARTING
        self.kill_at: float | None = None  # the end of the grace; only in ENDING


class RunTable:
    """All runs, and the deadline over them. Each method returns the effects as (effect, run id)."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self._deadline: float | None = None
        self._abandoned = False

    def __len__(self) -> int:
        return len(self._runs)

    def __contains__(self, run: str) -> bool:
        return run in self._runs

    def state(self, run: str) -> State:
        """The state of a run; GONE where it is not known (any more)."""
        found = self._runs.get(run)
        return State.GONE if found is None else found.state

    def set_deadline(self, at: float) -> None:
        """Move the deadline forward. An earlier one than before is ignored."""
        if self._deadline is None or at > self._deadline:
            self._deadline = at

    def admit(self, run: str, now: float) -> str:
        """Enter a run as STARTING; returns "", or why nothing may run now (then nothing changed)."""
        if self._abandoned:
            return "the worker is gone"
        if self._deadline is None:
            return "no lease is held yet"
        if now >= self._deadline:
            return "the lease's deadline has passed"
        if run in self._runs:
            raise IllegalEvent(f"run {run} starts twice")
        self._runs[run] = _Run()
        return ""

    def happened(self, run: str, event: Event) -> Iterator[tuple[Effect, str]]:
        """An event of one run. What concerns a run that is gone already is nothing."""
        found = self._runs.get(run)
        if found is None:
            return
        found.state, effects = step(found.state, event)
        if found.state is State.GONE:
            del self._runs[run]
        if found.state is not State.ENDING:
            found.kill_at = None
        for effect in effects:
            yield effect, run

    def ask_kill(self, run: str, now: float, grace: float) -> Iterator[tuple[Effect, str]]:
        """The worker wants a run to end, `grace` seconds from now at the latest."""
        if grace <= 0:
            yield from self.happened(run, Event.KILL_ASKED)
            return
        yield from self.happened(run, Event.TERM_ASKED)
        found = self._runs.get(run)
        if found is not None and found.state is State.ENDING:
            found.kill_at = now + grace if found.kill_at is None else min(found.kill_at, now + grace)

    def abandon(self) -> Iterator[tuple[Effect, str]]:
        """The worker is gone: everything is killed, and nothing starts any more."""
        self._abandoned = True
        yield from self._fence(list(self._runs))

    def due(self, now: float) -> Iterator[tuple[Effect, str]]:
        """What the time has brought: the deadline, or the end of a grace."""
        if self._deadline is not None and now >= self._deadline:
            yield from self._fence(list(self._runs))
        for run in [run for run, found in self._runs.items() if found.kill_at is not None and now >= found.kill_at]:
            yield from self.happened(run, Event.KILL_ASKED)

    def next_due(self) -> float | None:
        """When `due` is to be called next; None: not before something else happens."""
        moments = [found.kill_at for found in self._runs.values() if found.kill_at is not None]
        if self._deadline is not None and any(found.state is not State.FENCED for found in self._runs.values()):
            moments.append(self._deadline)
        return min(moments, default=None)

    def _fence(self, runs: Iterable[str]) -> Iterator[tuple[Effect, str]]:
        for run in runs:
            yield from self.happened(run, Event.FENCE)
