"""What a trigger does when it is looked at: a table over its state and the time.

A trigger is looked at when its next time has come, when its evaluation ended, or when
somebody asked for something. It gets the state as it stands in its row and the
database's time, and answers what it starts and how the row is from then on; the shell
writes both in one transaction, so nothing is lost and nothing comes twice.

    Schedule     state                          it starts
    ─────────────────────────────────────────────────────────────────────────────────
                 disabled                       nothing, and has no next time
                 its time has not come          nothing
                 its time has come              an execution for it and for each that
                                                passed since, as far as they are not missed
                 times are missed               ALL: those too · LAST: the last of them,
                                                unless one came after it in time · NONE: none
                 asked to be evaluated          an execution for this moment, which is no tick
                 a backfill runs                also the next of the window's, a few at a time

A time is *missed* when nobody came to it within a minute. Times only move on, whatever
the clock does: the next one is always counted from the one before. Times that passed
while a trigger was disabled, or before it had this cron expression, are not missed;
they never were.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from farhand.kernel.flow.cron import Cron
from farhand.kernel.flow.types.schedule import Missed

MISSED_AFTER = timedelta(minutes=1)
MOST_TICKS = 50  # of one look; the rest follow in the next
BACKFILL_TICKS = 10  # of one look at a backfill,
BACKFILL_PAUSE = timedelta(seconds=1)  # which is made so often


class DisabledBy(StrEnum):
    """Who said that a trigger does nothing."""

    FLOW = "FLOW"  # its definition
    OPERATOR = "OPERATOR"  # somebody, until somebody enables it
    STOP_AFTER = "STOP_AFTER"  # the end of an execution that its definition names; the same


class Result(StrEnum):
    """What the last look came to that did something."""

    FIRED = "FIRED"  # it started an execution
    NOTHING = "NOTHING"  # an evaluation found nothing to start one for
    SKIPPED = "SKIPPED"  # there was no evaluation, or there were missed times
    FAILED = "FAILED"  # it could not be evaluated, or its inputs were refused


class BackfillState(StrEnum):
    """Where a backfill is."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    DONE = "DONE"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class Backfill:
    """A window of the past whose ticks are started once more. The end is not included."""

    number: int  # from 1; the backfills of a trigger
    start: datetime
    end: datetime
    next_at: datetime | None
    state: BackfillState
    fired: int = 0
    again_at: datetime | None = None  # when the next few may be started; None: at once

    @property
    def over(self) -> bool:
        """Whether nothing will come of it any more."""
        return self.state in (BackfillState.DONE, BackfillState.CANCELLED)

    @property
    def runs(self) -> bool:
        """Whether there is something to start."""
        return self.state is BackfillState.RUNNING


@dataclass(frozen=True, slots=True)
class State:
    """What a trigger is about to do."""

    disabled_by: DisabledBy | None = None
    next_at: datetime | None = None
    last_at: datetime | None = None
    asked_at: datetime | None = None
    backfill: Backfill | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """A time for which an execution is started. `backfill`: which; 0: the calendar's; None: somebody asked."""

    at: datetime
    backfill: int | None


@dataclass(frozen=True, slots=True)
class Looked:
    """What follows from a look: the ticks to start executions for, oldest first; the state from then on; when to
    look again; and how many missed times were left out."""

    ticks: tuple[Tick, ...]
    state: State
    due_at: datetime | None
    left_out: bool = False


def look(cron: Cron, missed: Missed, state: State, now: datetime) -> Looked:
    """What a Schedule does now."""
    if state.disabled_by is not None:
        state = replace(state, next_at=None, asked_at=None)
        return Looked((), state, None)
    asked = () if state.asked_at is None else (Tick(state.asked_at, None),)
    times, next_at, left_out = _passed(cron, missed, state.next_at, now)
    backfill, again = state.backfill, None
    filled: Sequence[datetime] = ()
    if backfill is not None and backfill.runs:
        if _may_fill(backfill, now):
            filled, backfill = _fill(cron, replace(backfill, again_at=now + BACKFILL_PAUSE))
        again = backfill.again_at if backfill.runs else None
    state = replace(
        state, next_at=next_at, last_at=times[-1] if times else state.last_at, asked_at=None, backfill=backfill
    )
    ticks = (
        *asked,
        *(Tick(at, 0) for at in times),
        *(Tick(at, backfill.number) for at in filled if backfill is not None),
    )
    return Looked(ticks, state, min((at for at in (next_at, again) if at is not None), default=None), left_out)


