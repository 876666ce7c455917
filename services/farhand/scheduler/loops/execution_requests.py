"""What a request for an execution was answered with, so that the same request gives the same one (P6, AIP-155)."""

from dataclasses import dataclass

import asyncpg
from asyncpg import Connection

from farhand.kernel.errors import RequestIdReused, Unavailable
from farhand.scheduler.store.executions import recall_request, remember_request


@dataclass(frozen=True, slots=True)
class ExecutionRequest:
    """Who asks, as far as it is remembered. An empty id asks for no memory of it."""

    tenant: str
    id: str
    body_hash: bytes  # of all that is asked, and by which method

    def same(self, body_hash: bytes, key: int) -> int:
        """The execution that was made for this id. Raises RequestIdReused where something else was asked."""
        if body_hash != self.body_hash:
            raise RequestIdReused(
                f"The request_id {self.id!r} was used before for another request. A new one needs a new id."
            )
        return key


async def recall(pool: asyncpg.Pool, request: ExecutionRequest) -> int | None:
    """The execution that this request was answered with; None: it is new. Raises RequestIdReused."""
    if not request.id:
        return None
    async with pool.acquire() as connection:
        found = await recall_request(connection, request.tenant, request.id)
    return None if found is None else request.same(*found)


async def remember(connection: Connection, request: ExecutionRequest, key: int) -> int:
    """The execution of this request: the new one, in whose transaction this is, or that of a call that was faster.
    Raises RequestIdReused, Unavailable."""
    if not request.id or await remember_request(connection, request.tenant, request.id, request.body_hash, key):
        return key
    found = await recall_request(connection, request.tenant, request.id)
    if found is None:
        raise Unavailable("The request_id's memory is just being cleared; try again.")
    return request.same(*found)
