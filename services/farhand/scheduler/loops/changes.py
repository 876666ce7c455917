"""Who waits for a change of which job or execution, in this process.

The loops publish what they committed; waits and watches look at what they watch when
something of it was published. A publication that nobody waits for costs one look
into a dictionary. What another replica commits comes as
`publish_all`, or is found by the watchers' own poll, which is the guarantee: a
publication is only ever a hint to look now.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Watch(asyncio.Event):
    """Set when one of the watched jobs changed, or the watched execution; `changed` says which jobs, since it was
    last asked."""

    def __init__(self, keys: frozenset[int]) -> None:
        super().__init__()
        self.keys = keys
        self._changed: set[int] = set()

    def wake(self, keys: Iterable[int]) -> None:
        """Something happened to these."""
        self._changed.update(keys)
        self.set()

    async def changed(self, timeout: float) -> set[int]:
        """Those that were published since the last call; waits for one, at most `timeout` seconds, and then
        answers that any of them may have changed."""
        try:
            async with asyncio.timeout(timeout):
                await self.wait()
        except TimeoutError:
            return set(self.keys)
        self.clear()
        changed, self._changed = self._changed, set()
        return changed


class Changes:
    """The publications of one process. Not for use from other threads."""

    def __init__(self) -> None:
        self._watches: set[Watch] = set()
        self._of_job: dict[int, set[Watch]] = {}
        self._of_log: dict[int, set[Watch]] = {}
        self._of_execution: dict[int, set[Watch]] = {}

    def publish_executions(self, keys: Iterable[int]) -> None:
        """These executions changed, or their task runs."""
        if self._of_execution:
            for key in keys:
                for watch in self._of_execution.get(key, ()):
                    watch.set()

    def publish_jobs(self, keys: Iterable[int]) -> None:
        """These jobs changed."""
        if self._of_job:
            _publish(self._of_job, keys)

    def publish_log(self, key: int) -> None:
        """The log of this job grew."""
        if self._of_log:
            _publish(self._of_log, (key,))

    def publish_all(self) -> None:
        """Another replica did something, to some job."""
        for watch in self._watches:
            watch.wake(watch.keys)

    def watching(self, key: int) -> frozenset[Watch]:
        """Who watches a job now."""
        return frozenset(self._of_job.get(key, ()))

    @contextmanager
    def watch(self, keys: Iterable[int], *, logs: bool = False) -> Iterator[Watch]:
        """Watch these jobs, and their logs too where `logs` is set, until the block ends."""
        watch = Watch(frozenset(keys))
        self._watches.add(watch)
        places = [self._of_job, self._of_log] if logs else [self._of_job]
        for place in places:
            for key in watch.keys:
                place.setdefault(key, set()).add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)
            for place in places:
                for key in watch.keys:
                    watches = place[key]
                    watches.discard(watch)
                    if not watches:
                        del place[key]

    @contextmanager
    def watch_execution(self, key: int) -> "Iterator[ExecutionWatch]":
        """Watch an execution until the block ends; its jobs are added as they come to be known."""
        watch = Watch(frozenset())
        self._watches.add(watch)
        self._of_execution.setdefault(key, set()).add(watch)
        whole = ExecutionWatch(watch, self._of_job)
        try:
            yield whole
        finally:
            self._watches.discard(watch)
            whole.only(())
            watches = self._of_execution[key]
            watches.discard(watch)
            if not watches:
                del self._of_execution[key]


class ExecutionWatch:
    """Wakes when the execution changed, or one of the jobs that it has now."""

    def __init__(self, watch: Watch, of_job: dict[int, set[Watch]]) -> None:
        self._watch = watch
        self._of_job = of_job
        self._jobs: frozenset[int] = frozenset()

    def only(self, jobs: Iterable[int]) -> bool:
        """From now on these jobs too, and no others. Answers whether one of them is new: then something may have
        happened to it before it was watched."""
        wanted = frozenset(jobs)
        for key in wanted - self._jobs:
            self._of_job.setdefault(key, set()).add(self._watch)
        for key in self._jobs - wanted:
            watches = self._of_job[key]
            watches.discard(self._watch)
            if not watches:
                del self._of_job[key]
        new = not wanted <= self._jobs
        self._jobs = wanted
        return new

    async def changed(self, timeout: float) -> None:
        """Returns at a change since the last call, or after so many seconds."""
        await self._watch.changed(timeout)


def _publish(watched: dict[int, set[Watch]], keys: Iterable[int]) -> None:
    for key in keys:
        for watch in watched.get(key, ()):
            watch.wake((key,))
