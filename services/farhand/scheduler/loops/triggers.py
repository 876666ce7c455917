"""Triggers are looked at when they are due, by any replica, in batches, and start executions.

What is due stands in `trigger_due`. A batch is one transaction: it holds the rows of
its triggers, takes away what says that they are due, asks the rules
(`core/trigger.py`, `core/polling.py`), creates executions and evaluations, and writes
how each trigger is from then on and when to look again. So a tick, or what an
evaluation saw, is in the database together with its execution and with the trigger's
next time, or not at all. A batch that the database refuses is
halved until the bad trigger stands alone, and that one is put off.
"""

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from asyncpg import Connection, DeadlockDetectedError

from farhand.kernel.errors import Unavailable
from farhand.kernel.flow import Flow
from farhand.runtime.crash_points import reach
from farhand.runtime.database import database_error
from farhand.scheduler.core.tick import of_schedule
from farhand.scheduler.core.trigger import Result, Tick, look, stopped
from farhand.scheduler.core.trigger_plan import SchedulePlan
from farhand.scheduler.loops.creating import Creation, StartedBy, create
from farhand.scheduler.loops.due_work import DueWork
from farhand.scheduler.loops.evaluations import Evaluated, Evaluations, tell
from farhand.scheduler.loops.firing import Firing, InputsRefused, KeptFlow, Looking
from farhand.scheduler.loops.group_commit import DEADLOCKS, HotConnection
from farhand.scheduler.loops.secret_inputs import NO_SECRETS
from farhand.scheduler.loops.stepping import LanesMissing
from farhand.scheduler.store.executions import read_definitions
from farhand.scheduler.store.triggers import (
    add_triggers_due,
    allot_execution_keys,
    forget_trigger_due,
    lock_triggers,
    move_triggers,
    next_trigger,
    put_off_trigger,
    take_triggers_due,
    triggers_due,
)

log = logging.getLogger(__name__)

GATHER_SECONDS = 0.2  # between looks: a look costs much by itself, and little for each trigger
LOOK = 1000  # rows of trigger_due that are looked at together
BATCH = 100  # triggers in one transaction
PUT_OFF_SECONDS = 30.0
KEPT = 512  # flows


class Listener(Protocol):
    """Who wants to know what was committed."""

    def executions_started(self, keys: Sequence[int]) -> None:
        """Triggers created these executions."""

    def evaluations_moved(self, evaluated: Evaluated) -> None:
        """Evaluations wait, ended, or are to be killed."""


class _Batch(NamedTuple):
    """What a transaction came to."""

    looking: list[Looking]
    evaluated: Evaluated


