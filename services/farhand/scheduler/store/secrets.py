"""Secret inputs as they lie in the database: sealed, each under the key that its row names.

Each function runs inside of the transaction that its caller began, unless it says
otherwise, on a raw connection.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from asyncpg import Connection

from farhand.scheduler.store.sql import SQL


class Sealed(NamedTuple):
    """One secret input of an execution."""

    execution_key: int
    name: str
    tenant: str
    sealed: bytes


async def hold_sealing_key(connection: Connection, suggested: str) -> str:
    """The id of the key to seal under; it stays the one until the transaction ends. `suggested` where nothing was
    ever sealed."""
    while (key_id := await connection.fetchval(SQL["hold_sealing_key"])) is None:
        await connection.execute(SQL["name_sealing_key"], suggested)
    return str(key_id)


async def change_sealing_key(connection: Connection, key_id: str) -> None:
    """Name the key that all seal under from now on; returns when nothing is being sealed under another. By itself."""
    await connection.execute(SQL["change_sealing_key"], key_id)


async def insert_secrets(connection: Connection, execution: int, key_id: str, sealed: Mapping[str, bytes]) -> None:
    """Keep an execution's secrets, by the names of their inputs."""
    await connection.execute(
        SQL["insert_secrets"], execution, list(sealed), [key_id] * len(sealed), list(sealed.values())
    )


async def read_secrets(connection: Connection, executions: Iterable[int]) -> dict[int, dict[str, bytes]]:
    """The secrets of these executions, by execution and name. In a transaction or not."""
    found: dict[int, dict[str, bytes]] = {}
    for row in await connection.fetch(SQL["secrets_of_executions"], sorted(executions)):
        found.setdefault(row["execution_key"], {})[row["name"]] = row["sealed"]
    return found


async def count_secrets(connection: Connection) -> dict[str, int]:
    """How many there are under each key, by its id. In a transaction or not."""
    return {row["key_id"]: row["count"] for row in await connection.fetch(SQL["count_secrets"])}


async def secrets_under_other_keys(
    connection: Connection, key_id: str, *, after: tuple[int, str], limit: int
) -> list[Sealed]:
    """The next secrets that are not under this key, held until the transaction ends; `after`: execution and name."""
    rows = await connection.fetch(SQL["secrets_under_other_keys"], key_id, *after, limit)
    return [Sealed(row["execution_key"], row["name"], row["tenant"], row["sealed"]) for row in rows]


async def seal_anew(connection: Connection, key_id: str, secrets: Sequence[Sealed]) -> None:
    """Put these, which are held, in the place of what was under another key."""
    await connection.execute(
        SQL["seal_secrets_anew"],
        key_id,
        [secret.execution_key for secret in secrets],
        [secret.name for secret in secrets],
        [secret.sealed for secret in secrets],
    )
