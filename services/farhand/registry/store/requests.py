"""Answers to creates that came with a request_id, kept for 24 hours (AIP-155)."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Generic

import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.registry.core.change import Resource
from farhand.registry.store import documents
from farhand.registry.store.documents import R
from farhand.registry.store.tables import request

_KEPT = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Remembered(Generic[R]):
    """A request that was answered."""

    digest: bytes  # of what it asked for
    answer: R


async def recall(connection: AsyncConnection, cls: type[R], request_id: str) -> Remembered[R] | None:
    """The answer to the create of such a resource with this id; None where there is none, or its time is over."""
    statement = sql.select(request.c.digest, request.c.answer).where(
        request.c.kind == documents.kind(cls),
        request.c.request_id == request_id,
        request.c.create_time > sql.func.now() - _KEPT,
    )
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else Remembered(row.digest, documents.read(cls, row.answer))


async def remember(connection: AsyncConnection, request_id: str, digest: bytes, answer: Resource) -> None:
    """Keep an answer, and forget those whose time is over. Needs the lock of `changes`."""
    await connection.execute(sql.delete(request).where(request.c.create_time <= sql.func.now() - _KEPT))
    await connection.execute(
        sql.insert(request).values(
            kind=documents.kind(type(answer)),
            request_id=request_id,
            digest=digest,
            answer=documents.write(answer),
            create_time=sql.func.now(),
        )
    )
