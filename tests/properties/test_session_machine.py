"""The session's table, and the lease rules, hold under every sequence of events."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from farhand.scheduler.core.lease import LeaseTerms, LeaseWatch, Renewal, heartbeat_interval
from farhand.scheduler.core.session import (
    TABLE,
    IllegalSessionStep,
    Session,
    SessionEvent,
    SessionState,
    step,
)


@given(st.lists(st.sampled_from(SessionEvent)))
def test_a_session_that_drains_never_takes_jobs_again(events: list[SessionEvent]) -> None:
    session, drained = Session(), False
    for event in events:
        if (session.state, event) not in TABLE:
            with pytest.raises(IllegalSessionStep):
                step(session, event)
            continue
        session = step(session, event)
        drained = drained or event is SessionEvent.DRAIN
        assert session.draining == drained
        assert not (drained and session.state is SessionState.CONNECTED)  # P8


def test_a_stopped_session_does_not_come_back() -> None:
    with pytest.raises(IllegalSessionStep):
        step(Session(SessionState.STOPPED), SessionEvent.CONNECT)


def test_a_lost_session_may_come_back() -> None:
    assert step(Session(SessionState.LOST), SessionEvent.CONNECT).state is SessionState.CONNECTED


def test_a_session_expires_only_after_standing_still_for_a_whole_lease() -> None:
    watch, row = LeaseWatch(), Renewal(1, 1, 5, lease=10.0)
    assert watch.observe([row], now=100.0) == []
    assert watch.observe([row], now=109.9) == []
    assert watch.observe([row], now=110.0) == [row]


def test_a_renewal_or_a_new_epoch_starts_the_lease_anew() -> None:
    watch = LeaseWatch()
    watch.observe([Renewal(1, 1, 5, 10.0)], now=0.0)
    assert watch.observe([Renewal(1, 1, 6, 10.0)], now=9.0) == []
    assert watch.observe([Renewal(1, 2, 6, 10.0)], now=18.0) == []
    assert watch.observe([Renewal(1, 2, 6, 10.0)], now=27.9) == []
    assert len(watch.observe([Renewal(1, 2, 6, 10.0)], now=28.0)) == 1


def test_a_restarted_scheduler_waits_one_lease() -> None:
    row = Renewal(1, 1, 5, lease=10.0)
    LeaseWatch().observe([row], now=0.0)
    assert LeaseWatch().observe([row], now=1000.0) == []


def test_heartbeats_come_six_times_a_lease_and_at_least_every_ten_seconds() -> None:
    assert heartbeat_interval(30.0) == 5.0
    assert heartbeat_interval(3600.0) == 10.0


class LeaseTermsMachine(RuleBasedStateMachine):
    """A worker and the scheduler exchange heartbeats over a stream that may stop delivering at any moment: the
    worker never counts with a longer lease than the database holds."""

    def __init__(self) -> None:
        super().__init__()
        self.terms = LeaseTerms(0)
        self.counts = 0
        self.applied = 0
        self.sequence = 0
        self.stored = self.terms.offer(0, 10)
        self.to_scheduler: list[tuple[int, int, int]] = []
        self.to_worker: list[tuple[int, int]] = [(0, 10)]

    @rule()
    @precondition(lambda self: self.counts)  # the first heartbeat follows welcome, which answers hello (sequence 0)
    def worker_sends(self) -> None:
        self.sequence += 1
        self.to_scheduler.append((self.sequence, self.applied, self.counts))

    @rule(wanted=st.integers(1, 20))
    def scheduler_answers(self, wanted: int) -> None:
        if self.to_scheduler:
            sequence, applied, counts = self.to_scheduler.pop(0)
            self.terms.heard(applied, counts)
            self.stored = self.terms.offer(sequence, wanted)
            self.to_worker.append((sequence, wanted))

    @rule()
    def worker_receives(self) -> None:
        if self.to_worker:
            self.applied, self.counts = self.to_worker.pop(0)

    @invariant()
    def the_database_never_holds_less(self) -> None:
        in_flight = [lease for _, lease in self.to_worker]
        assert self.stored >= max([self.counts, *in_flight], default=0)


TestLeaseTermsMachine = LeaseTermsMachine.TestCase
