"""Triggers are looked at when they are due, by any replica, in batches, and start executions.

What is due stands in `trigger_due`. A batch is one transaction: it holds the rows of
its triggers, takes away what says that they are due, asks the rules
(`core/trigger.py`), creates executions, and writes how each trigger is from then on
and when to look again. So a tick is in the database together with its execution and
with the trigger's next time, or not at all. A batch that the database refuses is
halved until the bad trigger stands alone, and that one is put off.
"""

import asyncio
import json
import logging
import random
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from asyncpg import Connection, DeadlockDetectedError

from farhand.kernel.errors import Unavailable
from farhand.kernel.flow import Flow
from farhand.runtime.crash_points import reach
from farhand.runtime.database import database_error
from farhand.scheduler.core.tick import FlowName, inputs_of, of_schedule
from farhand.scheduler.core.trigger import Looked, Result, Tick, look
from farhand.scheduler.core.trigger_plan import TriggerPlan
from farhand.scheduler.loops.creating import Creation, StartedBy, create
from farhand.scheduler.loops.group_commit import DEADLOCKS, HotConnection
from farhand.scheduler.loops.waiting import Waiting
from farhand.scheduler.store.executions import read_definitions
from farhand.scheduler.store.triggers import (
    LockedTrigger,
    MovedTrigger,
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

POLL_SECONDS = 1.0
LOOK = 1000  # rows of trigger_due that are looked at together
BATCH = 100  # triggers in one transaction
PUT_OFF_SECONDS = 30.0
KEPT = 512  # flows


class Listener(Protocol):
    """Who wants to know what was committed."""

    def executions_started(self, keys: Sequence[int]) -> None:
        """Triggers created these executions."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A revision of a flow, as executions are created with it."""

    flow: Flow
    definition: str


@dataclass
class _Looking:
    """A trigger in a batch, and what becomes of it."""

    locked: LockedTrigger
    plan: TriggerPlan
    looked: Looked
    started: list[int] = field(default_factory=list)
    wrong: str = ""

    @property
    def moved(self) -> MovedTrigger:
        """Its row from now on."""
        result, message = None, None
        if self.wrong:
            result, message = Result.FAILED, self.wrong
        elif self.started:
            result = Result.FIRED
        elif self.looked.left_out:
            result, message = Result.SKIPPED, "Times were missed, and recoverMissedSchedules leaves them out."
        last = self.started[-1] if self.started else None
        return MovedTrigger(self.locked.key, self.looked.state, self.locked.job_key, last, result, message)


class Triggers:
    """See the module."""

    def __init__(
        self, connection: HotConnection, listener: Listener, *, jitter: Callable[[], float] = random.random
    ) -> None:
        self._connection = connection
        self._listener = listener
        self._jitter = jitter
        self._wake = asyncio.Event()
        self._flows: OrderedDict[int, _Kept] = OrderedDict()
        self._database = Waiting(log, "the database, to look at triggers")

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    async def run(self) -> None:
        """Look at triggers until cancelled."""
        while True:
            self._wake.clear()
            try:
                if await self.once():
                    continue
                timer = await next_trigger(await self._connection.get())
                self._database.over()
                pause = POLL_SECONDS * (0.75 + self._jitter() / 2)
                pause = pause if timer is None else min(pause, timer)
            except Exception as error:
                lost = error if isinstance(error, Unavailable) else database_error(error)
                if lost is None:
                    log.exception("a look at triggers failed; it is made again")
                else:
                    self._database.still(lost.message)
                self._connection.drop()
                pause = 0.2 + self._jitter() / 5
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def once(self) -> bool:
        """Look at what is due now. Answers whether anything was that nobody else looks at. Raises Unavailable."""
        try:
            connection = await self._connection.get()
            keys = sorted(await triggers_due(connection, LOOK))
            looked = False
            for start in range(0, len(keys), BATCH):
                looked |= await self._batch(connection, keys[start : start + BATCH])
            return looked
        except asyncio.CancelledError:
            self._connection.drop()
            raise
        except Exception as error:
            self._connection.drop()
            raise database_error(error) or error from error

    async def _batch(self, connection: Connection, keys: Sequence[int]) -> bool:
        try:
            looking = await self._patiently(connection, keys)
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
        if started := [key for one in looking for key in one.started]:
            self._listener.executions_started(started)
        return bool(looking)

    async def _patiently(self, connection: Connection, keys: Sequence[int]) -> list[_Looking]:
        """A deadlock with another writer changed nothing, so the batch is simply written again."""
        for _ in range(DEADLOCKS):
            try:
                return await self._write(connection, keys)
            except DeadlockDetectedError:
                log.info("a batch of triggers met another writer")
        return await self._write(connection, keys)

    async def _write(self, connection: Connection, keys: Sequence[int]) -> list[_Looking]:
        async with connection.transaction():
            locked = await lock_triggers(connection, keys)
            held = [trigger.key for trigger in locked]
            if len(held) < len(keys):
                await forget_trigger_due(connection, sorted(set(keys) - set(held)))
            if not locked:
                return []
            reach("triggers locked")
            await take_triggers_due(connection, held)
            looking = [_look(trigger) for trigger in locked]
            await self._start(connection, looking)
            await move_triggers(connection, [one.moved for one in looking])
            due = [(one.locked.key, one.looked.due_at) for one in looking if one.looked.due_at is not None]
            await add_triggers_due(connection, due)
            reach("ticks written")
        reach("ticks committed")
        return looking

    # ── executions ──

    async def _start(self, connection: Connection, looking: Sequence[_Looking]) -> None:
        """Create the executions of all ticks, by flow: creating.py, the order of locks."""
        firing = [one for one in looking if one.looked.ticks]
        firing.sort(key=lambda one: (one.locked.tenant, one.locked.namespace, one.locked.flow_id, one.locked.key))
        await self._load(connection, firing)
        creations: list[tuple[_Looking, Creation]] = []
        for one in firing:
            for tick in one.looked.ticks:
                try:
                    creations.append((one, _creation(one, tick, self._flows[one.locked.flow_key])))
                except _Wrong as error:
                    one.wrong = str(error)
        keys = await allot_execution_keys(connection, len(creations))
        for key, (one, creation) in zip(keys, creations, strict=True):
            await create(connection, key, creation)
            one.started.append(key)
        while len(self._flows) > KEPT:
            self._flows.popitem(last=False)

    async def _load(self, connection: Connection, firing: Sequence[_Looking]) -> None:
        wanted = {one.locked.flow_key for one in firing}
        for key in wanted & self._flows.keys():
            self._flows.move_to_end(key)
        if missing := sorted(wanted - self._flows.keys()):
            for key, (_, definition) in (await read_definitions(connection, missing)).items():
                self._flows[key] = _Kept(Flow.from_json(definition), definition)


class _Wrong(Exception):
    """The inputs of an execution are not what its flow takes."""


def _look(trigger: LockedTrigger) -> _Looking:
    plan = TriggerPlan.read(trigger.plan)
    schedule = plan.schedule
    if schedule is None:
        return _Looking(trigger, plan, Looked((), trigger.state, None))
    return _Looking(trigger, plan, look(schedule.cron, schedule.missed, trigger.state, trigger.now))


def _creation(one: _Looking, tick: Tick, kept: _Kept) -> Creation:
    locked, schedule = one.locked, one.plan.schedule
    assert schedule is not None
    told = of_schedule(schedule, tick, locked.state.last_at if tick.backfill == 0 else None)
    given: Mapping[str, Any] = {}
    labels: Mapping[str, str] = {}
    if tick.backfill:
        given = json.loads(locked.backfill_inputs or "{}")
        labels = json.loads(locked.backfill_labels or "{}")
    name = FlowName(locked.tenant, locked.namespace, locked.flow_id, locked.flow_revision)
    inputs, wrong = inputs_of(one.plan, kept.flow, name, told, given)
    if wrong:
        raise _Wrong("It was not started: " + "; ".join(f"{each.path} {each.description}" for each in wrong))
    return Creation(
        locked.tenant,
        kept.flow,
        locked.flow_revision,
        kept.definition,
        inputs,
        labels,
        trigger=told,
        started_by=StartedBy(locked.key, tick.at, tick.backfill),
    )
