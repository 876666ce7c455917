"""Evaluations of polling triggers: queued, ended, and read when they ended.

Each method works inside of the transaction in which the loop of triggers looks at a
batch, and holds the triggers' rows. The rules are `core/polling.py`; the job of an
evaluation is queued as one of an execution is, under the lock of its group, so that
its fallback is decided with what is true until the commit (P10, P11).
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asyncpg import Connection, Record

from farhand.kernel.durations import format_duration
from farhand.kernel.flow import Declaration, Flow
from farhand.runtime.crash_points import reach
from farhand.scheduler.core.declared import Declared
from farhand.scheduler.core.evaluation_plan import EvaluationPlan, outer_of
from farhand.scheduler.core.job import JobState
from farhand.scheduler.core.polling import Act, Evaluation, Polled, poll, refused
from farhand.scheduler.core.preparation import Prepared, too_large
from farhand.scheduler.core.task_run import Refused
from farhand.scheduler.core.trigger import Result
from farhand.scheduler.loops.creating import StartedBy
from farhand.scheduler.loops.enqueue import FALLBACK_LETTER, refusal_of
from farhand.scheduler.loops.firing import Firing, Looking
from farhand.scheduler.loops.kills import KILLED
from farhand.scheduler.loops.stepping import GRACE_MS, LanesMissing
from farhand.scheduler.store.executions import MarkedKill, kill_jobs
from farhand.scheduler.store.groups import EncodeLog, Ending, end_waiting
from farhand.scheduler.store.queue import Lanes, NewJob, allot_keys, apply_fallbacks, insert_jobs
from farhand.scheduler.store.sql import SQL
from farhand.scheduler.store.tenant_quotas import queue_room
from farhand.scheduler.store.triggers import (
    any_orphaned_evaluations,
    evaluations_to_forget,
    executions_that_run,
    move_evaluations,
    read_evaluations,
    take_orphaned_evaluations,
)
from farhand.scheduler.store.upkeep import forget_jobs

log = logging.getLogger(__name__)

KEPT = 20_000  # plans, a few KiB each
ORPHANS = 100  # that are ended together
GROUP_WAIT_TIMEOUT = "GROUP_WAIT_TIMEOUT"


@dataclass
class Evaluated:
    """What a batch came to, for those who are to be told."""

    groups: set[str] = field(default_factory=set)  # in which evaluations wait
    ended: list[int] = field(default_factory=list)  # evaluations that ended without a worker
    killed: list[MarkedKill] = field(default_factory=list)  # evaluations that workers are to end


@dataclass
class PollingLook:
    """A polling trigger in a batch, and what follows."""

    looking: Looking
    plan: EvaluationPlan
    polled: Polled
    prepared: Prepared | None = None

    @property
    def counted(self) -> bool:
        """Whether what its evaluation left is kept: not so if it fired and its execution was refused."""
        return self.polled.seen is not None and (not self.polled.seen.fired or bool(self.looking.started))


@dataclass(frozen=True, slots=True)
class _Kept:
    flow_key: int
    plan: str
    outer: Sequence[Declaration]
    made: EvaluationPlan


class Evaluations:
    """See the module. `payload_limit`: bytes of a serialized task."""

    def __init__(
        self,
        declared: Callable[[], Declared],
        *,
        writer: str,
        encode_log: EncodeLog,
        encode_task: Callable[[Prepared], bytes],
        decode_outputs: Callable[[bytes], Mapping[str, Any]],
        payload_limit: int,
    ) -> None:
        self._declared = declared
        self._writer = writer
        self._encode_log = encode_log
        self._encode_task = encode_task
        self._decode_outputs = decode_outputs
        self._payload_limit = payload_limit
        self._lanes = Lanes()
        self._plans: OrderedDict[int, _Kept] = OrderedDict()

    async def make_lanes(self, connection: Connection, missing: LanesMissing) -> None:
        """What a batch lacked: outside of its transaction, which was undone and is to be begun again."""
        await self._lanes.ids(connection, missing.names)

    def unplanned(self, batch: Iterable[Looking]) -> set[int]:
        """The flow keys of those that can be looked at only with their flow."""
        return {one.locked.flow_key for one in batch if self._kept(one) is None}

    async def look(
        self, connection: Connection, batch: Sequence[Looking], flows: Mapping[int, Flow]
    ) -> list[PollingLook]:
        """Ask the rules, and say of each how it is from now on. `flows`: the unplanned ones."""
        if not batch:
            return []
        rows = await read_evaluations(connection, [one.job_key for one in batch if one.job_key is not None])
        last = {one.locked.execution_key for one in batch if not one.plan.trigger.allow_concurrent} - {None}
        running = await executions_that_run(connection, sorted(key for key in last if key is not None))
        return [self._look(one, rows, running, flows) for one in batch]

    def _look(
        self, one: Looking, rows: Mapping[int, Record], running: set[int], flows: Mapping[int, Flow]
    ) -> PollingLook:
        locked, plan = one.locked, self._plan(one, flows)
        evaluation = None
        if one.job_key is not None:
            row = rows[one.job_key]
            state = None if row["state"] is None else JobState(row["state"])
            wanted = state in (JobState.SUCCESS, JobState.WARNING) and row["outputs"] is not None
            outputs = self._decode_outputs(row["outputs"]) if wanted else None
            evaluation = Evaluation(state, row["reason"] or "", row["message"] or "", outputs, locked.job_stale)
        runs = locked.execution_key in running
        polled = poll(plan.polling, one.state, evaluation, runs, locked.now)
        if polled.act is Act.FIRE:
            assert polled.seen is not None
            started_by = StartedBy(locked.key, polled.state.last_at, evaluation_job_key=one.job_key)
            one.firings.append(Firing(polled.seen.variables, started_by))
        polling = PollingLook(one, plan, polled)
        self._follow(polling, polled)
        if polled.act is Act.EVALUATE:
            self._prepare(polling)
        return polling

    def _prepare(self, polling: PollingLook) -> None:
        prepared = polling.plan.prepare(polling.looking.locked.remembered, self._declared())
        if isinstance(prepared, Refused):
            self._refuse(polling, prepared.message)
        else:
            polling.prepared = prepared

    def _refuse(self, polling: PollingLook, message: str) -> None:
        looking = polling.looking
        polling.prepared = None
        over = polling.polled.over
        self._follow(polling, refused(looking.state, polling.plan.polling, message, looking.locked.now, over=over))

    @staticmethod
    def _follow(polling: PollingLook, polled: Polled) -> None:
        looking = polling.looking
        polling.polled = polled
        looking.state, looking.due_at = polled.state, polled.due_at
        if polled.result is not None:
            looking.result, looking.message = polled.result, polled.message or None
        looking.job_key = None if polled.over else looking.locked.job_key

    async def write(self, connection: Connection, batch: Sequence[PollingLook]) -> Evaluated:
        """Queue evaluations, end others, forget those before; after the executions of the batch were created. Raises
        LanesMissing."""
        evaluated = Evaluated()
        await self._queue(connection, batch, evaluated)
        await self._end(connection, batch, evaluated)
        over = [one for one in batch if one.polled.over]
        await move_evaluations(
            connection,
            [
                (
                    one.looking.locked.key,
                    one.looking.locked.job_key,
                    one.polled.seen.state if one.counted and one.polled.seen is not None else None,
                )
                for one in over
            ],
        )
        before = [key for one in over if (key := one.looking.locked.last_job_key) is not None]
        if forgotten := await evaluations_to_forget(connection, before):
            await forget_jobs(connection, forgotten)
        return evaluated

    async def end_orphans(self, connection: Connection) -> Evaluated:
        """End evaluations of triggers that are no more, a batch at a time, in a transaction of their own."""
        evaluated = Evaluated()
        if not await any_orphaned_evaluations(connection):
            return evaluated
        async with connection.transaction():
            if keys := await take_orphaned_evaluations(connection, ORPHANS):
                ended, killed = await kill_jobs(connection, keys, GRACE_MS, KILLED, self._writer)
                evaluated.ended, evaluated.killed = ended, killed
        return evaluated

    async def _queue(self, connection: Connection, batch: Sequence[PollingLook], evaluated: Evaluated) -> None:
        wanted = sorted({one.prepared.placement.group_uid for one in batch if one.prepared is not None})
        if not wanted:
            return
        groups = {row["uid"]: row for row in await connection.fetch(SQL["lock_groups_for_enqueue"], wanted)}
        new: list[tuple[PollingLook, NewJob]] = []
        for one in batch:
            if one.prepared is not None and (job := self._job(one, one.prepared, groups)) is not None:
                new.append((one, job))
        new = await self._with_room(connection, groups, new)
        names = {(job.group_uid, job.tenant, job.task_type) for _, job in new}
        if missing := self._lanes.missing(names):
            raise LanesMissing(missing)
        lane_of = await self._lanes.ids(connection, names)
        keys = await allot_keys(connection, len(new))
        for key, (one, _) in zip(keys, new, strict=True):
            one.looking.job_key = key
        if not new:
            return
        jobs = [job for _, job in new]
        lanes = [lane_of[job.group_uid, job.tenant, job.task_type] for job in jobs]
        await insert_jobs(connection, keys, lanes, jobs, self._writer)
        evaluated.groups = {job.group_uid for job in jobs}

        evaluated.ended += await apply_fallbacks(
            connection,
            list(zip(lanes, keys, jobs, strict=True)),
            {uid: row["key"] for uid, row in groups.items()},
            self._writer,
            self._encode_log,
        )
        for one, _ in new:
            if one.looking.job_key in evaluated.ended:  # no row of a trigger had its key yet, to make that one due
                one.looking.due_at = one.looking.locked.now
        reach("evaluations queued")

    async def _with_room(
        self, connection: Connection, groups: Mapping[str, Record], new: Sequence[tuple[PollingLook, NewJob]]
    ) -> list[tuple[PollingLook, NewJob]]:
        """Those that find room in their queues (P13); the others are tried again with the next interval."""
        room = await queue_room(connection, groups, {(job.group_uid, job.tenant) for _, job in new})
        found: list[tuple[PollingLook, NewJob]] = []
        for one, job in new:
            if (error := room.take(job.group_uid, job.tenant)) is None:
                found.append((one, job))
            else:
                self._refuse(one, error.message)
        return found

    def _job(self, one: PollingLook, prepared: Prepared, groups: Mapping[str, Record]) -> NewJob | None:
        locked, uid = one.looking.locked, prepared.placement.group_uid
        if (error := refusal_of(groups.get(uid), locked.tenant)) is not None:
            self._refuse(one, error.message)
            return None
        task = self._encode_task(prepared)
        if len(task) > self._payload_limit:
            self._refuse(one, too_large(len(task), self._payload_limit, prepared).message)
            return None
        fallback = FALLBACK_LETTER[prepared.placement.fallback]
        return NewJob(
            uid, locked.tenant, prepared.type, fallback, prepared.max_deliveries, locked.namespace, None, task
        )

    async def _end(self, connection: Connection, batch: Sequence[PollingLook], evaluated: Evaluated) -> None:
        def of(act: Act) -> list[int]:
            return sorted(one.looking.job_key for one in batch if one.polled.act is act and one.looking.job_key)

        if kill := of(Act.END):
            ended, killed = await kill_jobs(connection, kill, GRACE_MS, KILLED, self._writer)
            evaluated.ended += ended
            evaluated.killed += killed
        for one in batch:
            if one.polled.act is Act.GIVE_UP and one.looking.job_key is not None:
                evaluated.ended += await self._give_up(connection, one, one.looking.job_key)

    async def _give_up(self, connection: Connection, one: PollingLook, job_key: int) -> list[int]:
        limit = one.plan.polling.wait_limit
        assert limit is not None
        message = (
            f"No worker took the evaluation within {format_duration(limit.total_seconds())} (workerGroup.timeout)."
        )
        ending = Ending("FAILED", GROUP_WAIT_TIMEOUT, message, self._encode_log(message))
        places = [(row["lane_id"], row["key"]) for row in await connection.fetch(SQL["places_of_jobs"], [job_key])]
        return await end_waiting(connection, places, ending, self._writer)

    # ── plans ──

    def _kept(self, one: Looking) -> _Kept | None:
        kept, locked = self._plans.get(one.locked.key), one.locked
        if kept is None or (kept.flow_key, kept.plan) != (locked.flow_key, locked.plan):
            return None
        return kept if kept.outer == outer_of(locked.namespace, locked.tenant, self._declared()) else None

    def _plan(self, one: Looking, flows: Mapping[int, Flow]) -> EvaluationPlan:
        if (kept := self._kept(one)) is not None:
            self._plans.move_to_end(one.locked.key)
            return kept.made
        locked = one.locked
        outer = outer_of(locked.namespace, locked.tenant, self._declared())
        flow = flows[locked.flow_key]
        made = EvaluationPlan.of(flow, one.flow_name, one.plan.trigger, outer)
        self._plans[locked.key] = _Kept(locked.flow_key, locked.plan, outer, made)
        if len(self._plans) > KEPT:
            self._plans.popitem(last=False)
        return made


def tell(batch: Iterable[PollingLook]) -> None:
    """Lines for whoever reads the log, of evaluations that were skipped or failed; once it is committed."""
    for one in batch:
        result, message = one.looking.result, one.looking.message
        if result is Result.FAILED or (result is Result.SKIPPED and one.polled.result is not None):
            level = logging.ERROR if one.polled.loud or result is Result.FAILED else logging.INFO
            what = "failed" if result is Result.FAILED else "was skipped"
            log.log(level, "an evaluation of a trigger %s", what, extra={"trigger": one.looking.name, "why": message})
