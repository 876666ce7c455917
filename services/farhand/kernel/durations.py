"""Durations as people write them: 90s, 2m30s, 1h, 500ms, or ISO-8601 (PT1M30S)."""

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_HUMAN = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_ISO = re.compile(
    r"P(?=.)(?:(?P<d>\d+)D)?(?:T(?=\d)(?:(?P<h>\d+)H)?(?:(?P<m>\d+)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?", re.IGNORECASE
)


def parse_duration(text: str) -> float:
    """Seconds; ValueError says what is accepted."""
    text = text.strip()
    if _HUMAN.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if match := _ISO.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for unit, number in match.groupdict().items() if number)
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    raise ValueError(f"{text!r} is not a duration; write 90s, 2m30s, 1h or ISO-8601 such as PT1M30S")


def format_duration(seconds: float) -> str:
    """The shortest human form with two units at most: 850ms, 4.2s, 3m10s, 2h5m, 6d3h."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 10:
        return f"{seconds:.1f}s".replace(".0s", "s")
    total = round(seconds)
    for large, small in (("d", "h"), ("h", "m"), ("m", "s")):
        if total >= _UNITS[large]:
            count, rest = divmod(total, int(_UNITS[large]))
            rest //= int(_UNITS[small])
            return f"{count}{large}{rest}{small}" if rest else f"{count}{large}"
    return f"{total}s"
