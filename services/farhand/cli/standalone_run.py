"""A mesh for as long as something goes on: start, the story, stop; and what Ctrl-C means meanwhile."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine

from farhand.cli.standalone_mesh import StandaloneMesh
from farhand.cli.standalone_output import Output

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def run_mesh(mesh: StandaloneMesh, output: Output, story: Callable[[], Awaitable[None]]) -> int:
    """Start the mesh, await the story, stop the mesh; returns how many signals came.

    The first SIGINT, SIGTERM or SIGHUP cancels the start or the story, and the mesh
    stops in order; a further one kills it. An error of either comes out after the
    stop.
    """
    ending = asyncio.Event()
    signals = 0

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            output.notice("stopping; running jobs may finish (once more kills all)")
            ending.set()
        else:
            output.notice("killing all")
            mesh.kill()

    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal)
    failure: Exception | None = None
    async with asyncio.TaskGroup() as tasks:
        try:
            await _until(ending, _start_and_tell(mesh, tasks, story))
        except Exception as error:
            failure = error  # raised in here it would come out as a group
        finally:
            await mesh.stop()
    if failure is not None:
        raise failure
    return signals


async def _start_and_tell(mesh: StandaloneMesh, tasks: asyncio.TaskGroup, story: Callable[[], Awaitable[None]]) -> None:
    await mesh.start(tasks)
    await story()


async def _until(ending: asyncio.Event, work: Coroutine[None, None, None]) -> None:
    """Await the work, or cancel it when the event is set."""
    task = asyncio.ensure_future(work)
    ended = asyncio.ensure_future(ending.wait())
    try:
        await asyncio.wait([task, ended], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        ended.cancel()
        task.cancel()
        await asyncio.wait([task, ended])
