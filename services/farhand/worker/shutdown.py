"""Stopping in order: drain, give back, flush, goodbye (design.md, rule 10).

Nothing new is taken; what runs may end, for as long as `--drain-timeout` says.
Then what has not started goes back to its place, and what still runs is killed
and told as abandoned, so that it runs elsewhere at once and not only after a
lease. Results and logs go out before goodbye; what the scheduler does not take in
time stays on disk for the next process of this data folder.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from farhand.worker.agent import ABANDON_GRACE, Agent
from farhand.worker.link import Link
from farhand.worker.log_sender import LogSender

log = logging.getLogger(__name__)

KILL_SECONDS = ABANDON_GRACE + 5.0  # for what is given up to be dead
GREETING_SECONDS = 3.0
FLUSH_SECONDS = 10.0
GOODBYE_SECONDS = 3.0


async def shut_down(agent: Agent, link: Link, logs: LogSender, drain_timeout: float) -> None:
    """Stop; returns when goodbye is said, or can't be said in time."""
    agent.drain()
    log.info("draining", extra={"running": agent.slots.busy, "timeout": drain_timeout})
    # Without a session nothing can be assigned either, and a new one says in its hello that this worker drains.
    # A dial that is under way is waited for, so that a scheduler which welcomes this worker now is told goodbye.
    await _within(GREETING_SECONDS, agent.until(lambda: link.live or not link.dialing))
    idle = agent.until(lambda: agent.slots.busy == 0 and (agent.drained or not link.live))
    if not await _within(drain_timeout, idle):
        log.warning("the drain ran out of time", extra={"running": agent.slots.busy})
        agent.give_up()
        if not await _within(KILL_SECONDS, agent.until(lambda: agent.slots.busy == 0)):
            log.error("processes of jobs don't end", extra={"running": agent.slots.busy})
    if not await _within(FLUSH_SECONDS, _flushed(agent, logs)):
        log.warning(
            "not all is with the scheduler; the next worker of this data folder sends it",
            extra={"results": agent.unsettled(), "logs": logs.unsent},
        )
    await link.leave(GOODBYE_SECONDS)


async def _flushed(agent: Agent, logs: LogSender) -> None:
    await agent.until(lambda: agent.unsettled() == 0)
    await logs.flushed()


async def _within(seconds: float, what: Coroutine[Any, Any, None]) -> bool:
    """Wait for it so long; True where it came."""
    try:
        async with asyncio.timeout(seconds):
            await what
    except TimeoutError:
        return False
    return True
