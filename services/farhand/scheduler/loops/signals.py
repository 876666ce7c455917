"""What one loop tells the others: here, at once; in other replicas, by the doorbell.

Every message is a hint to look. What is true stands in the database.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from farhand.kernel.errors import Unavailable
from farhand.scheduler.loops import tracing
from farhand.scheduler.loops.changes import Changes
from farhand.scheduler.loops.dispatch import Dispatch
from farhand.scheduler.loops.doorbell import Doorbell, Ring
from farhand.scheduler.loops.evaluations import Evaluated
from farhand.scheduler.loops.frames import Cancels
from farhand.scheduler.loops.kills import Kills
from farhand.scheduler.loops.sessions import Sessions
from farhand.scheduler.loops.stepping import GRACE_MS, Stepped
from farhand.scheduler.loops.stream import Streams
from farhand.scheduler.store.executions import MarkedKill

log = logging.getLogger(__name__)


@dataclass
class Signals:
    """See the module. The loops are joined to it by the bootstrap after they are made."""

    changes: Changes
    streams: Streams
    dispatch: Dispatch = field(init=False)
    doorbell: Doorbell = field(init=False)
    sessions: Sessions = field(init=False)
    kills: Kills = field(init=False)
    refresh_copy: Callable[[], Awaitable[None]] = field(init=False)
    on_groups: Callable[[frozenset[str]], object] = field(init=False)
    wake_steps: Callable[[], None] = field(default=lambda: None)
    bounds_running: Callable[[str], bool] = field(default=lambda _: False)  # whether a quota of the group (uid) does
    wake_triggers: Callable[[], None] = field(default=lambda: None)
    wake_triggered_flows: Callable[[], None] = field(default=lambda: None)
    on_word: Callable[[Ring], None] = field(default=lambda _: None)
    _errands: "asyncio.Queue[Ring]" = field(default_factory=asyncio.Queue)

    def enqueued(self, groups: Iterable[str], ended: Sequence[int]) -> None:
        """Jobs wait in these groups (uids); these jobs (keys) ended at once."""
        groups = set(groups)
        self.dispatch.wake(groups)
        self.jobs_ended(ended)
        self.doorbell.ring(groups=groups)

    def moved(self, groups: Sequence[str], ended: Sequence[int], returned: Sequence[int]) -> None:
        """In these groups these jobs ended, and these wait again."""
        self.dispatch.wake(groups)
        self.jobs_ended([*ended, *returned])
        if returned or any(map(self.bounds_running, groups)):
            self.doorbell.ring(groups=set(groups))

    def room_made(self, group: str) -> None:
        """Jobs of this group (uid) ended. Where a quota bounds how many a tenant may have running, another may go now,
        to a worker of any replica; elsewhere the credit of the worker that it leaves is all there is to see."""
        if self.bounds_running(group):
            self.dispatch.wake([group])
            self.doorbell.ring(groups={group})

    def jobs_changed(self, keys: Collection[int]) -> None:
        """These jobs are not where they were."""
        if keys:
            self.changes.publish_jobs(keys)
            self.doorbell.ring(jobs=True)

    def jobs_ended(self, keys: Collection[int]) -> None:
        """These jobs ended, or wait again; executions and triggers may wait for that."""
        self.jobs_changed(keys)
        if keys:
            self.wake_steps()
            self.wake_triggers()

    def execution_due(self, key: int) -> None:
        """This execution was created, or is to be ended."""
        self.changes.publish_executions([key])
        self.wake_steps()
        self.doorbell.ring(jobs=True)

    def evaluations_moved(self, evaluated: Evaluated) -> None:
        """Evaluations wait, ended, or are to be killed."""
        if evaluated.groups:
            self.dispatch.wake(evaluated.groups)
            self.doorbell.ring(groups=evaluated.groups)
        self.jobs_ended(evaluated.ended)
        self.send_kills(evaluated.killed)

    def executions_started(self, keys: Sequence[int]) -> None:
        """Triggers created these executions."""
        self.changes.publish_executions(keys)
        self.wake_steps()
        self.doorbell.ring(jobs=True)

    def trigger_due(self) -> None:
        """A trigger was changed by somebody, and is to be looked at."""
        self.wake_triggers()

    def triggers_declared(self) -> None:
        """Flows with triggers came, changed or went."""
        self.wake_triggered_flows()

    def stepped(self, stepped: Stepped) -> None:
        """Executions moved; jobs wait, ended, or are to be killed."""
        if stepped.groups:
            self.dispatch.wake(stepped.groups)
            self.doorbell.ring(groups=stepped.groups)
        self.jobs_ended(stepped.ended)
        self.send_kills(stepped.killed)
        self.changes.publish_executions(stepped.executions)
        self.doorbell.ring(jobs=True)
        for execution, state in stepped.over:
            tracing.execution_ended(execution, state)
        if any(execution.trigger is not None for execution, _ in stepped.over):
            self.wake_triggers()

    def send_kills(self, jobs: Sequence[MarkedKill]) -> None:
        """Workers are to end these jobs."""
        by_session: dict[int, list[tuple[int, int, int]]] = {}
        for job in jobs:
            by_session.setdefault(job.session_id, []).append((job.key, job.fence, GRACE_MS))
        for session_id, cancels in by_session.items():
            if (stream := self.streams.get(session_id)) is not None:
                stream.put(Cancels(cancels))
        if jobs:
            self.changes.publish_jobs([job.key for job in jobs])
            self.doorbell.ring(kills=True, jobs=True)

    def log_grew(self, key: int) -> None:
        """The log of this job has more."""
        self.changes.publish_log(key)
        self.doorbell.ring(jobs=True)

    def killed(self, key: int) -> None:
        """This job ended, or is to be ended, or will not start."""
        self.changes.publish_jobs([key])
        self.wake_steps()
        self.wake_triggers()
        self.doorbell.ring(kills=True, jobs=True)

    def sessions_changed(self, sessions: Sequence[int]) -> None:
        """Whoever holds the streams of these is to look."""
        self.doorbell.ring(sessions=set(sessions))

    def groups_changed(self, groups: frozenset[str]) -> None:
        """These groups are declared otherwise than before."""
        self.dispatch.wake(groups)
        self.on_groups(groups)

    async def settled(self) -> None:
        """Returns when no claim is on its way to an outbox."""
        await self.dispatch.settled()

    def heard(self, ring: Ring) -> None:
        """Another replica rang."""
        self.on_word(ring)
        if ring.everything:
            self.wake_steps()
            self.wake_triggers()
            self.dispatch.wake(self.streams.groups())
        else:
            self.dispatch.wake(ring.groups)
        if ring.jobs or ring.everything:
            self.changes.publish_all()
        if ring.kills or ring.sessions or ring.everything:
            self._errands.put_nowait(ring)

    async def run(self) -> None:
        """Run errands that need the database, until cancelled; what fails, the janitor does a second later."""
        while True:
            ring = await self._errands.get()
            try:
                if ring.everything:
                    await self.refresh_copy()
                if ring.kills or ring.everything:
                    await self.kills.resend()
                local = [stream.session_id for stream in self.streams.all()]
                await self.sessions.recheck(local if ring.everything else sorted(ring.sessions))
            except Unavailable:
                continue
            except Exception:
                log.exception("an errand failed; the janitor does it")
