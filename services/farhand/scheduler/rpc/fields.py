"""What many requests have: job ids, bounded durations, the caller's trace, and tokens that we give out and get back.

A token is text of ours in URL-safe base 64, which clients are told not to look
into. It names what it is for, so one that comes back to the wrong place is refused.
"""

import base64
import binascii
from typing import Any

from google.protobuf.duration_pb2 import Duration
from grpc.aio import ServicerContext

from farhand.kernel.durations import format_duration
from farhand.kernel.errors import InvalidArgument, NotFound, Violation
from farhand.kernel.job_id import decode
from farhand.kernel.names import shown
from farhand.runtime.wire import seconds

# google.protobuf.Duration: about 10,000 years.
_MOST_SECONDS = 315_576_000_000


def caller_traceparent(context: ServicerContext[Any, Any]) -> str:
    """The W3C "traceparent" of a call's metadata; empty: it has none."""
    for name, value in context.invocation_metadata() or ():
        if name == "traceparent":
            return value if isinstance(value, str) else ""
    return ""


def job_key(job_id: str) -> int:
    """The key of a job id. Raises NotFound."""
    key = decode(job_id)
    if key is None:
        raise NotFound(
            f"There is no job {shown(job_id)}: no job has such an id. `farhand job list` shows those that are."
        )
    return key


def no_job(job_id: str) -> NotFound:
    """A job that is not there, or not for this caller to see."""
    return NotFound(f"There is no job {shown(job_id)}. `farhand job list` shows those that are.")


def check_duration(path: str, value: Duration) -> list[Violation]:
    """What is wrong with a duration that may be zero and may not be negative."""
    if value.seconds < 0 or value.nanos < 0:
        return [Violation(path, "must not be negative")]
    if value.nanos >= 1_000_000_000 or value.seconds > _MOST_SECONDS:
        return [Violation(path, "is not a valid google.protobuf.Duration")]
    return []


def bounded(request: Any, field: str, *, default: float, most: float) -> float:
    """Seconds of an optional duration field, cut at `most`. Raises InvalidArgument."""
    if not request.HasField(field):
        return default
    value: Duration = getattr(request, field)
    wrong = check_duration(field, value)
    if not wrong and seconds(value) > most:
        wrong = [Violation(field, f"is {format_duration(seconds(value))}; at most {format_duration(most)} is allowed")]
    if wrong:
        raise InvalidArgument.of(*wrong)
    return seconds(value)


def make_token(kind: str, *numbers: int) -> str:
    """A token for a place."""
    text = "-".join((kind, *(f"{number:x}" for number in numbers)))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def read_token(field: str, token: str, kind: str, count: int) -> tuple[int, ...]:
    """The numbers of a token, none of them negative. Raises InvalidArgument for one that is not ours."""
    try:
        parts = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode("ascii").split("-")
        numbers = tuple(int(part, 16) for part in parts[1:])
    except (ValueError, binascii.Error):
        parts, numbers = [""], ()
    if parts[0] != kind or len(numbers) != count or any(not 0 <= number < 2**63 for number in numbers):
        raise wrong_token(field)
    return numbers


def wrong_token(field: str) -> InvalidArgument:
    """A token that was not given for this."""
    return InvalidArgument.of(Violation(field, "is not one that was given for this; leave it empty to start anew"))
