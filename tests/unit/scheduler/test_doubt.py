"""When a scheduler asks a worker what it holds."""

from farhand.scheduler.core.doubt import PATIENCE, Doubt


def test_slots_that_hold_what_is_outstanding_are_no_doubt() -> None:
    doubt = Doubt()
    assert not any(doubt.beat({1, 2}, 2) for _ in range(5))


def test_work_that_comes_and_goes_between_heartbeats_is_no_doubt() -> None:
    doubt = Doubt()
    assert not any(doubt.beat({beat * 2, beat * 2 + 1}, 0) for beat in range(5))
    assert not any(doubt.beat(set(), busy) for busy in (1, 0, 1, 0))


def test_what_is_outstanding_over_two_heartbeats_and_in_no_slot_is_doubtful() -> None:
    doubt = Doubt()
    assert not doubt.beat({1, 2}, 1)
    assert doubt.beat({1, 2, 3}, 1)


def test_slots_taken_by_what_is_not_outstanding_are_doubtful_the_second_time() -> None:
    doubt = Doubt()
    assert not doubt.beat({1}, 2)
    assert doubt.beat({1}, 2)


def test_a_worker_that_stays_at_odds_is_asked_again_after_a_while() -> None:
    doubt = Doubt()
    doubt.beat({1}, 0)
    asked = [doubt.beat({1}, 0) for _ in range(2 * PATIENCE + 1)]
    assert [index for index, ask in enumerate(asked) if ask] == [0, PATIENCE, 2 * PATIENCE]
