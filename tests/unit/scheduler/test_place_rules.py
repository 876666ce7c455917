"""What becomes of an execution that comes to a flow with `concurrency`, and what it says."""

from datetime import UTC, datetime

import pytest

from farhand.kernel.flow import Behavior
from farhand.scheduler.core.execution import Execution, ExecutionState, Move
from farhand.scheduler.core.execution_step import step
from farhand.scheduler.core.places import Entry, Limit, enter, limit_of, why_not, why_waiting
from tests.fixtures.scheduler_with_flows import a_flow, flow_of, noop

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.mark.parametrize(
    ("most", "taken", "waits", "behavior", "entry"),
    [
        (None, 1000, False, Behavior.FAIL, Entry.BEGINS),
        (2, 1, False, Behavior.QUEUE, Entry.BEGINS),
        (2, 2, False, Behavior.QUEUE, Entry.WAITS),
        (2, 1, True, Behavior.QUEUE, Entry.WAITS),  # it does not overtake
        (2, 3, False, Behavior.QUEUE, Entry.WAITS),  # the limit was lowered
        (2, 2, False, Behavior.FAIL, Entry.FAILS),
        (2, 2, False, Behavior.CANCEL, Entry.CANCELLED),
        (2, 1, False, Behavior.CANCEL, Entry.BEGINS),
    ],
)
def test_what_becomes_of_one_that_comes(
    most: int | None, taken: int, waits: bool, behavior: Behavior, entry: Entry
) -> None:
    assert enter(Limit(1, most, behavior), taken=taken, waits=waits) is entry


def test_the_limit_is_what_the_flow_says() -> None:
    bound = flow_of(a_flow(noop("a"), more="concurrency: {limit: 3}\n"))
    assert limit_of(bound, 7) == Limit(7, 3, Behavior.QUEUE)
    assert limit_of(flow_of(a_flow(noop("a"))), 7).most is None


def test_it_says_why_it_waits_or_ended() -> None:
    limit = Limit(1, 2, Behavior.FAIL)
    says = "It waits for its turn: its flow allows 2 executions at a time (concurrency.limit), and "
    assert why_waiting(limit, 0) == says + "it is the next to begin."
    assert why_waiting(limit, 1) == says + "1 waits before it."
    assert why_waiting(limit, 1200) == says + "1,200 wait before it."
    assert why_not(limit, 2) == (
        "Its flow allows 2 executions at a time (concurrency.limit), 2 run, and its concurrency.behavior is FAIL."
    )


def test_nothing_follows_for_one_that_waits_but_a_kill() -> None:
    flow = flow_of(a_flow(noop("a")))
    assert step(flow, Execution(waits=True), {}, now=NOW) == []
    assert step(flow, Execution(waits=False), {}, now=NOW) != []
    killed = step(flow, Execution(waits=True, kill_at=NOW), {}, now=NOW)
    assert killed == [Move(ExecutionState.KILLED, "A kill was asked for while it waited for its turn.")]