def _passed(
    cron: Cron, missed: Missed, next_at: datetime | None, now: datetime
) -> tuple[list[datetime], datetime | None, bool]:
    """The times to start executions for, the next one, and whether some were left out."""
    left_out = False
    if next_at is not None and missed is not Missed.ALL and next_at < now - MISSED_AFTER:
        first = next_at
        next_at = cron.after(now - MISSED_AFTER)
        if missed is Missed.LAST and (next_at is None or next_at > now):
            next_at = cron.before(now + timedelta(microseconds=1))
            assert next_at is not None  # the first is one
        left_out = next_at != first
    times: list[datetime] = []
    while next_at is not None and next_at <= now and len(times) < MOST_TICKS:
        times.append(next_at)
        next_at = cron.after(next_at)
    return times, next_at, left_out


def _may_fill(backfill: Backfill, now: datetime) -> bool:
    """Looks come for many reasons, and only one a second is for the backfill. A clock that was set back stops none."""
    return backfill.again_at is None or not now < backfill.again_at <= now + BACKFILL_PAUSE


def _fill(cron: Cron, backfill: Backfill) -> tuple[list[datetime], Backfill]:
    times: list[datetime] = []
    at = backfill.next_at
    while at is not None and at < backfill.end and len(times) < BACKFILL_TICKS:
        times.append(at)
        at = cron.after(at)
    left = at if at is not None and at < backfill.end else None
    state = BackfillState.RUNNING if left is not None else BackfillState.DONE
    return times, replace(backfill, next_at=left, state=state, fired=backfill.fired + len(times))


def stopped(state: State, stop_after: Collection[str], ended: Collection[str]) -> State:
    """The state after executions of it ended so; what its definition names disables it (stopAfter)."""
    if state.disabled_by is not None or not set(stop_after).intersection(ended):
        return state
    return replace(state, disabled_by=DisabledBy.STOP_AFTER, next_at=None, asked_at=None)


def first_time(cron: Cron | None, last_at: datetime | None, now: datetime) -> datetime | None:
    """The next time of a trigger that is new, was enabled, or got another cron expression. Never one that fired
    already, also when the clock was set back. `cron` None: a polling trigger, which begins at once."""
    if cron is None:
        return now
    return cron.after(now if last_at is None else max(now, last_at))


def renewed(before: State | None, cron: Cron | None, *, same_times: bool, disabled: bool, now: datetime) -> State:
    """A trigger's state with another revision of its flow, or with its first (`before` None). `same_times`: the
    cron expression and the time zone are what they were; `disabled`: the definition says so."""
    state = State() if before is None else before
    disabled_by = state.disabled_by
    if disabled_by in (None, DisabledBy.FLOW):  # what others said stays until somebody enables it
        disabled_by = DisabledBy.FLOW if disabled else None
    if disabled_by is not None:
        return replace(state, disabled_by=disabled_by, next_at=None, asked_at=None)
    if before is not None and before.disabled_by is None and same_times:
        return state
    return replace(state, disabled_by=None, next_at=first_time(cron, state.last_at, now))


def enabled(state: State, cron: Cron | None, now: datetime) -> State:
    """Somebody enables a trigger; what passed meanwhile is over."""
    if state.disabled_by is None:
        return state
    return replace(state, disabled_by=None, next_at=first_time(cron, state.last_at, now))


def disabled(state: State) -> State:
    """Somebody disables a trigger."""
    return replace(state, disabled_by=DisabledBy.OPERATOR, next_at=None, asked_at=None)


def asked(state: State, now: datetime) -> State:
    """Somebody wants it to be evaluated now; what was asked before and is still to come is the same."""
    return replace(state, asked_at=now) if state.asked_at is None else state


def backfill_becomes(state: State, wanted: BackfillState) -> State:
    """Somebody pauses a backfill, lets it go on, or ends it. One that is over stays as it is."""
    backfill = state.backfill
    if backfill is None or backfill.over:
        return state
    left = None if wanted is BackfillState.CANCELLED else backfill.next_at
    return replace(state, backfill=replace(backfill, state=wanted, next_at=left))


def begin_backfill(cron: Cron, before: Backfill | None, start: datetime, end: datetime) -> Backfill:
    """The next backfill of a trigger, from `start` on, where that is a tick, up to before `end`."""
    first = cron.after(start - timedelta(microseconds=1))
    number = 1 if before is None else before.number + 1
    if first is None or first >= end:
        return Backfill(number, start, end, None, BackfillState.DONE)
    return Backfill(number, start, end, first, BackfillState.RUNNING)


def previous(cron: Cron, last_at: datetime | None, at: datetime) -> datetime | None:
    """The time before one of its times. Cheap where the last one that fired is it."""
    if last_at is not None and last_at < at and cron.after(last_at) == at:
        return last_at
    return cron.before(at)
