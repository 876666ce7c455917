"""What a Schedule does when it is looked at: the table of core/trigger.py, row by row."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farhand.kernel.flow.cron import Cron
from farhand.kernel.flow.types.schedule import Missed
from farhand.scheduler.core.trigger import (
    BACKFILL_PAUSE,
    BACKFILL_TICKS,
    MOST_TICKS,
    BackfillState,
    DisabledBy,
    Looked,
    State,
    Tick,
    asked,
    backfill_becomes,
    begin_backfill,
    disabled,
    enabled,
    look,
    previous,
    renewed,
)

HOURLY, EVERY_SECOND = Cron.parse("@hourly"), Cron.parse("* * * * * *")
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def times(looked: Looked, backfill: int | None = 0) -> list[datetime]:
    return [tick.at for tick in looked.ticks if tick.backfill == backfill]


def test_before_its_time_nothing_is_started() -> None:
    state = State(next_at=NOON)
    assert look(HOURLY, Missed.ALL, state, NOON - SECOND) == Looked((), state, NOON)


def test_at_its_time_one_is_started_and_the_next_follows_from_it() -> None:
    looked = look(HOURLY, Missed.ALL, State(next_at=NOON), NOON + SECOND)
    assert looked == Looked((Tick(NOON, 0),), State(next_at=NOON + HOUR, last_at=NOON), NOON + HOUR)


@pytest.mark.parametrize(
    ("missed", "late", "started", "left_out"),
    [
        (Missed.ALL, timedelta(hours=2, minutes=30), [0, 1, 2], False),
        (Missed.LAST, timedelta(hours=2, minutes=30), [2], True),
        (Missed.LAST, timedelta(hours=2, seconds=30), [2], True),  # the last came in time
        (Missed.LAST, timedelta(minutes=30), [0], False),
        (Missed.NONE, timedelta(hours=2, minutes=30), [], True),
        (Missed.NONE, timedelta(hours=2, seconds=30), [2], True),
        (Missed.NONE, timedelta(seconds=60), [0], False),  # not missed yet
        (Missed.NONE, timedelta(seconds=61), [], True),
    ],
)
def test_missed_times(missed: Missed, late: timedelta, started: list[int], left_out: bool) -> None:
    now = NOON + late
    looked = look(HOURLY, missed, State(next_at=NOON), now)
    assert times(looked) == [NOON + number * HOUR for number in started]
    assert looked.left_out == left_out
    assert looked.state.next_at == HOURLY.after(now) == looked.due_at


def test_a_long_time_is_made_up_for_in_portions() -> None:
    state, found = State(next_at=NOON), []
    now = NOON + timedelta(seconds=3 * MOST_TICKS)
    while (looked := look(EVERY_SECOND, Missed.ALL, state, now)).ticks:
        assert len(looked.ticks) <= MOST_TICKS
        found += times(looked)
        state = looked.state
    assert found == [NOON + number * SECOND for number in range(3 * MOST_TICKS + 1)]


@given(st.lists(st.integers(-7200, 7200), max_size=30), st.sampled_from(Missed))
def test_however_the_clock_jumps_times_only_move_on(jumps: list[int], missed: Missed) -> None:
    state, now, found = State(next_at=NOON), NOON, list[datetime]()
    for jump in jumps:
        now += timedelta(seconds=jump)
        looked = look(HOURLY, missed, state, now)
        found += times(looked)
        state = looked.state
    assert found == sorted(set(found)) and all(at.minute == at.second == 0 for at in found)
    if missed is Missed.ALL and found:
        assert found == [NOON + number * HOUR for number in range(len(found))]
    assert state.next_at is not None and (not found or state.next_at > found[-1])


def test_a_disabled_one_does_nothing_and_its_backfill_waits() -> None:
    backfill = begin_backfill(HOURLY, None, NOON - 9 * HOUR, NOON)
    state = disabled(State(next_at=NOON, asked_at=NOON, backfill=backfill))
    assert state == State(DisabledBy.OPERATOR, backfill=backfill)
    assert look(HOURLY, Missed.ALL, state, NOON + HOUR) == Looked((), state, None)


def test_enabled_again_it_begins_with_what_comes_and_never_with_what_fired() -> None:
    state = State(DisabledBy.OPERATOR, last_at=NOON)
    assert enabled(state, HOURLY, NOON + 5 * HOUR).next_at == NOON + 6 * HOUR
    assert enabled(state, HOURLY, NOON - 5 * HOUR).next_at == NOON + HOUR
    running = State(next_at=NOON - HOUR)
    assert enabled(running, HOURLY, NOON) == running
    assert enabled(replace(state, disabled_by=DisabledBy.STOP_AFTER), HOURLY, NOON).disabled_by is None


def test_who_asks_gets_one_execution_for_this_moment_and_the_ticks_stay() -> None:
    state = asked(State(next_at=NOON), NOON - SECOND)
    assert asked(state, NOON) == state
    looked = look(HOURLY, Missed.ALL, state, NOON - SECOND)
    assert looked == Looked((Tick(NOON - SECOND, None),), State(next_at=NOON), NOON)


@pytest.mark.parametrize(
    ("before", "says_disabled", "same", "after"),
    [
        (None, False, False, State(next_at=NOON + HOUR)),
        (None, True, False, State(DisabledBy.FLOW)),
        (State(next_at=NOON - HOUR), False, True, State(next_at=NOON - HOUR)),  # what was missed stays
        (State(next_at=NOON - HOUR), False, False, State(next_at=NOON + HOUR)),
        (State(next_at=NOON - HOUR), True, True, State(DisabledBy.FLOW)),
        (State(DisabledBy.FLOW), False, True, State(next_at=NOON + HOUR)),
        (State(DisabledBy.OPERATOR), False, True, State(DisabledBy.OPERATOR)),
        (State(DisabledBy.OPERATOR), True, True, State(DisabledBy.OPERATOR)),
        (State(DisabledBy.STOP_AFTER), False, False, State(DisabledBy.STOP_AFTER)),
    ],
)
def test_another_revision(before: State | None, says_disabled: bool, same: bool, after: State) -> None:
    assert renewed(before, HOURLY, same_times=same, disabled=says_disabled, now=NOON) == after


def test_a_backfill_starts_its_window_a_few_at_a_time_beside_the_ticks() -> None:
    backfill = begin_backfill(HOURLY, None, NOON - 25 * HOUR, NOON)
    state, found = State(next_at=NOON, backfill=backfill), []
    looked = look(HOURLY, Missed.ALL, state, NOON)
    assert times(looked) == [NOON] and len(times(looked, 1)) == BACKFILL_TICKS
    assert looked.due_at == NOON + BACKFILL_PAUSE
    now = NOON - 9 * SECOND
    while state.backfill is not None and not state.backfill.over:
        looked = look(HOURLY, Missed.ALL, state, now)
        found += times(looked, 1)
        state = looked.state
        other = look(HOURLY, Missed.ALL, state, now)  # for another reason
        assert other.ticks == () and other.state == state
        assert look(HOURLY, Missed.ALL, state, now - HOUR).ticks or state.backfill is None or state.backfill.over
        now += SECOND
    assert found == [NOON - number * HOUR for number in range(25, 0, -1)]
    assert state.backfill is not None and (state.backfill.state, state.backfill.fired) == (BackfillState.DONE, 25)
    assert look(HOURLY, Missed.ALL, state, NOON - SECOND) == Looked((), state, NOON)
    again = begin_backfill(HOURLY, state.backfill, NOON - HOUR, NOON)
    assert (again.number, again.next_at, again.fired) == (2, NOON - HOUR, 0)


def test_a_window_without_a_tick_is_done() -> None:
    assert begin_backfill(HOURLY, None, NOON + SECOND, NOON + HOUR).state is BackfillState.DONE
    assert begin_backfill(HOURLY, None, NOON, NOON + SECOND).next_at == NOON


def test_a_backfill_is_paused_goes_on_and_is_ended_for_good() -> None:
    state = State(next_at=NOON, backfill=begin_backfill(HOURLY, None, NOON - 25 * HOUR, NOON))
    paused = backfill_becomes(state, BackfillState.PAUSED)
    assert look(HOURLY, Missed.ALL, paused, NOON - SECOND).ticks == ()
    assert backfill_becomes(paused, BackfillState.RUNNING) == state
    ended = backfill_becomes(paused, BackfillState.CANCELLED)
    assert ended.backfill is not None and ended.backfill.next_at is None
    assert backfill_becomes(ended, BackfillState.RUNNING) == ended
    assert backfill_becomes(State(), BackfillState.PAUSED) == State()


def test_the_time_before_is_the_last_one_that_fired_or_the_calendars() -> None:
    assert previous(HOURLY, NOON - HOUR, NOON) == NOON - HOUR
    assert previous(HOURLY, NOON - 9 * HOUR, NOON) == previous(HOURLY, None, NOON) == NOON - HOUR
