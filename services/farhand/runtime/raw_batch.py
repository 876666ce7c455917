"""Reading a batch of which some rows are not valid messages.

protobuf refuses a whole message when one string in it is not UTF-8. A batch must
lose that row alone, so its deserializer falls back to reading row by row.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from google.protobuf.message import DecodeError, Message

M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class RawBatch(Generic[M]):
    """A batch request in which every row stands at its own index."""

    request: M  # rows that could not be read are empty messages here
    malformed: dict[int, str] = field(default_factory=dict)  # index of a row → why it could not be read


def lenient(request_type: type[M], repeated_field: str) -> Callable[[bytes], RawBatch[M]]:
    """A deserializer for requests whose rows are in `repeated_field`, a repeated message.

    Give it to `make_server(lenient={"/package.Service/Method": lenient(Request, "rows")})`;
    that method's handler then gets a RawBatch. DecodeError where it is not only rows
    that can't be read.
    """
    descriptor = request_type.DESCRIPTOR.fields_by_name[repeated_field]
    number = descriptor.number

    def deserialize(raw: bytes) -> RawBatch[M]:
        try:
            return RawBatch(request_type.FromString(raw))
        except DecodeError:
            return _row_by_row(request_type, repeated_field, number, raw)

    return deserialize


def _row_by_row(request_type: type[M], repeated_field: str, number: int, raw: bytes) -> RawBatch[M]:
    others = bytearray()
    rows: list[bytes] = []
    for field_number, whole, payload in _fields(raw):
        if field_number == number and payload is not None:
            rows.append(payload)
        else:
            others += whole
    request = request_type.FromString(bytes(others))
    target: Any = getattr(request, repeated_field)
    malformed: dict[int, str] = {}
    for index, row in enumerate(rows):
        message = target.add()
        try:
            message.MergeFromString(row)
        except DecodeError as error:
            message.Clear()
            malformed[index] = str(error)
    return RawBatch(request, malformed)


def _fields(raw: bytes) -> Iterator[tuple[int, bytes, bytes | None]]:
    """Each field of a message: its number, its bytes with tag, and the payload where it is length-delimited."""
    position = 0
    while position < len(raw):
        start = position
        tag, position = _varint(raw, position)
        payload = None
        match tag & 7:
            case 0:
                _, position = _varint(raw, position)
            case 1:
                position += 8
            case 2:
                length, position = _varint(raw, position)
                payload = raw[position : position + length]
                position += length
            case 5:
                position += 4
            case wire_type:
                raise DecodeError(f"wire type {wire_type}")
        if position > len(raw):
            raise DecodeError("the message is cut short")
        yield tag >> 3, raw[start:position], payload


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(raw):
            raise DecodeError("the message is cut short")
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise DecodeError("a number has more than 10 bytes")
