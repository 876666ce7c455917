"""The times of cron expressions over changes of hour, held against a model that looks at every minute.

The model knows nothing of folds or offsets: it walks over real minutes, reads the
clock on the wall, and remembers what it showed.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from farhand.kernel.flow.cron import Cron

MINUTE = timedelta(minutes=1)
CHANGES = [  # some hours before one
    ("Europe/Berlin", datetime(2026, 3, 28, 22, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 24, 22, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 8, 4, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 3, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 12, tzinfo=UTC)),  # half an hour twice
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 12, tzinfo=UTC)),
    ("America/Havana", datetime(2026, 3, 8, 2, tzinfo=UTC)),  # at midnight: the day begins at one
    ("Pacific/Apia", datetime(2011, 12, 30, 0, tzinfo=UTC)),  # a whole day is left out
    ("UTC", datetime(2026, 2, 28, 20, tzinfo=UTC)),
]
HOURS = 12


def walk(zone: ZoneInfo, start: datetime) -> list[tuple[datetime, datetime]]:
    """Real minutes and what the clock shows."""
    moments = [start + MINUTE * number for number in range(HOURS * 60)]
    return [(moment, moment.astimezone(zone).replace(tzinfo=None)) for moment in moments]


def model(minutes: set[int], hours: set[int], by_the_clock: bool, zone: ZoneInfo, start: datetime) -> list[datetime]:
    def says(wall: datetime) -> bool:
        return wall.minute in minutes and wall.hour in hours

    shown: set[datetime] = set()
    found: list[datetime] = []
    last = (start - MINUTE).astimezone(zone).replace(tzinfo=None)
    for moment, wall in walk(zone, start):
        skipped = [last + MINUTE * number for number in range(1, (wall - last) // MINUTE)]
        first_time = wall not in shown
        if (says(wall) and (by_the_clock or first_time)) or (not by_the_clock and any(map(says, skipped))):
            found.append(moment)
        shown.add(wall)
        last = wall
    return found


@st.composite
def field(draw: st.DrawFn, most: int) -> tuple[str, set[int]]:
    """A field as it is written, and what it means."""
    kind = draw(st.sampled_from(["star", "step", "one", "list", "range"]))
    every = range(most + 1)
    if kind == "star":
        return "*", set(every)
    if kind == "step":
        step = draw(st.integers(1, most))
        return f"*/{step}", set(every[::step])
    if kind == "range":
        low, high = sorted(draw(st.lists(st.sampled_from(every), min_size=2, max_size=2)))
        return f"{low}-{high}", set(range(low, high + 1))
    chosen = draw(st.sets(st.sampled_from(every), min_size=1, max_size=1 if kind == "one" else 5))
    return ",".join(map(str, sorted(chosen))), chosen


@given(st.sampled_from(CHANGES), field(59), field(4), st.booleans())
@settings(max_examples=120, deadline=None)
def test_every_minute_around_a_change_of_hour_is_as_the_model_says(
    change: tuple[str, datetime], minute: tuple[str, set[int]], hour: tuple[str, set[int]], seconds: bool
) -> None:
    name, start = change
    cron = Cron.parse(f"{'0 ' if seconds else ''}{minute[0]} {hour[0]} * * *", name)
    by_the_clock = minute[0].startswith("*") or hour[0].startswith("*")
    hours = set(range(24)) if hour[0] == "*" else set(range(24)[:: int(hour[0][2:])]) if "/" in hour[0] else hour[1]
    expected = model(minute[1], hours, by_the_clock, ZoneInfo(name), start)
    end = start + timedelta(hours=HOURS)
    found, at = [], cron.after(start - timedelta(seconds=1))
    while at is not None and at < end:
        found.append(at)
        at = cron.after(at)
    assert found == expected


@given(st.sampled_from(CHANGES), field(59), field(4), st.integers(0, HOURS * 3600))
@settings(max_examples=150, deadline=None)
def test_before_is_the_other_way_of_after(
    change: tuple[str, datetime], minute: tuple[str, set[int]], hour: tuple[str, set[int]], second: int
) -> None:
    name, start = change
    cron = Cron.parse(f"{minute[0]} {hour[0]} * * *", name)
    moment = start + timedelta(seconds=second)
    last = cron.before(moment)
    assert last is not None and last < moment
    following = cron.after(last)
    assert following is not None and following >= moment
    assert cron.after(last - timedelta(seconds=1)) == last
