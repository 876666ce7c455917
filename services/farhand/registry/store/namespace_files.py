"""Namespace files: which path has which content, and the contents in pieces.

A content is stored once, under its digest. Whoever refers to one holds its row's lock
first, and what clears contents away passes by those that are locked; so a content
never goes away under a file that is being stored.
"""

from collections.abc import AsyncIterator, Sequence

import sqlalchemy as sql
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.registry.core.namespace_file import NamespaceFile
from farhand.registry.store.near import nearest_first
from farhand.registry.store.tables import file_content, file_piece, namespace_file, past_namespace_file

PIECE = 1 << 20  # bytes
_KEPT = sql.text("interval '24 hours'")
_CLEARED_AT_ONCE = 100

_COLUMNS = list(namespace_file.c)


async def get(connection: AsyncConnection, tenant: str, namespace: str, path: str) -> NamespaceFile | None:
    """What the path has now; None where there is no such file."""
    row = (
        await connection.execute(sql.select(namespace_file).where(_is(namespace_file, tenant, namespace, path)))
    ).one_or_none()
    return None if row is None else NamespaceFile(*row)


async def get_version(
    connection: AsyncConnection, tenant: str, namespace: str, path: str, digest: bytes
) -> NamespaceFile | None:
    """What the path has or had with this digest; None where it never had, or that is forgotten."""
    past = [past_namespace_file.c[column.name] for column in _COLUMNS]
    statement = sql.union_all(
        sql.select(*_COLUMNS).where(_is(namespace_file, tenant, namespace, path), namespace_file.c.digest == digest),
        sql.select(*past).where(
            _is(past_namespace_file, tenant, namespace, path),
            past_namespace_file.c.digest == digest,
            past_namespace_file.c.past_since > sql.func.now() - _KEPT,
        ),
    )
    row = (await connection.execute(statement)).first()
    return None if row is None else NamespaceFile(*row)


async def page(
    connection: AsyncConnection, tenant: str, namespaces: Sequence[str], after: str | None, limit: int
) -> list[NamespaceFile]:
    """Files by path, from the one after ``after``. ``namespaces``: one and those that it inherits from; where several
    have a path, the nearest counts."""
    statement = (
        sql.select(namespace_file)
        .ext(distinct_on(namespace_file.c.path))
        .where(namespace_file.c.tenant == tenant, namespace_file.c.namespace.in_(namespaces))
        .order_by(namespace_file.c.path, sql.func.length(namespace_file.c.namespace).desc())
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(namespace_file.c.path > after)
    return [NamespaceFile(*row) for row in await connection.execute(statement)]


async def paths_like(connection: AsyncConnection, tenant: str, namespace: str, path: str) -> list[str]:
    """Paths of the namespace to look for near matches in."""
    statement = sql.select(namespace_file.c.path).where(
        namespace_file.c.tenant == tenant, namespace_file.c.namespace == namespace
    )
    return list((await connection.execute(nearest_first(statement, namespace_file.c.path, path))).scalars())


async def namespaces_of(connection: AsyncConnection, tenant: str) -> list[str]:
    """The namespaces of the tenant that have files."""
    statement = (
        sql.select(namespace_file.c.namespace)
        .distinct()
        .where(namespace_file.c.tenant == tenant)
        .order_by(namespace_file.c.namespace)
    )
    return list((await connection.execute(statement)).scalars())


async def store_content(connection: AsyncConnection, digest: bytes, pieces: AsyncIterator[bytes]) -> None:
    """Store a content, unless it is there; its row is locked from now on.

    ``pieces``: of `PIECE` bytes, the last one shorter. One who stores the same at the same time is waited for.
    """
    new = insert(file_content).values(digest=digest).on_conflict_do_nothing().returning(file_content.c.digest)
    known = sql.select(file_content.c.digest).where(file_content.c.digest == digest).with_for_update(read=True)
    while (await connection.execute(new)).first() is None:
        if (await connection.execute(known)).first() is not None:
            return  # else it was cleared away in between
    number = 0
    async for piece in pieces:
        await connection.execute(sql.insert(file_piece).values(digest=digest, number=number, content=piece))
        number += 1


async def read_piece(connection: AsyncConnection, digest: bytes, number: int) -> bytes | None:
    """One piece of a content; None behind the last."""
    statement = sql.select(file_piece.c.content).where(file_piece.c.digest == digest, file_piece.c.number == number)
    found: bytes | None = (await connection.execute(statement)).scalar_one_or_none()
    return found


async def put(connection: AsyncConnection, new: NamespaceFile) -> NamespaceFile:
    """Give a path its content, which is stored and locked; what it had is remembered. Answers the file as it is now.

    Needs the lock of `changes`. The same content again changes nothing.
    """
    stored = await get(connection, new.tenant, new.namespace, new.path)
    if stored is not None and stored.digest == new.digest:
        return stored
    if stored is not None:
        await _remember(connection, stored)
    values = {"digest": new.digest, "size": new.size}
    statement = (
        insert(namespace_file)
        .values(tenant=new.tenant, namespace=new.namespace, path=new.path, **values)
        .on_conflict_do_update(
            index_elements=[namespace_file.c.tenant, namespace_file.c.namespace, namespace_file.c.path],
            set_={**values, "update_time": sql.func.now()},
        )
        .returning(namespace_file)
    )
    return NamespaceFile(*(await connection.execute(statement)).one())


async def delete(connection: AsyncConnection, stored: NamespaceFile) -> None:
    """Remove a file, and remember its content for those who were told of it. Needs the lock of `changes`."""
    await _remember(connection, stored)
    await connection.execute(
        sql.delete(namespace_file).where(_is(namespace_file, stored.tenant, stored.namespace, stored.path))
    )


async def clear(connection: AsyncConnection) -> None:
    """Forget what is past for 24 hours, and some of the contents that nothing refers to any more.

    Needs the lock of `changes`, under which alone references come."""
    await connection.execute(
        sql.delete(past_namespace_file).where(past_namespace_file.c.past_since <= sql.func.now() - _KEPT)
    )
    unused = [
        ~sql.exists().where(table.c.digest == file_content.c.digest) for table in (namespace_file, past_namespace_file)
    ]
    candidates = (
        sql.select(file_content.c.digest).where(*unused).limit(_CLEARED_AT_ONCE).with_for_update(skip_locked=True)
    )
    digests = list((await connection.execute(candidates)).scalars())
    if digests:
        await connection.execute(sql.delete(file_content).where(file_content.c.digest.in_(digests), *unused))


async def _remember(connection: AsyncConnection, stored: NamespaceFile) -> None:
    row = {column.name: getattr(stored, column.name) for column in _COLUMNS}
    await connection.execute(
        insert(past_namespace_file)
        .values(row)
        .on_conflict_do_update(
            index_elements=list(past_namespace_file.primary_key), set_={"past_since": sql.func.now()}
        )
    )


def _is(table: sql.Table, tenant: str, namespace: str, path: str) -> sql.ColumnElement[bool]:
    return sql.and_(table.c.tenant == tenant, table.c.namespace == namespace, table.c.path == path)
