"""The warden's table of runs: what may start, what is due, and what an end is worth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farhand.worker.warden.run_table import TRANSITIONS, Effect, Event, IllegalEvent, RunTable, State, step

NOW = 1000.0


def a_table(*runs: str, deadline: float = NOW + 60) -> RunTable:
    """A table that holds these runs, all RUNNING."""
    table = RunTable()
    table.set_deadline(deadline)
    for run in runs:
        assert table.admit(run, NOW) == ""
        assert list(table.happened(run, Event.STARTED)) == [(Effect.TELL_STARTED, run)]
    return table


# ── one row each ──


def test_every_pair_of_state_and_event_has_a_row_or_is_illegal() -> None:
    illegal = {(state, event) for state in State for event in Event if (state, event) not in TRANSITIONS}
    assert illegal == {
        *((State.GONE, event) for event in Event),
        (State.RUNNING, Event.STARTED),
        (State.RUNNING, Event.FAILED),
    }
    for state, event in illegal:
        with pytest.raises(IllegalEvent):
            step(state, event)


def test_a_fenced_run_stays_fenced_to_its_end() -> None:
    assert {after for (state, _), (after, _) in TRANSITIONS.items() if state is State.FENCED} == {
        State.FENCED,
        State.GONE,
    }
    assert step(State.FENCED, Event.ENDED) == (State.GONE, (Effect.TELL_FENCED,))


def test_the_fence_kills_in_every_state_in_which_nothing_was_killed_yet() -> None:
    for state in (State.STARTING, State.RUNNING, State.ENDING):
        assert step(state, Event.FENCE) == (State.FENCED, (Effect.KILL,))
    assert step(State.KILLED, Event.FENCE) == (State.FENCED, ())


def test_sigterm_is_sent_at_most_once_on_every_way_through_the_table() -> None:
    for (state, _), (after, effects) in TRANSITIONS.items():
        if Effect.TERMINATE in effects:
            assert (state in (State.STARTING, State.RUNNING), after) == (True, State.ENDING)
        if state is State.ENDING:
            assert after not in (State.STARTING, State.RUNNING)


# ── what may start ──


def test_nothing_may_run_before_the_first_deadline() -> None:
    table = RunTable()
    assert table.admit("a", NOW) == "no lease is held yet"
    assert len(table) == 0


def test_nothing_may_run_at_the_deadline_or_after_it() -> None:
    table = a_table(deadline=NOW + 5)
    assert table.admit("a", NOW + 4.999) == ""
    assert table.admit("b", NOW + 5) == "the lease's deadline has passed"
    table.set_deadline(NOW + 10)
    assert table.admit("b", NOW + 5) == ""


def test_nothing_may_run_when_the_worker_is_gone() -> None:
    table = a_table("a")
    assert list(table.abandon()) == [(Effect.KILL, "a")]
    assert table.admit("b", NOW) == "the worker is gone"


def test_a_run_does_not_start_twice() -> None:
    with pytest.raises(IllegalEvent):
        a_table("a").admit("a", NOW)


# ── what is due ──


def test_the_deadline_kills_all_runs_once_and_their_ends_are_no_results() -> None:
    table = a_table("a", "b", deadline=NOW + 5)
    assert table.next_due() == NOW + 5
    assert list(table.due(NOW + 4.999)) == []
    assert list(table.due(NOW + 5)) == [(Effect.KILL, "a"), (Effect.KILL, "b")]
    assert table.next_due() is None
    assert list(table.due(NOW + 6)) == []
    assert list(table.happened("a", Event.ENDED)) == [(Effect.TELL_FENCED, "a")]


def test_a_later_deadline_does_not_take_the_fence_back() -> None:
    table = a_table("a", deadline=NOW + 5)
    list(table.due(NOW + 5))
    table.set_deadline(NOW + 100)
    assert list(table.happened("a", Event.ENDED)) == [(Effect.TELL_FENCED, "a")]


def test_the_deadline_never_moves_back() -> None:
    table = a_table("a", deadline=NOW + 5)
    table.set_deadline(NOW + 1)
    assert table.next_due() == NOW + 5


def test_an_idle_table_waits_for_nothing() -> None:
    assert a_table().next_due() is None


def test_a_grace_ends_in_a_kill() -> None:
    table = a_table("a", "b")
    assert list(table.ask_kill("a", NOW, 3)) == [(Effect.TERMINATE, "a")]
    assert table.next_due() == NOW + 3
    assert list(table.due(NOW + 3)) == [(Effect.KILL, "a")]
    assert table.next_due() == NOW + 60
    assert list(table.happened("a", Event.ENDED)) == [(Effect.TELL_ENDED, "a")]
    assert table.state("b") is State.RUNNING


def test_of_two_graces_the_earlier_end_counts() -> None:
    for graces in ((30, 3), (3, 30)):
        table = a_table("a")
        assert [effect for grace in graces for effect, _ in table.ask_kill("a", NOW, grace)] == [Effect.TERMINATE]
        assert table.next_due() == NOW + 3


def test_no_grace_is_a_kill_at_once() -> None:
    table = a_table("a")
    assert list(table.ask_kill("a", NOW, 0)) == [(Effect.KILL, "a")]


def test_a_kill_of_a_run_that_is_gone_is_nothing() -> None:
    table = a_table("a")
    list(table.happened("a", Event.ENDED))
    assert list(table.ask_kill("a", NOW, 3)) == []
    assert "a" not in table
    assert table.state("a") is State.GONE


# ── whatever happens ──


@given(st.data())
def test_in_any_story_no_run_outlives_the_deadline_unkilled(data: st.DataObject) -> None:
    """Runs start, end, are killed, leases are renewed, in any order: the promise of the warden, in its pure part."""
    table, now, deadline = RunTable(), NOW, 0.0
    started = 0
    alive: dict[str, bool] = {}  # run → KILL was ordered
    fenced: set[str] = set()

    def obey(effects: list[tuple[Effect, str]]) -> None:
        for effect, run in effects:
            assert run in alive
            if effect is Effect.KILL:
                assert not alive[run], "killed twice"
                alive[run] = True
            if effect is Effect.TERMINATE:
                assert not alive[run]
            if effect in (Effect.TELL_ENDED, Effect.TELL_FENCED):
                assert (effect is Effect.TELL_FENCED) == (run in fenced)

    for _ in range(data.draw(st.integers(1, 40))):
        action = data.draw(st.sampled_from(["renew", "start", "kill", "end", "wait"]))
        if action == "renew":
            at = now + data.draw(st.floats(0, 10))
            table.set_deadline(at)
            deadline = max(deadline, at)
        elif action == "start":
            started += 1
            refused = table.admit(f"r{started}", now)
            assert bool(refused) == (now >= deadline)
            if not refused:
                alive[f"r{started}"] = False
                obey(list(table.happened(f"r{started}", Event.STARTED)))
        elif action == "wait":
            now += data.draw(st.floats(0, 8))
        elif alive:
            run = data.draw(st.sampled_from(sorted(alive)))
            if action == "kill":
                obey(list(table.ask_kill(run, now, data.draw(st.sampled_from([0, 2, 20])))))
            else:
                obey(list(table.happened(run, Event.ENDED)))
                del alive[run]
        if now >= deadline:
            fenced |= alive.keys()
        obey(list(table.due(now)))
        assert all(killed for run, killed in alive.items() if now >= deadline)
        due = table.next_due()
        assert due is None or due > now
