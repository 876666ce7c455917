"""What a worker holds: the table's stories, one by one. The whole machine: tests/properties/test_slots_machine.py."""

import pytest

from farhand.worker.core.slots import Effect, Event, IllegalStep, JobKey, Phase, Slots

JOB: JobKey = ("job-1", 1)


def a_worker(slots: int = 2) -> Slots:
    worker = Slots(slots)
    worker.welcomed = True
    return worker


def running(key: JobKey = JOB, slots: int = 2) -> Slots:
    worker = a_worker(slots)
    worker.receive([key])
    assert worker.start() == [key]
    return worker


def test_the_credit_is_the_free_slots_and_what_was_received() -> None:
    worker = a_worker(slots=3)
    assert worker.credit() == 3
    worker.receive([("a", 1), ("b", 2)])
    assert worker.credit() == 3
    worker.start()
    worker.apply(("a", 1), Event.ENDED)
    assert worker.credit() == 4


def test_there_is_no_credit_before_the_verdicts() -> None:
    worker = Slots(3)
    assert worker.credit() == 0


def test_kept_jobs_take_their_slots_and_dont_count_again() -> None:
    worker = running()
    worker.redial()
    assert worker.credit() == 0
    worker.apply(JOB, Event.KEEP)
    worker.welcomed = True
    assert worker.credit() == 1


@pytest.mark.parametrize("why", ["draining", "pressure"])
def test_credit_does_not_rise_while(why: str) -> None:
    worker = running(slots=1)
    assert worker.credit() == 1
    setattr(worker, why, True)
    worker.apply(JOB, Event.ENDED)
    assert worker.credit() == 1


def test_credit_does_not_rise_with_too_many_results_unsettled() -> None:
    worker = Slots(1, finished=[(f"job-{n}", 1) for n in range(1002)])
    worker.welcomed = True
    assert worker.credit() == 0
    worker.apply(("job-0", 1), Event.SETTLED)
    assert worker.credit() == 1


def test_a_cancel_before_its_assignment_is_remembered() -> None:
    worker = a_worker()
    assert worker.cancel(JOB) == ()
    received = worker.receive([JOB])
    assert (received.fresh, received.cancelled) == ([], [JOB])
    assert worker.start() == []
    assert worker.apply(JOB, Event.ENDED) == (Effect.SEND,)


def test_a_remembered_cancel_does_not_stop_a_later_assignment_of_the_job() -> None:
    worker = a_worker()
    worker.cancel(("job-1", 1))
    assert worker.receive([("job-1", 2)]).fresh == [("job-1", 2)]


def test_a_new_session_forgets_cancels_since_what_they_were_for_would_be_dropped() -> None:
    worker = a_worker()
    worker.cancel(JOB)
    worker.redial()
    worker.welcomed = True
    assert worker.receive([JOB]).fresh == [JOB]


def test_a_cancel_of_what_waits_concludes_it_and_of_what_runs_kills_it() -> None:
    worker = a_worker()
    worker.receive([JOB])
    assert worker.cancel(JOB) == (Effect.CONCLUDE_KILLED,)
    assert worker.start() == []
    other = running()
    assert other.cancel(JOB) == (Effect.KILL,)


def test_an_assignment_that_comes_twice_is_held_once() -> None:
    worker = running()
    assert worker.receive([JOB]).fresh == []
    assert worker.busy == 1


def test_an_older_assignment_of_a_held_job_is_dropped() -> None:
    worker = running(("job-1", 5))
    assert worker.receive([("job-1", 4)]).dropped == [("job-1", 4)]


def test_a_newer_assignment_ends_the_older_and_waits_for_its_death() -> None:
    worker = running(("job-1", 1))
    received = worker.receive([("job-1", 2)])
    assert received.superseded == [(("job-1", 1), (Effect.KILL_NOW,))]
    assert worker.start() == []
    worker.apply(("job-1", 1), Event.ENDED)
    assert worker.phase(("job-1", 1)) is None
    assert worker.start() == [("job-1", 2)]


def test_what_waits_for_an_older_run_of_its_job_holds_nobody_up() -> None:
    worker = running(("job-1", 1), slots=3)
    worker.receive([("job-1", 2), ("job-2", 3)])
    assert worker.start() == [("job-2", 3)]


def test_a_run_whose_lease_ran_out_has_no_result() -> None:
    worker = running()
    assert worker.apply(JOB, Event.EXPIRE) == (Effect.FENCE,)
    assert worker.apply(JOB, Event.FENCED) == (Effect.REPORT,)
    assert worker.inventory() == {JOB: Phase.SELF_FENCED}
    worker.apply(JOB, Event.STOP)
    assert worker.inventory() == {}


def test_a_run_that_ended_in_time_keeps_its_result_over_the_end_of_the_lease() -> None:
    worker = running()
    worker.apply(JOB, Event.EXPIRE)
    assert worker.apply(JOB, Event.ENDED) == (Effect.SEND,)
    finished = running()
    finished.apply(JOB, Event.ENDED)
    assert finished.apply(JOB, Event.EXPIRE) == ()
    assert finished.inventory() == {JOB: Phase.FINISHED}


def test_what_had_not_started_when_the_lease_ran_out_is_not_held_any_more() -> None:
    worker = a_worker()
    worker.receive([JOB])
    assert worker.apply(JOB, Event.EXPIRE) == (Effect.FORGET_ASSIGNMENT,)
    assert worker.start() == []


@pytest.mark.parametrize("event", [Event.KEEP, Event.RESEND])
def test_an_unsettled_result_is_sent_again(event: Event) -> None:
    worker = Slots(1, finished=[JOB])
    assert worker.apply(JOB, event) == (Effect.SEND,)


def test_only_a_settlement_or_the_verdict_stop_forgets_a_result() -> None:
    forgetting = {
        event
        for event in Event
        if event not in (Event.START, Event.ENDED, Event.FENCED)
        and Effect.FORGET_RESULT in Slots(1, finished=[JOB]).apply(JOB, event)
    }
    assert forgetting == {Event.SETTLED, Event.STOP}


def test_a_result_that_could_not_be_recorded_is_kept_and_sent_later() -> None:
    worker = Slots(1, finished=[JOB])
    assert worker.apply(JOB, Event.UNSETTLED) == (Effect.SEND_LATER,)
    assert worker.phase(JOB) is Phase.FINISHED


def test_a_drain_without_time_returns_what_waits_and_abandons_what_runs() -> None:
    worker = running(slots=1)
    worker.receive([("job-2", 2)])
    assert dict(worker.apply_to_all(Event.RETURN)) == {
        JOB: (Effect.KILL,),
        ("job-2", 2): (Effect.CONCLUDE_RETURNED,),
    }
    worker.apply(JOB, Event.ENDED)
    assert worker.phase(JOB) is Phase.ABANDONED
    assert worker.holding(Phase.STOPPING) == [("job-2", 2)]  # until it is concluded as returned


def test_what_does_not_fit_is_an_error_and_changes_nothing() -> None:
    worker = running()
    with pytest.raises(IllegalStep):
        worker.apply(JOB, Event.SETTLED)
    assert worker.phase(JOB) is Phase.RUNNING


def test_a_late_report_about_what_is_not_held_changes_nothing() -> None:
    worker = a_worker()
    assert worker.apply(JOB, Event.SETTLED) == ()
    assert worker.inventory() == {}
