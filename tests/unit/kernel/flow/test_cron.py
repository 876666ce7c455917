"""Cron expressions: what they mean in calendars that are easy to check by hand, and what is said of bad ones."""

from datetime import UTC, datetime, timedelta

import pytest

from farhand.kernel.flow.cron import Cron

BERLIN = "Europe/Berlin"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def following(text: str, zone: str, moment: str, count: int) -> list[str]:
    """The next times, as the clocks of that zone show them."""
    cron, last, found = Cron.parse(text, zone), at(moment), []
    for _ in range(count):
        after = cron.after(last)
        assert after is not None
        last = after
        found.append(last.astimezone(cron.zone).strftime("%d.%m. %H:%M:%S %Z"))
    return found


def test_five_fields_six_fields_and_names() -> None:
    start = "2026-11-24T10:07:30Z"
    assert following("*/15 * * * *", "UTC", start, 2) == ["24.11. 10:15:00 UTC", "24.11. 10:30:00 UTC"]
    assert following("*/20 * * * * *", "UTC", start, 2) == ["24.11. 10:07:40 UTC", "24.11. 10:08:00 UTC"]
    assert following("@hourly", "UTC", start, 1) == ["24.11. 11:00:00 UTC"]
    assert following("@Weekly", "UTC", start, 1) == ["29.11. 00:00:00 UTC"]
    assert following("0 9 * * MON-FRI", BERLIN, "2026-11-27T10:00Z", 1) == ["30.11. 09:00:00 CET"]
    assert following("0 0 L * *", "UTC", start, 2) == ["30.11. 00:00:00 UTC", "31.12. 00:00:00 UTC"]
    assert following("0 0 29 2 *", "UTC", start, 1) == ["29.02. 00:00:00 UTC"]


def test_a_time_in_the_hour_that_is_left_out_comes_once_at_its_end() -> None:
    assert following("30 2 * * *", BERLIN, "2026-03-28T00:00Z", 3) == [
        "28.03. 02:30:00 CET",
        "29.03. 03:00:00 CEST",
        "30.03. 02:30:00 CEST",
    ]
    assert following("0 30 2 * * *", BERLIN, "2026-03-28T12:00Z", 1) == ["29.03. 03:00:00 CEST"]
    assert following("0,15,30 2,3 * * *", BERLIN, "2026-03-28T12:00Z", 3) == [
        "29.03. 03:00:00 CEST",
        "29.03. 03:15:00 CEST",
        "29.03. 03:30:00 CEST",
    ]


def test_a_time_in_the_hour_that_comes_twice_comes_once() -> None:
    assert following("30 2 * * *", BERLIN, "2026-10-24T12:00Z", 2) == ["25.10. 02:30:00 CEST", "26.10. 02:30:00 CET"]
    assert following("30 2 * * *", BERLIN, "2026-10-25T01:10Z", 1) == ["26.10. 02:30:00 CET"]


def test_an_hourly_one_comes_each_real_hour() -> None:
    assert following("30 * * * *", BERLIN, "2026-03-29T00:00Z", 2) == ["29.03. 01:30:00 CET", "29.03. 03:30:00 CEST"]
    assert following("30 * * * *", BERLIN, "2026-10-24T23:00Z", 4) == [
        "25.10. 01:30:00 CEST",
        "25.10. 02:30:00 CEST",
        "25.10. 02:30:00 CET",
        "25.10. 03:30:00 CET",
    ]


def test_every_second_of_the_hour_that_comes_twice_comes_twice() -> None:
    cron = Cron.parse("*/30 * * * * *", BERLIN)
    moment = start = at("2026-10-24T23:59:59Z")
    for number in range(600):
        after = cron.after(moment)
        assert after == start + timedelta(seconds=1 + 30 * number)
        moment = after


@pytest.mark.parametrize(
    ("text", "moment", "last"),
    [
        ("0 3 * * *", "2026-11-24T03:00:00Z", "2026-11-23T03:00:00Z"),
        ("0 3 * * *", "2026-11-24T03:00:01Z", "2026-11-24T03:00:00Z"),
        ("* * * * * *", "2026-11-24T03:00:00.5Z", "2026-11-24T03:00:00Z"),
        ("@yearly", "2026-11-24T03:00Z", "2026-01-01T00:00Z"),
        ("0 0 29 2 *", "2026-11-24T03:00Z", "2024-02-29T00:00Z"),
    ],
)
def test_the_time_before(text: str, moment: str, last: str) -> None:
    assert Cron.parse(text).before(at(moment)) == at(last)


@pytest.mark.parametrize(
    ("text", "zone", "why"),
    [
        ("0 25 * * *", "UTC", "'25' in '0 25 * * *' is no hour: it takes 0 to 23"),
        ("61 * * * *", "UTC", "'61' in '61 * * * *' is no minute: it takes 0 to 59"),
        ("99 * * * * *", "UTC", "is no second"),
        ("* * * 13 *", "UTC", "is no month: it takes 1 to 12, or JAN to DEC"),
        ("* * 0 * *", "UTC", "is no day of month"),
        ("* * * * FRY", "UTC", "is no day of week"),
        ("*/0 * * * *", "UTC", "is no minute"),
        ("5-1 * * * *", "UTC", "is no minute"),
        ("* * * * L", "UTC", "is no day of week"),
        ("L/2 * * * *", "UTC", "is no minute"),
        ("* * L/2-3 * *", "UTC", "is no"),
        ("* * *", "UTC", "has 3 fields; a cron expression has five"),
        ("", "UTC", "has 0 fields"),
        ("@never", "UTC", "there is no '@never'; there are @annually, @daily"),
        ("0 0 30 2 *", "UTC", "never comes"),
        ("0 0 31 4 *", "UTC", "never comes"),
        ("* * * * *", "Europe/Berlinn", "there is no time zone 'Europe/Berlinn'. Did you mean Europe/Berlin"),
        ("* * * * *", "berlin", "Did you mean Europe/Berlin?"),
        ("* * * * *", "", "there is no time zone ''; write UTC"),
        ("* * * * *", "../../etc/passwd", "there is no time zone"),
        ("0" * 501, "UTC", "has 501 characters"),
    ],
)
def test_what_is_wrong_is_said(text: str, zone: str, why: str) -> None:
    with pytest.raises(ValueError) as told:
        Cron.parse(text, zone)
    assert why in str(told.value)
