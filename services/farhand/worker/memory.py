"""How much memory this machine can still give: Linux's own estimate, which counts what caches would give back."""

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")


def available(meminfo: Path = _MEMINFO) -> int | None:
    """MemAvailable in bytes; None where the system doesn't tell."""
    try:
        for line in meminfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.removesuffix("kB")) * 1024
    except (OSError, ValueError):
        return None
    return None
