"""Settings of the registry service."""

from dataclasses import dataclass

from farhand.kernel.durations import format_duration
from farhand.registry.core.worker_group import DEFAULT_LEASE
from farhand.runtime.settings import DatabaseSettings, ListenSettings, LogSettings, duration, setting


@dataclass(frozen=True, kw_only=True)
class RegistrySettings(LogSettings, ListenSettings, DatabaseSettings):
    """Flags and environment of `farhand server registry`."""

    listen: str = setting("127.0.0.1:7401", "address to listen on, HOST:PORT; beyond loopback it needs TLS and tokens")
    lease_floor: float = setting(10.0, "shortest lease that a worker group may have", kind=duration)
    drain_timeout: float = setting(10.0, "how long a stop waits for calls to end", kind=duration)

    def __post_init__(self) -> None:
        """ValueError for a floor that no group's default lease could stand on."""
        default = DEFAULT_LEASE.total_seconds()
        if not 0.1 <= self.lease_floor <= default:
            raise ValueError(f"--lease-floor must be from 100ms to {format_duration(default)}")
