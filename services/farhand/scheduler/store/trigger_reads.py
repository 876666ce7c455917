"""Triggers, read for people: by name, in pages. Each function reads with one statement. Nothing here writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.scheduler.core.trigger import Backfill, BackfillState, DisabledBy, Result
from farhand.scheduler.store.tables import flow_revision, live, session, trigger


@dataclass(frozen=True, slots=True)
class TriggerRecord:
    """A trigger as people see it. `worker`: who has its evaluation; empty: nobody."""

    key: int
    tenant: str
    namespace: str
    flow_id: str
    trigger_id: str
    type: str
    flow_revision: int
    disabled_by: DisabledBy | None
    next_at: datetime | None
    last_at: datetime | None
    result: Result | None
    result_at: datetime | None
    message: str
    execution_key: int | None
    job_key: int | None
    worker: str
    backfill: Backfill | None


@dataclass(frozen=True, slots=True)
class TriggerPlace:
    """Where a page goes on: after this one."""

    namespace: str
    flow_id: str
    trigger_id: str


_FROM = (
    trigger.join(flow_revision, flow_revision.c.key == trigger.c.flow_key)
    .outerjoin(live, live.c.key == trigger.c.job_key)
    .outerjoin(session, session.c.id == live.c.session_id)
)
_COLUMNS: list[Any] = [
    *trigger.c,
    flow_revision.c.revision.label("flow_revision"),
    func.coalesce(session.c.worker_id, "").label("worker"),
]
_ORDER = (trigger.c.namespace, trigger.c.flow_id, trigger.c.trigger_id)


async def read_trigger(
    connection: AsyncConnection, tenant: str, namespace: str, flow_id: str, trigger_id: str
) -> TriggerRecord | None:
    """One; None: it is not there."""
    row = await connection.execute(
        select(*_COLUMNS)
        .select_from(_FROM)
        .where(
            trigger.c.tenant == tenant,
            trigger.c.namespace == namespace,
            trigger.c.flow_id == flow_id,
            trigger.c.trigger_id == trigger_id,
        )
    )
    found = row.mappings().one_or_none()
    return None if found is None else _record(found)


async def list_triggers(
    connection: AsyncConnection, tenant: str, namespace: str, flow_id: str, after: TriggerPlace | None, size: int
) -> list[TriggerRecord]:
    """By namespace, flow and id, from the one after `after`. `namespace`: this one and those below it, with a flow_id
    this one; empty: all."""
    statement = select(*_COLUMNS).select_from(_FROM).where(trigger.c.tenant == tenant)
    if flow_id:
        statement = statement.where(and_(trigger.c.namespace == namespace, trigger.c.flow_id == flow_id))
    elif namespace:
        below = trigger.c.namespace.startswith(namespace + ".", autoescape=True)
        statement = statement.where(or_(trigger.c.namespace == namespace, below))
    if after is not None:
        statement = statement.where(tuple_(*_ORDER) > tuple_(after.namespace, after.flow_id, after.trigger_id))
    rows = await connection.execute(statement.order_by(*_ORDER).limit(size))
    return [_record(row) for row in rows.mappings()]


async def names_near(connection: AsyncConnection, tenant: str, namespace: str, flow_id: str) -> list[str]:
    """Names, as namespace/flow/id, to look for near matches in: the flow's, or else any of the tenant's."""
    name = trigger.c.namespace + "/" + trigger.c.flow_id + "/" + trigger.c.trigger_id
    of_tenant = select(name).where(trigger.c.tenant == tenant)
    of_flow = of_tenant.where(trigger.c.namespace == namespace, trigger.c.flow_id == flow_id)
    found = list((await connection.execute(of_flow)).scalars())
    return found or list((await connection.execute(of_tenant.order_by(*_ORDER).limit(1000))).scalars())


def _record(row: Mapping[Any, Any]) -> TriggerRecord:
    backfill = None
    if row["backfill"]:
        backfill = Backfill(
            row["backfill"],
            row["backfill_start"],
            row["backfill_end"],
            row["backfill_next"],
            BackfillState(row["backfill_state"]),
            row["backfill_fired"],
        )
    return TriggerRecord(
        row["key"],
        row["tenant"],
        row["namespace"],
        row["flow_id"],
        row["trigger_id"],
        row["type"],
        row["flow_revision"],
        DisabledBy(row["disabled_by"]) if row["disabled_by"] else None,
        row["next_at"],
        row["last_at"],
        Result(row["result"]) if row["result"] else None,
        row["result_at"],
        row["message"] or "",
        row["execution_key"],
        row["job_key"],
        row["worker"],
        backfill,
    )
