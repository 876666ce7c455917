"""What a restart and a replay take over, told by example, and what is refused."""

import pytest

from farhand.kernel.errors import FarhandError, InvalidArgument, NotReplayable
from farhand.scheduler.core.flow_outline import outline
from farhand.scheduler.core.takeover import OldRun, replay, restart
from farhand.scheduler.core.task_run import RunId, RunState
from tests.fixtures.execution_play import a_flow

FLOW = a_flow(
    """
    tasks:
      - {id: first}
      - id: both
        type: Parallel
        tasks: [{id: left}, {id: right}]
      - id: choice
        type: If
        condition: x
        then: [{id: one}, {id: two}]
      - {id: last}
    errors:
      - {id: sorry}
    """
)
PLACES = outline(FLOW)


def runs(**states: str) -> list[OldRun]:
    """By task; "FAILED then" is an If that chose."""
    found = []
    for task, told in states.items():
        for attempt, state in enumerate(told.split(", "), 1):
            word, _, branch = state.partition(" ")
            found.append(OldRun(RunId(task, attempt=attempt), RunState(word), bool(branch)))
    return found


def names(ids: frozenset[RunId]) -> list[str]:
    return sorted(f"{id.task_id}#{id.attempt}" if id.attempt > 1 else id.task_id for id in ids)


def test_a_restart_takes_what_ended_well_with_all_its_attempts() -> None:
    over = restart(
        PLACES,
        runs(first="FAILED, SUCCESS", both="FAILED", left="WARNING", right="FAILED, FAILED", sorry="SUCCESS"),
    )
    assert names(over.as_ended) == ["first", "first#2", "left"]
    assert names(over.go_on) == []  # a Parallel begins anew: what is inside is there


def test_a_restart_goes_on_in_the_branch_that_was_chosen() -> None:
    over = restart(
        PLACES,
        runs(
            first="SUCCESS",
            both="WARNING",
            left="FAILED",
            right="SUCCESS",
            choice="FAILED then",
            one="SUCCESS",
            two="FAILED",
        ),
    )
    assert names(over.as_ended) == ["both", "first", "left", "one", "right"]  # the failure in `both` was allowed
    assert names(over.go_on) == ["choice"]
    assert names(restart(PLACES, runs(first="SUCCESS", both="SKIPPED", choice="FAILED")).go_on) == []


def test_a_restart_of_what_never_began_takes_nothing() -> None:
    over = restart(PLACES, [])
    assert (over.as_ended, over.go_on) == (frozenset(), frozenset())


def test_a_replay_takes_what_stands_before_and_nothing_else() -> None:
    old = runs(
        first="SUCCESS",
        both="WARNING",
        left="FAILED",
        right="SUCCESS",
        choice="SUCCESS then",
        one="SUCCESS",
        two="SUCCESS",
        last="FAILED",
        sorry="SUCCESS",
    )
    assert names(replay(FLOW, PLACES, old, "choice", "x1").as_ended) == ["both", "first", "left", "right"]
    assert names(replay(FLOW, PLACES, old, "first", "x1").as_ended) == []
    gone = a_flow("tasks: [{id: first}, {id: choice}]")
    assert names(replay(gone, outline(gone), old, "choice", "x1").as_ended) == ["first"]


@pytest.mark.parametrize(
    ("task", "error", "says"),
    [
        ("lsat", InvalidArgument, "from_task_id: the flow has no task 'lsat'. Did you mean 'last'?"),
        ("one", InvalidArgument, "'one' stands inside of 'choice'; a replay begins with that, or with another task of"),
        ("sorry", InvalidArgument, "'sorry' is one of the tasks that run upon failure"),
        (
            "last",
            NotReplayable,
            "Task 'both', which stands before 'last', ended FAILED in execution x1, so there is nothing of it to take "
            "over. Replay from 'both' or from before it.",
        ),
    ],
)
def test_what_a_replay_refuses_and_why(task: str, error: type[FarhandError], says: str) -> None:
    with pytest.raises(error) as raised:
        replay(FLOW, PLACES, runs(first="SUCCESS", both="FAILED"), task, "x1")
    assert says in raised.value.message


def test_a_task_that_the_new_revision_leaves_out_stands_before_nothing() -> None:
    left_out = a_flow("tasks: [{id: new, disabled: true}, {id: first}, {id: last}]")
    assert names(replay(left_out, outline(left_out), runs(first="SUCCESS"), "last", "x1").as_ended) == ["first"]
    added = a_flow("tasks: [{id: new}, {id: first}, {id: last}]")
    with pytest.raises(NotReplayable, match="'new', which stands before 'last', did not run in execution x1"):
        replay(added, outline(added), runs(first="SUCCESS"), "last", "x1")
