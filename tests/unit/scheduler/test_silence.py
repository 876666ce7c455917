"""When a stream is given up: by its silence, and by its worker's own word that it hears nothing."""

from farhand.scheduler.core.silence import Heard, Silence, deaf


def a_stream(frames: int, *, id: int = 1, epoch: int = 1, lease: float = 60.0) -> Heard:
    return Heard(id, epoch, frames, lease)


def watch(silence: Silence, since: float, until: float, *streams: Heard) -> list[int]:
    """Look each half second; answer what the last look found."""
    found: list[int] = []
    for step in range(int((until - since) * 2) + 1):
        found = silence.look(streams, since + step / 2)
    return found


def test_a_stream_is_silent_after_three_heartbeats_in_which_nothing_came() -> None:
    silence = Silence()
    assert watch(silence, 100.0, 129.5, a_stream(7)) == []
    assert watch(silence, 130.0, 130.0, a_stream(7)) == [1]


def test_any_frame_breaks_the_silence() -> None:
    silence = Silence()
    watch(silence, 0.0, 29.5, a_stream(7))
    assert watch(silence, 30.0, 59.5, a_stream(8)) == []
    assert watch(silence, 60.0, 60.0, a_stream(8)) == [1]


def test_another_stream_of_the_session_is_another() -> None:
    silence = Silence()
    watch(silence, 0.0, 29.5, a_stream(7))
    assert watch(silence, 30.0, 59.5, a_stream(7, epoch=2)) == []


def test_a_short_lease_makes_less_patient_and_a_long_one_no_more_patient_than_heartbeats_come() -> None:
    assert watch(Silence(), 0.0, 5.0, a_stream(1, lease=10.0)) == [1]
    assert watch(Silence(), 0.0, 30.0, a_stream(1, lease=86_400.0)) == [1]


def test_a_replica_that_stood_still_listens_anew() -> None:
    silence = Silence()
    watch(silence, 0.0, 20.0, a_stream(7))
    assert watch(silence, 40.0, 69.5, a_stream(7)) == []
    assert watch(silence, 70.0, 70.0, a_stream(7)) == [1]


def test_a_worker_is_deaf_that_applied_none_of_the_last_four_answers() -> None:
    assert not deaf(1, 0)  # the first heartbeat; hello was 0
    assert not deaf(4, 0)
    assert deaf(5, 0)
    assert not deaf(1000, 999)
