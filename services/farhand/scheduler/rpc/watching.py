"""Waits for jobs: until one has ended, or every change of many.

News wakes a wait at once; a poll, spread by chance so that a thousand waits don't
come together, is the guarantee where news got lost.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from farhand.runtime.security import Identity
from farhand.scheduler.core.record import JobRecord
from farhand.scheduler.rpc.ports import Changes
from farhand.scheduler.rpc.visible_jobs import VisibleJobs

POLL_SECONDS = 1.0


class Poll:
    """How long to go without news. `chance` gives numbers from 0 to 1."""

    def __init__(self, chance: Callable[[], float], seconds: float = POLL_SECONDS) -> None:
        self._chance = chance
        self._seconds = seconds

    def pause(self, jobs: int = 1) -> float:
        """Seconds, ± 25 %; more for many jobs, whose reads cost more."""
        return (self._seconds + jobs / 500) * (0.75 + self._chance() / 2)


class Watching:
    """Waits and watches for callers."""

    def __init__(self, jobs: VisibleJobs, changes: Changes, poll: Poll) -> None:
        self._jobs = jobs
        self._changes = changes
        self._poll = poll

    async def wait(self, job_id: str, caller: Identity, timeout: float) -> JobRecord:
        """The job when it has ended, or as it is after so many seconds. Raises NotFound, Unavailable."""
        deadline = asyncio.get_running_loop().time() + timeout
        record = await self._jobs.find(job_id, caller, full=True)
        if record.ended or timeout <= 0:
            return record
        with self._changes.watch([record.key]) as watch:
            while True:
                record = await self._jobs.again(record.key)
                left = deadline - asyncio.get_running_loop().time()
                if record.ended or left <= 0:
                    return await self._jobs.again(record.key, full=True)
                await watch.changed(min(left, self._poll.pause()))

    async def watch(self, job_ids: Sequence[str], caller: Identity) -> AsyncIterator[list[JobRecord]]:
        """The jobs as they are, then those that changed, until all have ended. Raises NotFound, Unavailable."""
        first = await self._jobs.find_all(list(dict.fromkeys(job_ids)), caller)
        keys = [record.key for record in first]
        sent: dict[int, tuple[object, ...]] = {}
        open_jobs = set(keys)
        with self._changes.watch(keys) as watch:
            asked = set(keys)
            while True:
                records = await self._jobs.again_all(sorted(asked))
                open_jobs -= asked - {record.key for record in records}  # cleared away
                changed = [record for record in records if sent.get(record.key) != _shown(record)]
                sent.update((record.key, _shown(record)) for record in changed)
                open_jobs -= {record.key for record in records if record.ended}
                if changed:
                    yield changed
                asked = set()
                while not asked:
                    if not open_jobs:
                        return
                    asked = await watch.changed(self._poll.pause(len(open_jobs))) & open_jobs


def _shown(record: JobRecord) -> tuple[object, ...]:
    return (record.state, record.fence, record.lost, record.started_at, record.kill_at)
