"""Answers to creates that came with a request_id, kept for 24 hours (AIP-155)."""

from datetime import timedelta

import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.registry.core import request_id as rule
from farhand.registry.store import documents
from farhand.registry.store.documents import R
from farhand.registry.store.tables import request

_KEPT = timedelta(hours=24)


async def answered(connection: AsyncConnection, request_id: str, asked: R) -> R | None:
    """The answer that the create of ``asked`` with this id had; None where it is new, or the id is empty.

    Needs the lock of `changes`, or the same request may be on its way elsewhere.
    Raises RequestIdReused when the id came with another body.
    """
    if not request_id:
        return None
    statement = sql.select(request.c.digest, request.c.answer).where(
        request.c.kind == documents.kind(type(asked)),
        request.c.request_id == request_id,
        request.c.create_time > sql.func.now() - _KEPT,
    )
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        return None
    rule.check_same(request_id, row.digest, rule.digest(asked))
    return documents.read(type(asked), row.answer)


async def remember(connection: AsyncConnection, request_id: str, asked: R, answer: R) -> None:
    """Keep an answer, and forget those whose time is over. Nothing is kept for an empty id."""
    if not request_id:
        return
    await connection.execute(sql.delete(request).where(request.c.create_time <= sql.func.now() - _KEPT))
    await connection.execute(
        sql.insert(request).values(
            kind=documents.kind(type(answer)),
            request_id=request_id,
            digest=rule.digest(asked),
            answer=documents.write(answer),
            create_time=sql.func.now(),
        )
    )
