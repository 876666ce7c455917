"""What an execution takes over from another: read from the old one, written for the new one.

Each function runs inside of the transaction that its caller began, unless it says
otherwise, on a raw connection.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from asyncpg import Connection

from farhand.scheduler.core.execution import ExecutionState
from farhand.scheduler.core.takeover import OldRun, Takeover
from farhand.scheduler.core.task_run import RunId, RunState
from farhand.scheduler.store.sql import SQL


class Old(NamedTuple):
    """An execution that another begins from."""

    key: int
    state: ExecutionState
    tenant: str
    namespace: str
    flow_id: str
    revision: int
    definition: str
    inputs: str  # JSON
    labels: str  # JSON; the flow's and its own
    trigger: str | None  # JSON


async def read_old(connection: Connection, key: int) -> Old | None:
    """The execution; None: it is not there. In a transaction or not."""
    row = await connection.fetchrow(SQL["read_old_execution"], key)
    return None if row is None else Old(row["key"], ExecutionState(row["state"]), *list(row)[2:])


async def hold_old(connection: Connection, key: int) -> bool:
    """See to it that it is not forgotten before the transaction ends. Answers whether it is there still, whole."""
    return await connection.fetchval(SQL["hold_old_execution"], key) is not None


async def read_old_runs(connection: Connection, key: int) -> list[OldRun]:
    """Its task runs, in the order of their creation."""
    rows = await connection.fetch(SQL["old_task_runs"], key)
    return [
        OldRun(RunId(row["task_id"], row["iteration"], row["attempt"]), RunState(row["state"]), row["chose"])
        for row in rows
    ]


async def take_over(connection: Connection, old: int, new: int, over: Takeover, *, ended: bool) -> None:
    """Write the task runs that come over. `ended`: the new execution has ended already, and nothing goes on."""
    if over.as_ended:
        rows = [(*id, id in over.over) for id in over.as_ended]
        await connection.execute(SQL["take_over_as_ended"], old, new, *_columns(rows))
    if over.over:
        await connection.execute(SQL["count_runs_over"], new, len(over.over))
    if over.go_on and not ended:
        await connection.execute(SQL["take_over_to_go_on"], old, new, *_columns(over.go_on))


def _columns(ids: Iterable[Sequence[object]]) -> list[list[object]]:
    return [list(column) for column in zip(*ids, strict=True)]
