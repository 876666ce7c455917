"""Settings of the scheduler service."""

from dataclasses import dataclass

from farhand.runtime.settings import (
    DatabaseSettings,
    DialSettings,
    ListenSettings,
    LogSettings,
    SecretsSettings,
    duration,
    setting,
    size,
)


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ValueError(f"{text!r} is not a number from 1 on")
    return int(text)


def _age(text: str) -> float:
    age = duration(text)
    if age < 1.0:
        raise ValueError("an age is 1 second or more")
    return age


def _rate(text: str) -> float:
    rate = float(text)
    if not 0.0 < rate < float("inf"):
        raise ValueError(f"{text!r} is not more than 0")
    return rate


@dataclass(frozen=True, kw_only=True)
class SchedulerSettings(LogSettings, ListenSettings, DatabaseSettings, DialSettings, SecretsSettings):
    """Flags and environment of `farhand server scheduler`."""

    listen: str = setting("127.0.0.1:7402", "address to listen on, HOST:PORT; beyond loopback it needs TLS and tokens")
    registry: str = setting("127.0.0.1:7401", "address of the registry")
    max_payload: int = setting(256 << 10, "largest task, serialized", kind=size)
    max_log: int = setting(64 << 20, "most bytes of log that are kept of one assignment", kind=size)
    files: str | None = setting(
        None,
        "where output files are kept: a folder, which all schedulers share, or s3://BUCKET/PREFIX "
        "(default: ~/.local/share/farhand/files)",
    )
    max_file: int = setting(1 << 30, "largest output file", kind=size)
    retention: float = setting(30 * 86400.0, "how long ended jobs are kept, 24 hours or more", kind=duration)
    max_workers: int = setting(10_000, "most workers that hold a stream with this scheduler", kind=_count)
    admit_rate: float = setting(
        200.0, "how many workers a second may connect; the others are told when to come again", kind=_rate
    )
    session_age: float = setting(
        3600.0, "how old a worker's stream gets, give or take a quarter, before the worker opens another", kind=_age
    )
    drain_timeout: float = setting(
        10.0, "how long a stop waits for workers to open other streams, and for calls to end", kind=duration
    )

    def __post_init__(self) -> None:
        if self.retention < 86400.0:  # a repeated request must find its jobs for 24 hours after their end (P6)
            raise ValueError("--retention must be 24 hours or more")
