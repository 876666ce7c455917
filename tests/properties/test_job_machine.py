"""The job's table holds under every sequence of events: P1, P3, P4, P9 as far as one job can show them."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from farhand.kernel.resolution import Fallback
from farhand.scheduler.core.job import (
    FINAL,
    HELD,
    TABLE,
    Assign,
    End,
    Event,
    Forbid,
    IllegalStep,
    Job,
    JobState,
    Kill,
    Lose,
    Overdue,
    Return,
    Start,
    Unavailable,
    Verdict,
    step,
)

ENDS = [JobState.SUCCESS, JobState.WARNING, JobState.FAILED, JobState.KILLED]
EVENTS = [Assign, Start, End, Lose, Return, Kill, Unavailable, Forbid, Overdue]


class JobMachine(RuleBasedStateMachine):
    """Any events in any order, with fences of the past, the present and the future."""

    def __init__(self) -> None:
        super().__init__()
        self.job = Job()
        self.highest = 0
        self.final: Job | None = None
        self.killed = False
        self.lost = 0

    def apply(self, event: Event) -> Verdict:
        self.job, verdict = step(self.job, event)
        if self.job.state in FINAL and self.final is None:
            self.final = self.job
        return verdict

    def fence(self, offset: int) -> int:
        return max(0, self.highest - offset)

    @rule(fallback=st.sampled_from(Fallback), most=st.integers(1, 4))
    @precondition(lambda self: self.highest == 0 and self.job.state is JobState.CREATED)
    def another_job(self, fallback: Fallback, most: int) -> None:
        self.job = Job(fallback=fallback, max_deliveries=most)

    @rule()
    @precondition(lambda self: self.job.state is JobState.CREATED)
    def assign(self) -> None:
        self.highest += 1
        self.apply(Assign(self.highest))

    @rule(offset=st.integers(0, 3))
    def start(self, offset: int) -> None:
        self.apply(Start(self.fence(offset)))

    @rule(offset=st.integers(0, 3), state=st.sampled_from(ENDS))
    def end(self, offset: int, state: JobState) -> None:
        before, fence = self.job, self.fence(offset)
        verdict = self.apply(End(fence, state))
        if verdict is Verdict.RECORDED:
            assert before.state in HELD and fence == self.highest
            assert self.job.state is (JobState.KILLED if self.killed else state)
        else:
            assert self.job == before  # P4: a stale fence changes nothing

    @rule(offset=st.integers(0, 3))
    def lose(self, offset: int) -> None:
        if self.apply(Lose(self.fence(offset))) is Verdict.DONE:
            self.lost += 1

    @rule(offset=st.integers(0, 3))
    def hand_back(self, offset: int) -> None:
        self.apply(Return(self.fence(offset)))

    @rule()
    def kill(self) -> None:
        self.apply(Kill())
        self.killed = self.killed or self.job.state not in FINAL or self.job.state is JobState.KILLED

    @rule()
    def group_becomes_unavailable(self) -> None:
        self.apply(Unavailable())

    @rule()
    def tenant_is_forbidden(self) -> None:
        self.apply(Forbid())

    @rule()
    def waits_too_long(self) -> None:
        self.apply(Overdue())

    @invariant()
    def terminal_never_changes(self) -> None:
        assert self.final is None or self.job == self.final  # P3

    @invariant()
    def a_kill_never_comes_back_to_the_queue(self) -> None:
        if self.killed:
            assert self.job.state in {JobState.KILLING, *FINAL}

    @invariant()
    def deliveries_are_bounded(self) -> None:
        assert self.job.lost == self.lost <= self.job.max_deliveries
        if self.job.state in HELD:
            assert self.job.fence == self.highest and self.job.lost < self.job.max_deliveries


TestJobMachine = JobMachine.TestCase


def test_every_state_says_what_becomes_of_every_event() -> None:
    missing = {(state, event) for state in JobState for event in EVENTS} - TABLE.keys()
    assert missing == {(state, Assign) for state in JobState if state is not JobState.CREATED}


def test_a_fence_that_does_not_grow_is_illegal() -> None:
    job, _ = step(Job(), Assign(7))
    job, _ = step(job, Return(7))
    assert job == Job()
    with pytest.raises(IllegalStep):
        step(Job(fence=7), Assign(7))


def test_an_assigned_job_is_not_assigned_again() -> None:
    job, _ = step(Job(), Assign(1))
    with pytest.raises(IllegalStep):
        step(job, Assign(2))
