"""Tiny conversions between Python values and the well-known protobuf types."""

import datetime
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct, Value
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


def plain(struct: Struct) -> dict[str, Any]:
    """A Struct as plain values. JSON's numbers are floats on the wire; whole ones become ints again."""
    return {name: _plain(value) for name, value in struct.fields.items()}


def _plain(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "bool_value":
            return value.bool_value
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case "struct_value":
            return plain(value.struct_value)
    return None
