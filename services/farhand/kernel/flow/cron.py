"""The times of a cron expression, by the clock of a time zone and its changes of hour.

    cron = Cron.parse("0 3 * * *", "Europe/Berlin")
    cron.after(moment)      # the first of its times that is later
    cron.before(moment)     # the last one that is earlier

Five fields (minute, hour, day of month, month, day of week), six with seconds first, or
a name such as @daily. When both the day of the month and the day of the week are
restricted, either will do, as cron has always had it. Lists, ranges, steps and names
(MON, JAN) are taken, and L (last day), LW (last weekday), 5L (last Friday), 5#2.

Where clocks change (as Debian's cron does it):

- An expression whose minute and hour say when, like `30 2 * * *`, comes once a day:
  in the hour that is left out, at its end; in the hour that comes twice, the first time.
- One whose minute or hour begins with a star, like `30 * * * *`, goes by the clock as it
  runs: each time that the clock shows it. So an hourly one comes each real hour.

Whether and when clocks change is the tz database's word: the machine's, else the one
that is installed beside Farhand.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from farhand.kernel.names import near_matches, shown

_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_LONGEST = 500  # characters
_FIELDS = {  # as cronsim calls them
    "second": "0 to 59",
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "1 to 31, L or LW",
    "month": "1 to 12, or JAN to DEC",
    "day-of-week": "0 to 7, or SUN to SAT, where 0 and 7 are Sunday",
}
_START = datetime(2000, 1, 1)  # from where an expression is tried; leap days and all days of the week follow
_LONGEST_WAIT = timedelta(days=50 * 366)


@dataclass(frozen=True)
class Cron:
    """A cron expression and its time zone; see the module. Moments have a time zone, answers are in UTC."""

    text: str
    zone: ZoneInfo
    _times: CronSim = field(compare=False)
    _once_a_day: bool = field(compare=False)

    @classmethod
    def parse(cls, text: str, timezone: str = "UTC") -> "Cron":
        """Raises ValueError with what is wrong, for a person to read."""
        return _parsed(text, timezone)

    def after(self, moment: datetime) -> datetime | None:
        """The first of its times that is later than the moment; None: there is none in the next fifty years."""
        found = self._by_the_day(moment) if self._once_a_day else self._by_the_clock(moment)
        return None if found is None or found - moment > _LONGEST_WAIT else found

    def before(self, moment: datetime) -> datetime | None:
        """The last of its times that is earlier than the moment; None: there was none in the fifty years before."""
        # The last second after which something comes before the moment: that is what is looked for.
        late = moment.astimezone(UTC)
        step = timedelta(seconds=1)
        early = late - step
        while (found := self._by(early, late)) is None:
            late = early
            step *= 2
            if step > _LONGEST_WAIT:
                return None
            early = late - step
        end = moment.astimezone(UTC)
        while (following := self._by(found, end)) is not None:
            middle = found + (end - found) / 2
            later = self._by(middle, end)
            found, end = (following, middle) if later is None else (later, end)
        return found

    def _by(self, early: datetime, late: datetime) -> datetime | None:
        """The first of its times between the two, neither included."""
        found = self.after(early)
        return found if found is not None and found < late else None

    def _by_the_day(self, moment: datetime) -> datetime | None:
        for wall in self._walls(moment.astimezone(self.zone).replace(tzinfo=None)):
            at = self._instant(wall, 0)
            while self._wall(at) != wall:  # left out; what comes next on this clock is the end of the gap
                at, wall = self._end_of_gap(wall)
            if at > moment:
                return at
        return None

    def _by_the_clock(self, moment: datetime) -> datetime | None:
        here = moment.astimezone(self.zone)
        wall = here.replace(tzinfo=None)
        start = wall
        again = self._comes_twice(wall)
        if again and not here.fold:  # what is left of the first time; then what is shown a second time
            following = next(self._walls(wall), None)
            if following is not None and self._comes_twice(following):
                return self._instant(following, 0)
            start = wall - again
        for wall in self._walls(start):
            for fold in (0, 1):
                at = self._instant(wall, fold)
                if at > moment and self._wall(at) == wall:
                    return at
        return None

    def _walls(self, after: datetime) -> Iterator[datetime]:
        """What clocks show at its times, after what they show now; without time zone."""
        times = copy.copy(self._times)
        times.dt = after.replace(microsecond=0)
        return times

    def _instant(self, wall: datetime, fold: int) -> datetime:
        return wall.replace(tzinfo=self.zone, fold=fold).astimezone(UTC)

    def _wall(self, at: datetime) -> datetime:
        return at.astimezone(self.zone).replace(tzinfo=None)

    def _comes_twice(self, wall: datetime) -> timedelta:
        """How much later the clock shows this again; zero: it does not."""
        twice = self._instant(wall, 1) - self._instant(wall, 0)
        return twice if twice > timedelta() else timedelta()

    def _end_of_gap(self, wall: datetime) -> tuple[datetime, datetime]:
        """The moment at which a clock passes over what it does not show, and what it shows then."""
        early, late = self._instant(wall, 1), self._instant(wall, 0)  # in a gap the two are the other way around
        while late - early > timedelta(seconds=1):
            middle = early + (late - early) // timedelta(seconds=2) * timedelta(seconds=1)
            if self._wall(middle) < wall:
                early = middle
            else:
                late = middle
        return late, self._wall(late)


@lru_cache(maxsize=4096)
def _parsed(text: str, timezone: str) -> Cron:
    zone = time_zone(timezone)
    if len(text) > _LONGEST:
        raise ValueError(f"has {len(text)} characters; at most {_LONGEST} are allowed")
    written = text.strip()
    if written.startswith("@"):
        if (meant := _NAMED.get(written.lower())) is None:
            raise ValueError(f"there is no {shown(written)}; there are {', '.join(sorted(_NAMED))}")
        written = meant
    fields = written.split()
    if len(fields) not in (5, 6):
        raise ValueError(
            f"{shown(text)} has {len(fields)} field{'' if len(fields) == 1 else 's'}; a cron expression has five "
            "(minute, hour, day of month, month, day of week), or six with seconds first, or is @hourly, @daily, …"
        )
    try:
        times = CronSim(written, _START)
    except (CronSimError, ValueError, AssertionError, TypeError, KeyError, IndexError) as error:
        raise ValueError(_why_not(fields, text, str(error))) from None
    if next(copy.copy(times), None) is None:
        raise ValueError(_never(text))
    minute, hour = fields[-5:-3]
    return Cron(text, zone, times, not minute.startswith("*") and not hour.startswith("*"))


def time_zone(name: str) -> ZoneInfo:
    """Raises ValueError with near matches."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    known = available_timezones()
    last = name.rsplit("/", 1)[-1].casefold()
    near = [zone for zone in sorted(known) if zone.rsplit("/", 1)[-1].casefold() == last] or near_matches(name, known)
    hint = f". Did you mean {near[0]}?" if near else "; write UTC, or a name such as Europe/Berlin"
    raise ValueError(f"there is no time zone {shown(name)}{hint}")


def _never(text: str) -> str:
    return f"{shown(text)} never comes: there is no such day"


def _why_not(fields: list[str], text: str, said: str) -> str:
    """What cronsim says in a word, in a sentence."""
    name = said.removeprefix("Bad ")
    names = list(_FIELDS)[-len(fields) :]
    if name not in names:
        return f"{shown(text)} is no cron expression"
    field = fields[names.index(name)]
    if name == "day-of-month" and field.isdigit() and 1 <= int(field) <= 31:
        return _never(text)
    return (
        f"{shown(field)} in {shown(text)} is no {name.replace('-', ' ')}: it takes {_FIELDS[name]}, *, lists (1,2), "
        "ranges (1-5) and steps (*/5)"
    )
