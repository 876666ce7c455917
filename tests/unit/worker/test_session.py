"""The worker's view of one stream."""

import pytest

from farhand.worker.core.lease import Lease
from farhand.worker.core.session import TRANSITIONS, IllegalFrame, Session, SessionEvent, SessionState


def a_session(*, draining: bool = False, welcomed: bool = True) -> Session:
    session = Session(Lease(), hello_sent=100.0, draining=draining)
    if welcomed:
        session.welcomed(epoch=7, lease=60.0, heartbeat_interval=10.0)
    return session


def test_the_lease_counts_from_hello() -> None:
    assert a_session().lease.deadline == 154.0


def test_an_answered_heartbeat_renews_from_when_it_was_sent() -> None:
    session = a_session()
    beat = session.beat(now=110.0)
    assert (beat.sequence, beat.answered_sequence, beat.lease) == (1, 0, 60.0)
    assert session.beat_answered(1, 60.0, 10.0)
    assert session.lease.deadline == 164.0
    assert session.beat(now=120.0).answered_sequence == 1


def test_an_unanswered_heartbeat_renews_nothing() -> None:
    session = a_session()
    session.beat(now=110.0)
    assert session.lease.deadline == 154.0


def test_an_answer_to_a_heartbeat_that_was_never_sent_renews_nothing() -> None:
    session = a_session()
    assert not session.beat_answered(5, 3600.0, 10.0)
    assert session.lease.deadline == 154.0


def test_an_answer_that_came_twice_counts_once() -> None:
    session = a_session()
    session.beat(now=110.0)
    session.beat_answered(1, 60.0, 10.0)
    assert not session.beat_answered(1, 3600.0, 10.0)


def test_a_later_answer_stands_for_the_earlier() -> None:
    session = a_session()
    for now in (110.0, 120.0):
        session.beat(now)
    assert session.silent
    session.beat_answered(2, 60.0, 10.0)
    assert not session.silent
    assert not session.beat_answered(1, 60.0, 10.0)


def test_one_unanswered_heartbeat_is_patience_two_are_silence() -> None:
    session = a_session()
    session.beat(now=110.0)
    assert not session.silent
    session.beat(now=120.0)
    assert session.silent


def test_assignments_of_an_older_epoch_are_dropped() -> None:
    session = a_session()
    assert not session.admits(epoch=6)
    assert session.admits(epoch=7)


def test_assignments_before_welcome_break_the_protocol() -> None:
    with pytest.raises(IllegalFrame):
        a_session(welcomed=False).admits(epoch=0)


def test_an_assignment_that_was_under_way_may_follow_draining_but_none_follows_its_acknowledgement() -> None:
    session = a_session()
    session.drain_sent()
    assert session.admits(epoch=7)
    assert session.drain_acked(epoch=7)
    with pytest.raises(IllegalFrame):
        session.admits(epoch=7)


def test_a_drain_that_an_operator_asked_for_may_be_acknowledged_before_it_is_answered() -> None:
    session = a_session()
    assert session.drain_acked(epoch=7)
    session.drain_sent()
    with pytest.raises(IllegalFrame):
        session.admits(epoch=7)


def test_the_drain_acknowledgement_of_another_session_means_nothing() -> None:
    session = a_session()
    session.drain_sent()
    assert not session.drain_acked(epoch=6)
    assert session.state is SessionState.DRAINING


def test_who_said_hello_draining_drains_from_welcome_on() -> None:
    session = a_session(draining=True)
    assert session.state is SessionState.DRAINING
    assert session.drain_acked(epoch=7)


def test_a_second_welcome_breaks_the_protocol_and_changes_nothing() -> None:
    session = a_session()
    with pytest.raises(IllegalFrame):
        session.welcomed(epoch=8, lease=3600.0, heartbeat_interval=10.0)
    assert (session.epoch, session.lease.duration) == (7, 60.0)


def test_what_comes_after_goodbye_is_not_run() -> None:
    session = a_session()
    session.goodbye_sent()
    assert not session.admits(epoch=7)


def test_a_session_can_end_from_every_state() -> None:
    for state in SessionState:
        assert TRANSITIONS[state, SessionEvent.ENDED] is SessionState.OVER
