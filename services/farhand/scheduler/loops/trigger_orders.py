"""What people do to triggers: enable, disable, evaluate, unlock, and start their past once more.

Each order is one transaction under the trigger's row, and leaves it due, so that a look
carries out what was asked. The rules are those of `core/trigger.py`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import asyncpg

from farhand.kernel.errors import BackfillRunning, InvalidArgument, NotFound, TriggerDisabled, Violation
from farhand.kernel.flow import Flow
from farhand.runtime.database import database_error
from farhand.scheduler.core.tick import FlowName, inputs_of, of_schedule
from farhand.scheduler.core.trigger import (
    BackfillState,
    DisabledBy,
    State,
    Tick,
    asked,
    backfill_becomes,
    begin_backfill,
    disabled,
    enabled,
)
from farhand.scheduler.core.trigger_plan import SchedulePlan, TriggerPlan
from farhand.scheduler.loops.stepping import GRACE_MS
from farhand.scheduler.store.executions import read_definitions
from farhand.scheduler.store.triggers import (
    LockedTrigger,
    MovedTrigger,
    add_triggers_due,
    lock_trigger,
    move_triggers,
    note_backfill,
)

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_WINDOW = timedelta(days=3660)


class Listener(Protocol):
    """Who wants to know."""

    def trigger_due(self) -> None:
        """A trigger is to be looked at."""


class Kills(Protocol):
    """Ends jobs."""

    async def kill(self, key: int, grace_ms: int) -> None:
        """End a job wherever it is. Raises Unavailable."""


_Change = Callable[[LockedTrigger, TriggerPlan], State]


class TriggerOrders:
    """See the module. Triggers are named by their keys. All raise NotFound for one that is gone, and Unavailable."""

    def __init__(self, pool: asyncpg.Pool, kills: Kills, listener: Listener) -> None:
        self._pool = pool
        self._kills = kills
        self._listener = listener

    async def enable(self, key: int) -> None:
        """Raises TriggerDisabled where its flow disables it."""

        def change(locked: LockedTrigger, plan: TriggerPlan) -> State:
            if plan.trigger.disabled:
                raise _disabled(locked, DisabledBy.FLOW)
            cron = None if plan.schedule is None else plan.schedule.cron
            return enabled(locked.state, cron, locked.now)

        await self._change(key, change)

    async def disable(self, key: int) -> None:
        """It does nothing until it is enabled."""
        await self._change(key, lambda locked, _: disabled(locked.state))

    async def evaluate(self, key: int) -> None:
        """Look at it now. Raises TriggerDisabled."""

        def change(locked: LockedTrigger, _: TriggerPlan) -> State:
            _check_enabled(locked)
            return asked(locked.state, locked.now)

        await self._change(key, change)

    async def unlock(self, key: int) -> None:
        """End its evaluation, if there is one."""
        async with self._pool.acquire() as connection, connection.transaction():
            locked = await lock_trigger(connection, key)
        if locked is not None and locked.job_key is not None:
            await self._kills.kill(locked.job_key, GRACE_MS)

    async def backfill(
        self,
        key: int,
        start: datetime,
        end: datetime | None,
        inputs: Mapping[str, Any],
        labels: Mapping[str, str],
    ) -> None:
        """Start a window once more; `end` None: up to now. Raises InvalidArgument, TriggerDisabled,
        BackfillRunning."""

        async def begin(connection: asyncpg.Connection, locked: LockedTrigger, plan: TriggerPlan) -> State:
            _check_enabled(locked)
            before = locked.state.backfill
            if before is not None and not before.over:
                raise BackfillRunning(
                    f"The trigger {locked.trigger_id!r} has a backfill that is {before.state}. Let it end, or cancel "
                    "it: farhand trigger backfill … --cancel"
                )
            schedule = _schedule(locked, plan)
            window_end = locked.now if end is None else end
            _check_window(start, window_end, locked.now)
            new = begin_backfill(schedule.cron, before, start, window_end)
            if new.next_at is not None:
                await _check_inputs(connection, locked, plan, schedule, Tick(new.next_at, new.number), inputs)
            # Where nothing is to be started, nobody has looked at the inputs, and none is kept.
            await note_backfill(connection, key, new, _json(inputs if new.next_at else {}), _json(labels))
            return replace(locked.state, backfill=new)

        try:
            async with self._pool.acquire() as connection, connection.transaction():
                locked = await self._locked(connection, key)
                state = await begin(connection, locked, TriggerPlan.read(locked.plan))
                await _put(connection, locked, state)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise database_error(error) or error from error
        self._listener.trigger_due()

    async def move_backfill(self, key: int, wanted: BackfillState) -> None:
        """Pause it, let it go on, or end it. Raises NotFound where there was none."""

        def change(locked: LockedTrigger, _: TriggerPlan) -> State:
            if locked.state.backfill is None:
                raise NotFound(
                    f"The trigger {locked.trigger_id!r} has no backfill. "
                    "`farhand trigger backfill … --start TIME` begins one."
                )
            return backfill_becomes(locked.state, wanted)

        await self._change(key, change)

    async def _change(self, key: int, change: _Change) -> None:
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                locked = await self._locked(connection, key)
                await _put(connection, locked, change(locked, TriggerPlan.read(locked.plan)))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise database_error(error) or error from error
        self._listener.trigger_due()

    async def _locked(self, connection: asyncpg.Connection, key: int) -> LockedTrigger:
        locked = await lock_trigger(connection, key)
        if locked is None:
            raise NotFound("The trigger has just gone: its flow was deleted, or saved without it.")
        return locked


async def _put(connection: asyncpg.Connection, locked: LockedTrigger, state: State) -> None:
    if state == locked.state:
        return
    await move_triggers(connection, [MovedTrigger(locked.key, state, locked.job_key, None, None, None)])
    await add_triggers_due(connection, [(locked.key, locked.now)])


def _schedule(locked: LockedTrigger, plan: TriggerPlan) -> SchedulePlan:
    if plan.schedule is None:
        raise InvalidArgument.of(
            Violation("name", f"names a trigger of type {locked.type}, which has no ticks; only a Schedule has some")
        )
    return plan.schedule


def _check_window(start: datetime, end: datetime, now: datetime) -> None:
    wrong = []
    if end > now:
        wrong.append(Violation("end_time", "is in the future: a backfill starts what has passed"))
    if start < _EARLIEST:
        wrong.append(Violation("start_time", "is before 1970"))
    if end - start > _LONGEST_WINDOW:
        wrong.append(Violation("end_time", "is more than ten years after start_time"))
    if start >= end:
        wrong.append(Violation("start_time", "must be before end_time, which is now unless it is said"))
    if wrong:
        raise InvalidArgument.of(*wrong)


async def _check_inputs(
    connection: asyncpg.Connection,
    locked: LockedTrigger,
    plan: TriggerPlan,
    schedule: SchedulePlan,
    tick: Tick,
    given: Mapping[str, Any],
) -> None:
    """Whether the first of its executions could be created."""
    [(_, definition)] = (await read_definitions(connection, [locked.flow_key])).values()
    name = FlowName(locked.tenant, locked.namespace, locked.flow_id, locked.flow_revision)
    told = of_schedule(schedule, tick, None)
    _, wrong = inputs_of(plan, Flow.from_json(definition), name, told, given)
    if wrong:
        raise InvalidArgument.of(*wrong)


def _check_enabled(locked: LockedTrigger) -> None:
    if locked.state.disabled_by is not None:
        raise _disabled(locked, locked.state.disabled_by)


def _disabled(locked: LockedTrigger, by: DisabledBy) -> TriggerDisabled:
    if by is DisabledBy.FLOW:
        todo = "its flow says so. Save the flow without `disabled`"
    else:
        todo = "enable it first, with: farhand trigger enable"
    return TriggerDisabled(f"The trigger {locked.trigger_id!r} is disabled; {todo}.")


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), ensure_ascii=False)
