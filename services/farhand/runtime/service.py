"""The life of a process: from settings to exit code.

    run("registry", settings, main)      # async def main(lifecycle: Lifecycle) -> None

SIGTERM or SIGINT sets `lifecycle.stopping`, and main ends by itself: drain before
stop. A second signal ends the process at once. What a person can mend at start is
a StartupError: one line on stderr, exit 1, no traceback.
"""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import NoReturn

from farhand.kernel.errors import leaves
from farhand.runtime import logs
from farhand.runtime.process_signals import end_with_parent
from farhand.runtime.settings import LogSettings

READY_FD = "FARHAND_READY_FD"
PARENT_DEATH = "FARHAND_PARENT_DEATH"

log = logging.getLogger(__name__)


class StartupError(Exception):
    """The process can't start, and the message says in one line what to do about it."""


class Stopping(Exception):
    """The process was asked to stop while it waited for something; it ends with exit code 0."""


class Lifecycle:
    """What a service's main is given."""

    def __init__(self, name: str, ready_fd: int | None = None) -> None:
        self.name = name
        self.stopping = asyncio.Event()
        self._ready_fd = ready_fd

    def ready(self, **facts: object) -> None:
        """Say that the service now does its work.

        Logs it, and writes one JSON line {"ready": true, **facts} to the file
        descriptor in FARHAND_READY_FD, where there is one, and closes it. A server
        gives `address="HOST:PORT"` with its real port.
        """
        log.info("ready", extra=facts)
        if self._ready_fd is None:
            return
        fd, self._ready_fd = self._ready_fd, None
        try:
            with os.fdopen(fd, "w") as pipe:
                pipe.write(json.dumps({"ready": True, **facts}, default=str) + "\n")
        except OSError:
            # Who waited for it is gone; that is no reason to stop.
            log.warning("nobody reads the ready line")

    async def sleep(self, seconds: float) -> None:
        """Wait so long; raises Stopping as soon as the process is asked to stop."""
        try:
            await asyncio.wait_for(self.stopping.wait(), seconds)
        except TimeoutError:
            return
        raise Stopping


def run(name: str, settings: LogSettings, main: Callable[[Lifecycle], Awaitable[None]]) -> NoReturn:
    """Run a service to its end and exit: 0 after a stop, 1 after an error, 128 + n on a second signal n.

    FARHAND_PARENT_DEATH=PID of the parent in the environment: SIGTERM when that dies.
    """
    if parent := os.environ.pop(PARENT_DEATH, ""):
        end_with_parent(signal.SIGTERM, int(parent))
    ready_fd = os.environ.pop(READY_FD, "")
    logs.configure(name, settings)
    sys.exit(asyncio.run(_live(name, main, int(ready_fd) if ready_fd else None)))


async def _live(name: str, main: Callable[[Lifecycle], Awaitable[None]], ready_fd: int | None) -> int:
    from farhand.runtime import telemetry

    lifecycle = Lifecycle(name, ready_fd)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, lifecycle, number)
    try:
        traces = telemetry.configure(name)
        try:
            await main(lifecycle)
        finally:
            await traces.shutdown()
    except Exception as error:
        inner = list(leaves(error))
        for leaf in inner:
            if isinstance(leaf, StartupError):
                print(f"farhand {name}: {leaf}", file=sys.stderr)
                return 1
        if all(isinstance(leaf, Stopping) for leaf in inner):
            return 0
        log.exception("ended by an error")
        return 1
    return 0


def _on_signal(lifecycle: Lifecycle, number: signal.Signals) -> None:
    if lifecycle.stopping.is_set():
        log.warning("stopped at once", extra={"signal": number.name})
        os._exit(128 + number)
    log.info("stopping", extra={"signal": number.name})
    lifecycle.stopping.set()
