"""How single fields are read from flags and shown in tables: durations, times, enums, groups, lists."""

import datetime
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farhand.cli.failure import WrongUse
from farhand.kernel.durations import format_duration, parse_duration
from farhand.kernel.names import near_matches, shown
from farhand.kernel.resolution import Fallback

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper
    from google.protobuf.timestamp_pb2 import Timestamp

NOTHING = "-"

OnlyOfGroup = Annotated[
    str, typer.Option("--worker-group", metavar="KEY", help="Only of this worker group, or _default.")
]


def duration_flag(flag: str, text: str | None) -> "Duration | None":
    """A duration that was typed; None stays None, which leaves a field unset."""
    from farhand.runtime.wire import duration

    if text is None:
        return None
    try:
        return duration(parse_duration(text))
    except ValueError as error:
        raise WrongUse(f"{flag}: {error}.") from None


def time_flag(flag: str, text: str | None) -> "Timestamp | None":
    """A time that was typed: a duration is so long ago."""
    from farhand.runtime.wire import timestamp

    if text is None:
        return None
    try:
        ago = parse_duration(text.removesuffix(" ago"))
        return timestamp(datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=ago))
    except (ValueError, OverflowError):
        pass
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise WrongUse(f"{flag}: {shown(text)} is no time: write 24h, or 2026-11-24T08:00Z.") from None
    return timestamp(moment if moment.tzinfo else moment.astimezone())


def fallback_flag(flag: str, text: str | None) -> Any:
    """A fallback that was typed, as the number of its enum; None: 0, unspecified."""
    from farhand.api.types.v1 import fallback_pb2

    if text is None:
        return fallback_pb2.FALLBACK_UNSPECIFIED
    return fallback_pb2.Fallback.Value(f"FALLBACK_{choice(flag, text, Fallback)}")


def states_flag(flag: str, texts: Iterable[str], enum: "_EnumTypeWrapper[Any]", prefix: str) -> list[Any]:
    """States that were typed, as the numbers of their enum."""
    names = [name.removeprefix(prefix) for name in enum.keys()[1:]]
    return [enum.Value(prefix + choice(flag, text, names)) for text in texts]


def choice(flag: str, text: str, choices: Iterable[str]) -> str:
    """One of the choices, however it was capitalised."""
    names = list(choices)
    found = text.upper().replace("-", "_")
    if found not in names:
        near = near_matches(text, names)
        hint = f" Did you mean {near[0].lower()}?" if near else ""
        raise WrongUse(f"{flag}: {shown(text)} is not one of {', '.join(names).lower()}.{hint}")
    return found


def enum_name(enum: "_EnumTypeWrapper[Any]", number: int, prefix: str) -> str:
    """RUNNING for JOB_STATE_RUNNING; the number of one that this version doesn't know; "-" for unspecified."""
    if number == 0:
        return NOTHING
    try:
        return enum.Name(number).removeprefix(prefix)
    except ValueError:
        return str(number)


def fallback_name(number: int) -> str:
    """WAIT, FAIL, CANCEL, or "-"."""
    from farhand.api.types.v1 import fallback_pb2

    return enum_name(fallback_pb2.Fallback, number, "FALLBACK_")


def listed(items: Iterable[str], none: str = NOTHING) -> str:
    """The items with commas between them."""
    return ", ".join(items) or none


def span(message: "Duration") -> str:
    """A duration for people."""
    return format_duration(max(0.0, message.seconds + message.nanos / 1e9))


def when(message: Any, name: str) -> str:
    """The time in a field, in UTC to the second; "-" where it is unset."""
    if not message.HasField(name):
        return NOTHING
    return _moment(getattr(message, name)).strftime("%Y-%m-%d %H:%M:%SZ")


def age(message: Any, name: str, now: datetime.datetime) -> str:
    """How long the time in a field is past; "-" where it is unset. The clocks may differ: never below 0."""
    if not message.HasField(name):
        return NOTHING
    return format_duration(max(0.0, (now - _moment(getattr(message, name))).total_seconds()))


def between(message: Any, start: str, end: str) -> str:
    """How long it took from the time in one field to that in another; "-" where either is unset."""
    if not (message.HasField(start) and message.HasField(end)):
        return NOTHING
    passed = _moment(getattr(message, end)) - _moment(getattr(message, start))
    return format_duration(max(0.0, passed.total_seconds()))


def _moment(message: "Timestamp") -> datetime.datetime:
    from farhand.runtime.wire import moment

    return moment(message)


def every_page(call: Any, request: Any, field: str, *, timeout: float, limit: int | None = None) -> Iterator[Any]:
    """The items of all pages of a list call, at most `limit` of them."""
    left = limit
    while left is None or left > 0:
        request.page_size = 1000 if left is None else min(left, 1000)
        answer = call(request, timeout=timeout)
        items = getattr(answer, field)
        yield from items if left is None else items[:left]
        left = None if left is None else left - len(items)
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token


def new_request_id() -> str:
    """An id at random, under which a creation may be repeated safely (AIP-155)."""
    import uuid

    return uuid.uuid4().hex
