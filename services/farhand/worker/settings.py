"""Settings of a worker: flags, or FARHAND_… variables. Standard library alone, so that --help answers at once."""

import os
from dataclasses import dataclass
from pathlib import Path

from farhand.kernel.names import check_group_key, check_worker_id, group_key
from farhand.runtime.address import Address
from farhand.runtime.settings import DialSettings, LogSettings, duration, setting, size

MOST_SLOTS = 10_000  # Hello.slots


def _addresses(text: str) -> tuple[str, ...]:
    addresses = tuple(part.strip() for part in text.split(",") if part.strip())
    if not addresses:
        raise ValueError("name at least one scheduler, HOST:PORT")
    return tuple(str(Address.parse(address)) for address in addresses)


def _group(text: str) -> str:
    key = group_key(text)
    if key and (violations := check_group_key("worker group", key)):
        raise ValueError(f"{violations[0].path} {violations[0].description}")
    return key


def _worker_id(text: str) -> str:
    if violations := check_worker_id("worker id", text):
        raise ValueError(f"{violations[0].path} {violations[0].description}")
    return text


def _socket(text: str) -> str:
    path = text.removeprefix("unix://")
    if not path.startswith("/"):
        raise ValueError(f"{text!r} is not the absolute path of a unix socket")
    return path


def _slots(text: str) -> int:
    slots = int(text)
    if not 1 <= slots <= MOST_SLOTS:
        raise ValueError(f"{slots} is not between 1 and {MOST_SLOTS}")
    return slots


@dataclass(frozen=True, kw_only=True)
class WorkerSettings(LogSettings, DialSettings):
    """What `farhand server worker` is told."""

    scheduler: tuple[str, ...] = setting(
        ("127.0.0.1:7402",),
        "the scheduler's address, HOST:PORT; several, separated by commas, are tried in turn",
        kind=_addresses,
    )
    worker_group: str = setting("", "key of the group to work for (default: the default group)", kind=_group)
    slots: int = setting(os.cpu_count() or 1, "how many jobs run at once, 1 to 10000", kind=_slots)
    worker_id: str | None = setting(
        None,
        "name of this worker, the same over restarts (default: HOST-RANDOM, kept in the data folder)",
        kind=_worker_id,
    )
    data: Path | None = setting(
        None,
        "folder for what must outlive this process: results and logs on their way, working folders; one worker each "
        "(default: ~/.local/share/farhand/workers/GROUP-N)",
        kind=Path,
    )
    drain_timeout: float = setting(
        60.0,
        "how long a stop (SIGTERM) waits for running jobs; what then still runs is killed and runs again elsewhere",
        kind=duration,
    )
    min_disk: int = setting(
        64 << 20,
        "free space of the data folder's disk below which no new jobs are taken, e.g. 1GiB; 0: none",
        kind=size,
    )
    min_memory: int = setting(
        64 << 20, "available memory below which no new jobs are taken, e.g. 512MiB; 0: none", kind=size
    )
    file_cache: int = setting(
        1 << 30,
        "how much of namespace files is kept in the data folder, so that they need not come again, e.g. 10GiB; 0: none",
        kind=size,
    )
    docker_socket: str = setting(
        "/var/run/docker.sock",
        "where the task runner Docker finds Docker's API, or Podman's: the path of a unix socket",
        kind=_socket,
    )
    docker_timeout: float = setting(
        30.0, "how long Docker may be silent before a container's task fails, e.g. 1m", kind=duration
    )
    docker_allow_volumes: bool = setting(
        False, "tasks may mount this machine's folders into their containers, and so read and write them as root"
    )
    max_log_bytes: int = setting(
        10 << 20, "how much output of one job is kept, e.g. 10MiB; the rest is cut and the cut is marked", kind=size
    )
