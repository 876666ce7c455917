"""What a request for an execution was answered with, so that the same request gives the same one (P6, AIP-155)."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from asyncpg import Connection

from farhand.kernel.errors import RequestIdReused, Unavailable
from farhand.scheduler.loops.secret_inputs import SecretInputs, equal
from farhand.scheduler.store.executions import recall_request, remember_request


@dataclass(frozen=True, slots=True)
class ExecutionRequest:
    """Who asks, as far as it is remembered. An empty id asks for no memory of it."""

    tenant: str
    id: str
    inputs: Mapping[str, Any] = field(repr=False)  # that come with it
    body_hash: Callable[[Collection[str]], bytes] = field(repr=False)
    """Of all that is asked, and by which method; but for what these inputs are given: a hash would tell a secret that
    can be guessed."""


async def recall(pool: asyncpg.Pool, request: ExecutionRequest, secrets: SecretInputs) -> int | None:
    """The execution that this request was answered with; None: it is new. Raises RequestIdReused, SecretsNeedKey."""
    if not request.id:
        return None
    async with pool.acquire() as connection:
        found = await recall_request(connection, request.tenant, request.id)
        return None if found is None else await _same(connection, request, secrets, *found)


async def remember(
    connection: Connection, request: ExecutionRequest, key: int, given: Collection[str], secrets: SecretInputs
) -> int:
    """The execution of this request: the new one, in whose transaction this is, or that of a call that was faster.
    `given`: the names of the new one's secrets. Raises RequestIdReused, SecretsNeedKey, Unavailable."""
    if not request.id:
        return key
    if await remember_request(connection, request.tenant, request.id, request.body_hash(given), key):
        return key
    found = await recall_request(connection, request.tenant, request.id)
    if found is None:
        raise Unavailable("The request_id's memory is just being cleared; try again.")
    return await _same(connection, request, secrets, *found)


async def _same(
    connection: Connection, request: ExecutionRequest, secrets: SecretInputs, body_hash: bytes, key: int
) -> int:
    """The execution that was made for this id, if the same was asked. Of secrets no hash is kept: what was given then
    is opened and compared."""
    kept = await secrets.of(connection, request.tenant, key)
    again = {name: text for name, text in kept.items() if name in request.inputs}
    if request.body_hash(kept) != body_hash or not equal(again, request.inputs):
        raise RequestIdReused(
            f"The request_id {request.id!r} was used before for another request. A new one needs a new id."
        )
    return key
