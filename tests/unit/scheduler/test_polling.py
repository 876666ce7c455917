"""The table of polling triggers, row by row."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from farhand.scheduler.core.job import JobState
from farhand.scheduler.core.polling import (
    LARGEST_STATE,
    LOOK_AFTER,
    Act,
    Evaluation,
    Polled,
    Polling,
    Unreadable,
    poll,
    read_seen,
    refused,
)
from farhand.scheduler.core.trigger import DisabledBy, Result, State, stopped

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
RULES = Polling(MINUTE)
BEGUN = State(next_at=NOW + MINUTE, last_at=NOW)  # an evaluation began now
LATER = NOW + timedelta(seconds=10)
FIRED = {"fired": True, "variables": {"a": 1}, "state": {"s": 1}, "message": "one"}


def after(evaluation: Evaluation, state: State = BEGUN, at: datetime = LATER, **rules: Any) -> Polled:
    return poll(Polling(MINUTE, **rules), state, evaluation, False, at)


def test_one_whose_time_has_come_is_evaluated_and_comes_again_an_interval_later() -> None:
    for state in (State(), State(next_at=NOW), State(next_at=NOW - MINUTE), State(next_at=LATER, asked_at=NOW)):
        polled = poll(RULES, state, None, False, NOW)
        assert (polled.act, polled.state) == (Act.EVALUATE, BEGUN)
        assert polled.due_at == NOW + LOOK_AFTER and polled.result is None


def test_one_whose_time_has_not_come_does_nothing_until_then() -> None:
    polled = poll(RULES, State(next_at=LATER), None, False, NOW)
    assert (polled.act, polled.due_at, polled.result) == (Act.NOTHING, LATER, None)


def test_a_disabled_one_has_no_next_time() -> None:
    polled = poll(RULES, State(DisabledBy.OPERATOR, NOW, asked_at=NOW), None, False, NOW)
    assert polled == Polled(Act.NOTHING, State(DisabledBy.OPERATOR), None)


def test_none_begins_while_its_last_execution_runs_unless_that_is_allowed() -> None:
    due = State(next_at=NOW)
    polled = poll(RULES, due, None, True, NOW)
    assert (polled.act, polled.state.next_at, polled.due_at) == (Act.NOTHING, NOW, NOW + MINUTE)
    assert (polled.result, polled.message) == (Result.SKIPPED, "Its last execution still runs.") and not polled.loud
    assert poll(Polling(MINUTE, allow_concurrent=True), due, None, True, NOW).act is Act.EVALUATE


@pytest.mark.parametrize("job", [JobState.CREATED, JobState.ASSIGNED, JobState.RUNNING, JobState.KILLING])
def test_while_one_waits_or_runs_no_other_begins_also_when_somebody_asks(job: JobState) -> None:
    state = State(next_at=NOW - MINUTE, last_at=NOW - 2 * MINUTE, asked_at=NOW)
    polled = poll(RULES, state, Evaluation(job), False, NOW)
    assert (polled.act, polled.over, polled.due_at) == (Act.NOTHING, False, NOW + LOOK_AFTER)
    assert polled.state == State(next_at=NOW - MINUTE, last_at=NOW - 2 * MINUTE)


@pytest.mark.parametrize("job", [JobState.CREATED, JobState.ASSIGNED, JobState.RUNNING])
def test_one_of_a_trigger_that_was_disabled_or_defined_otherwise_is_ended(job: JobState) -> None:
    assert after(Evaluation(job, stale=True)).act is Act.END
    assert after(Evaluation(job), State(DisabledBy.OPERATOR)).act is Act.END
    assert after(Evaluation(JobState.KILLING, stale=True)).act is Act.NOTHING


def test_one_waits_for_a_worker_as_long_as_it_may() -> None:
    limit = timedelta(seconds=20)
    begun = poll(Polling(MINUTE, wait_limit=limit), State(), None, False, NOW)
    assert begun.due_at == NOW + limit
    waits = Evaluation(JobState.CREATED)
    assert after(waits, wait_limit=limit).due_at == NOW + limit
    assert after(waits, at=NOW + limit, wait_limit=limit).act is Act.GIVE_UP
    assert after(Evaluation(JobState.RUNNING), at=NOW + limit, wait_limit=limit).act is Act.NOTHING


def test_what_fired_starts_an_execution_with_what_was_seen() -> None:
    polled = after(Evaluation(JobState.SUCCESS, outputs=FIRED))
    assert (polled.act, polled.over, polled.result, polled.message) == (Act.FIRE, True, Result.FIRED, "one")
    assert polled.seen is not None and (polled.seen.variables, polled.seen.state) == ({"a": 1}, '{"s": 1}')
    assert (polled.state, polled.due_at) == (BEGUN, NOW + MINUTE)


def test_what_did_not_fire_is_looked_at_again_an_interval_after_it_began_or_at_once_where_that_passed() -> None:
    nothing = Evaluation(JobState.SUCCESS, outputs={"fired": False})
    polled = after(nothing)
    assert (polled.act, polled.over, polled.result, polled.due_at) == (Act.NOTHING, True, Result.NOTHING, NOW + MINUTE)
    assert polled.seen is not None and polled.seen.state == "{}"
    assert after(nothing, at=NOW + 5 * MINUTE).due_at == NOW + 5 * MINUTE


@pytest.mark.parametrize(
    ("state", "reason", "message", "result", "told", "loud"),
    [
        ("FAILED", "GROUP_NOT_AVAILABLE", "no worker", Result.SKIPPED, "no worker", True),
        ("KILLED", "GROUP_NOT_AVAILABLE", "no worker", Result.SKIPPED, "no worker", False),
        ("FAILED", "GROUP_WAIT_TIMEOUT", "too long", Result.SKIPPED, "too long", True),
        ("KILLED", "KILLED", "", Result.SKIPPED, "Its evaluation was killed.", False),
        ("FAILED", "TIMEOUT", "it ran too long", Result.FAILED, "it ran too long (TIMEOUT)", True),
        ("FAILED", "WORKER_LOST", "gone", Result.FAILED, "gone (WORKER_LOST)", True),
        ("FAILED", "", "", Result.FAILED, "It failed, and its worker did not say why.", True),
        ("FAILED", "X", "a\0" + "b" * 5000, Result.FAILED, "a\ufffd" + "b" * 997 + "… (X)", True),
    ],
)
def test_whatever_ends_one_lets_go_of_the_trigger_and_is_told(
    state: str, reason: str, message: str, result: Result, told: str, loud: bool
) -> None:
    polled = after(Evaluation(JobState(state), reason, message))
    assert (polled.act, polled.over, polled.due_at) == (Act.NOTHING, True, NOW + MINUTE)
    assert (polled.result, polled.message, polled.loud, polled.seen) == (result, told, loud, None)


def test_one_that_is_nowhere_any_more_lets_go_of_the_trigger() -> None:
    polled = after(Evaluation(None))
    assert polled.over and polled.result is Result.FAILED and "nobody knows how it ended" in polled.message


def test_an_outcome_does_not_count_that_came_for_another_definition_and_the_next_evaluation_begins_at_once() -> None:
    polled = after(Evaluation(JobState.SUCCESS, outputs=FIRED, stale=True))
    assert (polled.act, polled.over, polled.seen) == (Act.EVALUATE, True, None)
    polled = after(Evaluation(JobState.SUCCESS, outputs=FIRED), State(DisabledBy.FLOW))
    assert (polled.act, polled.over, polled.seen, polled.due_at) == (Act.NOTHING, True, None, None)


@pytest.mark.parametrize(
    ("outputs", "why"),
    [
        (None, "The evaluation gave no `fired`: its type is no trigger's."),
        ({"value": "x"}, "The evaluation gave no `fired`: its type is no trigger's."),
        ({"fired": "yes"}, "The evaluation gave a string as `fired`: its type is no trigger's."),
        ({"fired": True, "variables": [1]}, "The evaluation gave a list as `variables`, which must be a map."),
        ({"fired": False, "state": "x"}, "The evaluation gave a string as `state`, which must be a map."),
        ({"fired": False, "state": {"a": "x" * LARGEST_STATE}}, "The evaluation gave a state of"),
    ],
)
def test_what_a_hostile_or_wrong_worker_says_is_an_error_on_the_trigger(outputs: Any, why: str) -> None:
    with pytest.raises(Unreadable, match="^" + why.split("`")[0]):
        read_seen(outputs)
    polled = after(Evaluation(JobState.SUCCESS, outputs=outputs))
    assert polled.over and polled.result is Result.FAILED and polled.message.startswith(why) and polled.loud


def test_what_cant_be_queued_is_tried_again_with_the_next_interval() -> None:
    polled = refused(BEGUN, RULES, "no such group", NOW)
    assert (polled.result, polled.message, polled.due_at) == (Result.FAILED, "no such group", NOW + MINUTE)
    assert polled.state.next_at == NOW + MINUTE and polled.loud


def test_the_end_of_an_execution_that_the_definition_names_disables_it() -> None:
    state = State(next_at=NOW)
    assert stopped(state, ["FAILED"], {"SUCCESS"}) is state
    assert stopped(state, ["FAILED"], {"SUCCESS", "FAILED"}) == State(DisabledBy.STOP_AFTER)
    by_operator = State(DisabledBy.OPERATOR)
    assert stopped(by_operator, ["FAILED"], {"FAILED"}) is by_operator
