"""Times and durations on the wire."""

import datetime

import pytest

from farhand.runtime import wire


def test_a_moment_survives_the_way_there_and_back() -> None:
    moment = datetime.datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=datetime.UTC)
    message = wire.timestamp(moment)
    assert message is not None
    assert wire.moment(message) == moment


def test_nothing_stays_nothing() -> None:
    assert wire.timestamp(None) is None
    assert wire.duration(None) is None


@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.25, 60.0, -0.5, -1.75])
def test_a_duration_survives_the_way_there_and_back(seconds: float) -> None:
    message = wire.duration(seconds)
    assert message is not None
    assert wire.seconds(message) == seconds
    assert message.ToNanoseconds() == round(seconds * 1e9)


def test_nanoseconds_keep_every_digit() -> None:
    assert wire.nanoseconds(wire.timestamp_of_nanoseconds(1_795_477_161_123_456_789)) == 1_795_477_161_123_456_789
