"""Tiny conversions between Python values and the well-known protobuf types."""

import datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

_NANOS = 1_000_000_000


def timestamp(moment: datetime.datetime | None) -> Timestamp | None:
    """A Timestamp from an aware datetime; None stays None, which leaves a field unset."""
    if moment is None:
        return None
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def moment(message: Timestamp) -> datetime.datetime:
    """An aware UTC datetime from a Timestamp; ValueError outside the years 1 to 9999."""
    return message.ToDatetime(tzinfo=datetime.UTC)


def timestamp_of_nanoseconds(since_epoch: int) -> Timestamp:
    """A Timestamp from nanoseconds since 1970."""
    seconds, nanos = divmod(since_epoch, _NANOS)
    return Timestamp(seconds=seconds, nanos=nanos)


def nanoseconds(message: Timestamp) -> int:
    """Nanoseconds since 1970 from a Timestamp."""
    return message.seconds * _NANOS + message.nanos


def duration(seconds: float | None) -> Duration | None:
    """A Duration from seconds; None stays None, which leaves a field unset."""
    if seconds is None:
        return None
    nanos = round(seconds * _NANOS)
    sign = -1 if nanos < 0 else 1
    whole, rest = divmod(abs(nanos), _NANOS)
    return Duration(seconds=sign * whole, nanos=sign * rest)


def seconds(message: Duration) -> float:
    """Seconds from a Duration."""
    return message.seconds + message.nanos / _NANOS
