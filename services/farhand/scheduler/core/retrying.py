"""When another attempt follows a failed one."""

from datetime import datetime, timedelta

from farhand.kernel.durations import parse_duration
from farhand.kernel.flow import Retry, RetryType
from farhand.kernel.flow.parts import LONGEST_DURATION


def next_attempt_at(retry: Retry | None, *, attempts: int, first_at: datetime, failed_at: datetime) -> datetime | None:
    """When the next attempt begins; None: there is none.

    `attempts`: how many there were. `first_at`: when the first of them was created; maxDuration counts from there.
    """
    if retry is None or (retry.max_attempts is not None and attempts >= retry.max_attempts):
        return None
    pause = parse_duration(retry.interval)
    if retry.type is RetryType.EXPONENTIAL:
        pause *= 2.0 ** (attempts - 1)  # attempts are bounded by 1,000, and so within a float
    at = failed_at + timedelta(seconds=min(pause, LONGEST_DURATION))
    if retry.max_duration is not None and at > first_at + timedelta(seconds=parse_duration(retry.max_duration)):
        return None
    return at
