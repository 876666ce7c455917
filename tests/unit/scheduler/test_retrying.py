"""When another attempt follows."""

from datetime import UTC, datetime, timedelta

import pytest

from farhand.kernel.flow import Retry
from farhand.scheduler.core.retrying import next_attempt_at

FIRST = datetime(2026, 11, 24, tzinfo=UTC)
FAILED = FIRST + timedelta(minutes=10)


def pause(attempts: int = 1, **retry: object) -> float | None:
    """Seconds until the next attempt."""
    made = Retry.model_validate({"interval": "PT1M", "type": "constant", **retry})
    at = next_attempt_at(made, attempts=attempts, first_at=FIRST, failed_at=FAILED)
    return None if at is None else (at - FAILED).total_seconds()


def test_without_retry_none_follows() -> None:
    assert next_attempt_at(None, attempts=1, first_at=FIRST, failed_at=FAILED) is None


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 60), (2, 60), (3, None), (4, None)])
def test_the_first_attempt_counts(attempts: int, seconds: float | None) -> None:
    assert pause(attempts, maxAttempts=3) == seconds


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 60), (2, 120), (3, 240), (10, 60 * 512)])
def test_exponential_pauses_double(attempts: int, seconds: float) -> None:
    assert pause(attempts, type="exponential", maxAttempts=100) == seconds


def test_pauses_stay_within_what_a_clock_can_hold() -> None:
    assert pause(999, type="exponential", maxAttempts=1000) == 10 * 365 * 86400


@pytest.mark.parametrize(("longest", "seconds"), [("PT11M", 60), ("PT10M59S", None)])
def test_no_attempt_begins_later_than_the_longest_duration_after_the_first(longest: str, seconds: float | None) -> None:
    assert pause(5, maxDuration=longest) == seconds


def test_both_bounds_hold() -> None:
    assert pause(2, maxAttempts=2, maxDuration="PT1H") is None
    assert pause(1, maxAttempts=2, maxDuration="PT1M") is None
