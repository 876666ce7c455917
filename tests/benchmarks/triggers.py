"""What schedules cost a scheduler: the processor time of its loop for one minute of 10,000 triggers.

The loop runs in this process, so that its time is told apart from that of the executions
that it starts, which is measured elsewhere. Each trigger has a flow of its own and a
tick in each minute, spread over its seconds; a minute is sixty looks at what is due.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from asyncpg import Connection

from farhand.kernel.flow.cron import Cron
from farhand.runtime.database import connect, migrate
from farhand.scheduler.core.declared import Declared
from farhand.scheduler.core.trigger_plan import TriggerPlan
from farhand.scheduler.loops.evaluations import Evaluated
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.loops.triggers import Triggers
from tests.fixtures.polling_stage import evaluations_of
from tests.fixtures.scheduler_with_flows import flow_of
from tests.fixtures.trigger_stage import scheduled

TRIGGERS = 10_000


@dataclass
class Minute:
    """What a minute took: seconds of this process's processor, and how many executions began."""

    seconds: float
    started: int

    @property
    def share(self) -> float:
        """Of a core, in percent, for a tick of each in a minute."""
        return 100 * self.seconds * TRIGGERS / self.started / 60


class _Counting:
    """The listener of the loop."""

    def __init__(self) -> None:
        self.started = 0

    def executions_started(self, keys: Sequence[int]) -> None:
        self.started += len(keys)

    def evaluations_moved(self, evaluated: Evaluated) -> None:
        """There are none."""


async def minute(server: str) -> Minute:
    """Make the triggers in a database of their own, and look at each once when it is due."""
    url = urlsplit(server)._replace(path="/triggers").geturl()
    connection = await connect(server)
    await connection.execute("CREATE DATABASE triggers")
    await connection.close()
    await migrate(url, "farhand.scheduler", "scheduler")
    connection, hot, listener = await connect(url), HotConnection(url), _Counting()
    try:
        await _make(connection)
        loop = Triggers(hot, evaluations_of(Declared, "bench/triggers"), listener)
        spent = 0.0
        for second in range(60):
            keys = [number + 1 for number in range(second, TRIGGERS, 60)]
            await _come_due(connection, second, keys)
            before = time.process_time()
            await loop.once()
            spent += time.process_time() - before
        return Minute(spent, listener.started)
    finally:
        await hot.close()
        await connection.close()


async def _make(connection: Connection) -> None:
    flows, triggers = [], []
    for number in range(TRIGGERS):
        flow = flow_of(scheduled(f"{number % 60} * * * * *", "timezone: Europe/Berlin", id=f"f{number}"))
        definition = flow.to_json()
        digest = hashlib.sha256(definition.encode()).digest()
        plan = TriggerPlan(flow.triggers[0])
        flows.append((number + 1, flow.namespace, flow.id, digest, definition))
        triggers.append((number + 1, flow.namespace, flow.id, plan.trigger.type, plan.written))
    await connection.executemany(
        """INSERT INTO scheduler.flow_revision (key, tenant, namespace, flow_id, revision, digest, definition)
           OVERRIDING SYSTEM VALUE VALUES ($1, 'main', $2, $3, 1, $4, $5)""",
        flows,
    )
    await connection.executemany(
        """INSERT INTO scheduler.trigger (key, tenant, namespace, flow_id, trigger_id, type, flow_key, plan)
           OVERRIDING SYSTEM VALUE VALUES ($1, 'main', $2, $3, 't', $4, $1, $5)""",
        triggers,
    )
    await connection.execute("VACUUM ANALYZE")


async def _come_due(connection: Connection, second: int, keys: Sequence[int]) -> None:
    """The last time at which the clock showed that second is the tick that these are to fire."""
    tick = Cron.parse(f"{second} * * * * *").before(await connection.fetchval("SELECT now()"))
    assert tick is not None
    await connection.execute(
        "UPDATE scheduler.trigger SET next_at = $2, last_at = $3 WHERE key = ANY ($1::bigint[])",
        keys,
        tick,
        tick - timedelta(minutes=1),
    )
    await connection.execute("INSERT INTO scheduler.trigger_due (trigger_key) SELECT unnest($1::bigint[])", keys)