class Triggers:
    """See the module."""

    def __init__(
        self,
        connection: HotConnection,
        evaluations: Evaluations,
        listener: Listener,
    ) -> None:
        self._connection = connection
        self._evaluations = evaluations
        self._listener = listener
        self._flows: OrderedDict[int, KeptFlow] = OrderedDict()
        self._work = DueWork("triggers", connection, self.once, next_trigger, log, gather=GATHER_SECONDS)
        self.wake = self._work.wake
        self.run = self._work.run

    async def once(self) -> bool:
        """Look at what is due now. Answers whether anything was that nobody else looks at. Raises Unavailable."""
        try:
            connection = await self._connection.get()
            keys = sorted(await triggers_due(connection, LOOK))
            looked = False
            for start in range(0, len(keys), BATCH):
                looked |= await self._batch(connection, keys[start : start + BATCH])
            if not looked:
                self._listener.evaluations_moved(await self._evaluations.end_orphans(connection))
            return looked
        except asyncio.CancelledError:
            self._connection.drop()
            raise
        except Exception as error:
            self._connection.drop()
            raise database_error(error) or error from error

    async def _batch(self, connection: Connection, keys: Sequence[int]) -> bool:
        try:
            batch = await self._patiently(connection, keys)
        except Exception as error:
            if isinstance(error, Unavailable) or database_error(error) is not None or connection.is_closed():
                raise
            if len(keys) == 1:
                log.exception("a trigger can't be looked at; it is put off", extra={"trigger": keys[0]})
                await put_off_trigger(connection, keys[0], PUT_OFF_SECONDS)
                return False
            half = len(keys) // 2
            first = await self._batch(connection, keys[:half])
            return await self._batch(connection, keys[half:]) or first
        if started := [key for one in batch.looking for key in one.started]:
            self._listener.executions_started(started)
        self._listener.evaluations_moved(batch.evaluated)
        return bool(batch.looking)

    async def _patiently(self, connection: Connection, keys: Sequence[int]) -> _Batch:
        """A deadlock with another writer changed nothing, so the batch is simply written again."""
        for _ in range(DEADLOCKS):
            try:
                return await self._write(connection, keys)
            except DeadlockDetectedError:
                log.info("a batch of triggers met another writer")
        return await self._write(connection, keys)

    async def _write(self, connection: Connection, keys: Sequence[int]) -> _Batch:
        while True:
            try:
                return await self._transaction(connection, keys)
            except LanesMissing as missing:
                await self._evaluations.make_lanes(connection, missing)

    async def _transaction(self, connection: Connection, keys: Sequence[int]) -> _Batch:
        async with connection.transaction():
            locked = await lock_triggers(connection, keys)
            held = [trigger.key for trigger in locked]
            if len(held) < len(keys):
                await forget_trigger_due(connection, sorted(set(keys) - set(held)))
            if not locked:
                return _Batch([], Evaluated())
            reach("triggers locked")
            ended = await take_triggers_due(connection, held)
            looking = [Looking.at(trigger) for trigger in locked]
            for one in looking:
                _stop(one, ended.get(one.locked.key, ()))
                if (schedule := one.plan.schedule) is not None:
                    _look(one, schedule)
            polling = [one for one in looking if one.plan.schedule is None]
            await self._load(connection, self._evaluations.unplanned(polling))
            polled = await self._evaluations.look(
                connection, polling, {key: kept.flow for key, kept in self._flows.items()}
            )
            await self._start(connection, looking)
            evaluated = await self._evaluations.write(connection, polled)
            await move_triggers(connection, [one.moved for one in looking])
            due = [(one.locked.key, one.due_at) for one in looking if one.due_at is not None]
            await add_triggers_due(connection, due)
            reach("ticks written")
        reach("ticks committed")
        tell(polled)
        return _Batch(looking, evaluated)

    # ── executions ──

    async def _start(self, connection: Connection, looking: Sequence[Looking]) -> None:
        """Create the executions of all that fire, by flow: creating.py, the order of locks."""
        firing = [one for one in looking if one.firings]
        firing.sort(key=lambda one: (one.locked.tenant, one.locked.namespace, one.locked.flow_id, one.locked.key))
        await self._load(connection, {one.locked.flow_key for one in firing})
        creations: list[tuple[Looking, Creation]] = []
        for one in firing:
            for each in one.firings:
                try:
                    creations.append((one, one.creation(each, self._flows[one.locked.flow_key])))
                except InputsRefused as error:
                    one.result, one.message = Result.FAILED, str(error)
        keys = await allot_execution_keys(connection, len(creations))
        for key, (one, creation) in zip(keys, creations, strict=True):
            await create(connection, key, creation, NO_SECRETS)
            one.started.append(key)
        while len(self._flows) > KEPT:
            self._flows.popitem(last=False)

    async def _load(self, connection: Connection, wanted: set[int]) -> None:
        for key in wanted & self._flows.keys():
            self._flows.move_to_end(key)
        if missing := sorted(wanted - self._flows.keys()):
            for key, (_, definition) in (await read_definitions(connection, missing)).items():
                self._flows[key] = KeptFlow(Flow.from_json(definition), definition)


def _stop(one: Looking, ended: Collection[str]) -> None:
    """After an execution of it ended as its definition names it."""
    one.state = stopped(one.state, one.plan.trigger.stop_after, ended)
    if one.state is not one.locked.state:
        ends = " and ".join(sorted(set(ended).intersection(one.plan.trigger.stop_after)))
        one.result = Result.SKIPPED
        one.message = f"It was disabled after an execution of it ended {ends} (stopAfter). Enable it to go on."


def _look(one: Looking, schedule: SchedulePlan) -> None:
    looked = look(schedule.cron, schedule.missed, one.state, one.locked.now)
    one.firings = [_firing(one, schedule, tick) for tick in looked.ticks]
    one.state, one.due_at = looked.state, looked.due_at
    if one.firings:
        one.result = Result.FIRED
    elif looked.left_out:
        one.result, one.message = Result.SKIPPED, "Times were missed, and recoverMissedSchedules leaves them out."


def _firing(one: Looking, schedule: SchedulePlan, tick: Tick) -> Firing:
    locked = one.locked
    inputs: Mapping[str, Any] = {}
    labels: Mapping[str, str] = {}
    if tick.backfill:
        inputs = json.loads(locked.backfill_inputs or "{}")
        labels = json.loads(locked.backfill_labels or "{}")
    told = of_schedule(schedule, tick, locked.state.last_at if tick.backfill == 0 else None)
    return Firing(told, StartedBy(locked.key, tick.at, tick.backfill), inputs, labels)
