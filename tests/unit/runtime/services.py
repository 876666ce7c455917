"""A throw-away service, run as a process of its own: `python services.py STORY`."""

import asyncio
import logging
import os
import sys

from farhand.runtime import telemetry
from farhand.runtime.service import Lifecycle, StartupError, run
from farhand.runtime.settings import LogSettings

log = logging.getLogger("story")


async def until_stopped(lifecycle: Lifecycle) -> None:
    """The usual life."""
    lifecycle.ready(address="127.0.0.1:1234", url="postgresql://farhand:secret@127.0.0.1/x", pid=os.getpid())
    await lifecycle.stopping.wait()
    log.info("drained")


async def deaf(lifecycle: Lifecycle) -> None:
    """Does not end when it is told to."""
    lifecycle.ready()
    await lifecycle.stopping.wait()
    print("told once", flush=True)
    await asyncio.Event().wait()


async def misconfigured(lifecycle: Lifecycle) -> None:
    """Can't start, and finds out in a sibling of a group."""

    async def fail() -> None:
        raise StartupError("Port 7401 is in use.")

    async with asyncio.TaskGroup() as group:
        group.create_task(fail())
        group.create_task(asyncio.Event().wait())


async def broken(lifecycle: Lifecycle) -> None:
    """Has a bug."""
    raise KeyError("bug")


async def waiting(lifecycle: Lifecycle) -> None:
    """Waits for something that never comes, until it is told to stop."""
    lifecycle.ready()
    while True:
        await lifecycle.sleep(60)


async def traced(lifecycle: Lifecycle) -> None:
    """Makes one span and logs inside of it."""
    with telemetry.tracer().start_as_current_span("work", attributes={"size": 3}) as span:
        log.info("inside", extra={"traceparent": telemetry.traceparent(span), "job": "j1"})
    log.info("outside")


async def parent(lifecycle: Lifecycle) -> None:
    """Starts `until_stopped` so that it ends with this process, and passes its ready line on."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        "until_stopped",
        env={**os.environ, "FARHAND_PARENT_DEATH": str(os.getpid()), "FARHAND_READY_FD": "1"},
    )
    await child.wait()


if __name__ == "__main__":
    run("story", LogSettings(log_format=os.environ.get("STORY_FORMAT", "json")), globals()[sys.argv[1]])
