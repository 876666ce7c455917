"""Dates in expressions: ISO-8601 texts in, ISO-8601 texts out, or text by a pattern.

Patterns are Java's, as in Kestra (`yyyy-MM-dd HH:mm:ss`), or strftime's where one
has a `%`. A date without an offset is UTC.
"""

import calendar
import datetime
import re
from collections.abc import Callable, Mapping
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from farhand.kernel.expressions.budget import Budget
from farhand.kernel.expressions.errors import ExpressionError
from farhand.kernel.kinds import kind
from farhand.kernel.names import shown

Field = Callable[[datetime.datetime], str]

LONGEST_PATTERN = 200  # characters
_MONTHS = list(calendar.month_name)  # English: no process here sets a locale
_DAYS = list(calendar.day_name)


def _offset(moment: datetime.datetime, colon: str, zero: str) -> str:
    minutes = int((moment.utcoffset() or datetime.timedelta()).total_seconds()) // 60
    sign = "-" if minutes < 0 else "+"
    return f"{sign}{abs(minutes) // 60:02d}{colon}{abs(minutes) % 60:02d}" if minutes or not zero else zero


_JAVA: Mapping[str, Field] = {
    "yyyy": lambda m: f"{m.year:04d}",
    "yy": lambda m: f"{m.year % 100:02d}",
    "MMMM": lambda m: _MONTHS[m.month],
    "MMM": lambda m: _MONTHS[m.month][:3],
    "MM": lambda m: f"{m.month:02d}",
    "M": lambda m: str(m.month),
    "dd": lambda m: f"{m.day:02d}",
    "d": lambda m: str(m.day),
    "DDD": lambda m: f"{m.timetuple().tm_yday:03d}",
    "EEEE": lambda m: _DAYS[m.weekday()],
    "EEE": lambda m: _DAYS[m.weekday()][:3],
    "HH": lambda m: f"{m.hour:02d}",
    "H": lambda m: str(m.hour),
    "hh": lambda m: f"{(m.hour - 1) % 12 + 1:02d}",
    "h": lambda m: str((m.hour - 1) % 12 + 1),
    "mm": lambda m: f"{m.minute:02d}",
    "m": lambda m: str(m.minute),
    "ss": lambda m: f"{m.second:02d}",
    "s": lambda m: str(m.second),
    "SSSSSS": lambda m: f"{m.microsecond:06d}",
    "SSS": lambda m: f"{m.microsecond // 1000:03d}",
    "a": lambda m: "AM" if m.hour < 12 else "PM",
    "XXX": lambda m: _offset(m, ":", "Z"),
    "xxx": lambda m: _offset(m, ":", ""),
    "Z": lambda m: _offset(m, "", ""),
    "z": lambda m: m.tzname() or "",
}
_STRFTIME: Mapping[str, str] = {
    "Y": "yyyy",
    "y": "yy",
    "m": "MM",
    "d": "dd",
    "H": "HH",
    "I": "hh",
    "M": "mm",
    "S": "ss",
    "f": "SSSSSS",
    "p": "a",
    "B": "MMMM",
    "b": "MMM",
    "A": "EEEE",
    "a": "EEE",
    "j": "DDD",
    "z": "Z",
    "Z": "z",
}
_NAMED: Mapping[str, str] = {"iso": "", "iso_date": "yyyy-MM-dd", "iso_time": "HH:mm:ss"}
_PIECE = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|.", re.DOTALL)
_UNITS = {"MILLIS": 0.001, "SECONDS": 1, "MINUTES": 60, "HOURS": 3600, "DAYS": 86400, "WEEKS": 604800}
_MONTHS_OF = {"MONTHS": 1, "YEARS": 12}


def date(budget: Budget, value: Any, format: Any = "iso", time_zone: Any = None) -> str:
    """A date by a pattern: date('yyyy-MM-dd'), date('%Y-%m-%d'), date('HH:mm', timeZone='Europe/Berlin')."""
    moment = _read(value)
    if time_zone is not None:
        moment = moment.astimezone(_zone(time_zone))
    if not isinstance(format, str) or len(format) > LONGEST_PATTERN:
        raise ExpressionError(f"the format must be a text of at most {LONGEST_PATTERN} characters")
    pattern = _NAMED.get(format, format)
    if not pattern:
        return _written(moment)
    return _by_strftime(pattern, moment) if "%" in pattern else _by_java(pattern, moment)


def date_add(budget: Budget, value: Any, amount: Any, unit: Any) -> str:
    """A date so much later, or earlier: dateAdd(-1, 'DAYS'). Months and years keep the day, or take the last."""
    moment = _read(value)
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        raise ExpressionError(f"the amount must be a number, not {kind(amount)}")
    name = str(unit).upper()
    name = name if name.endswith("S") else f"{name}S"
    try:
        if name in _UNITS:
            return _written(moment + datetime.timedelta(seconds=amount * _UNITS[name]))
        if name in _MONTHS_OF and int(amount) == amount:
            year, month = divmod(moment.year * 12 + moment.month - 1 + int(amount) * _MONTHS_OF[name], 12)
            last = calendar.monthrange(year, month + 1)[1] if 1 <= year <= 9999 else 1
            return _written(moment.replace(year=year, month=month + 1, day=min(moment.day, last)))
    except (OverflowError, ValueError):
        raise ExpressionError("the date is outside of the years 1 to 9999") from None
    units = ", ".join([*_UNITS, *_MONTHS_OF])
    raise ExpressionError(f"the unit is one of {units}; months and years are added whole")


def _read(value: Any) -> datetime.datetime:
    if not isinstance(value, str):
        raise ExpressionError(f"it must be a date as text, such as 2026-01-31T09:00:00Z, not {kind(value)}")
    try:
        moment = datetime.datetime.fromisoformat(value.strip())
    except ValueError:
        raise ExpressionError("the text is no date in ISO-8601, such as 2026-01-31T09:00:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def _written(moment: datetime.datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _zone(name: Any) -> datetime.tzinfo:
    if not isinstance(name, str):
        raise ExpressionError(f"the time zone must be a name such as Europe/Berlin, not {kind(name)}")
    if name.upper() in ("UTC", "Z"):
        return datetime.UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ExpressionError(f"this machine knows no time zone {shown(name)}") from None


def _by_strftime(pattern: str, moment: datetime.datetime) -> str:
    def field(match: re.Match[str]) -> str:
        if match[1] == "%":
            return "%"
        if match[1] not in _STRFTIME:
            raise ExpressionError(f"there is no %{match[1]} in a format; there are %{', %'.join(sorted(_STRFTIME))}")
        return _JAVA[_STRFTIME[match[1]]](moment)

    return re.sub(r"%(.?)", field, pattern, flags=re.DOTALL)


def _by_java(pattern: str, moment: datetime.datetime) -> str:
    made = []
    for piece in _PIECE.finditer(pattern):
        if piece[1] is not None:
            made.append(piece[1].replace("''", "'") or "'")
        elif piece[2] is None:
            made.append(piece[0])
        elif piece[0] in _JAVA:
            made.append(_JAVA[piece[0]](moment))
        else:
            raise ExpressionError(
                f"there is no {shown(piece[0])} in a format; there are {', '.join(_JAVA)}, and text in 'quotes'"
            )
    return "".join(made)
