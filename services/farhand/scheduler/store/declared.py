"""The rows of the scheduler's copy of the registry: read whole, applied strictly in revision order.

Several replicas receive the same steps and apply them to one database. The row of
`copy_state` decides who does: a change is applied by whoever moves the revision
from the one before it, and the others find it moved. It is taken before every
other lock. A group's row is taken FOR UPDATE before it changes, and what the change
means for its waiting jobs is settled in the same transaction (P10, P11).
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from asyncpg import Connection, Record

from farhand.kernel.flow import PluginDefault
from farhand.kernel.resolution import Fallback
from farhand.scheduler.core.declared import (
    Change,
    Declared,
    Group,
    Namespace,
    OutOfOrder,
    RemovedGroup,
    RemovedNamespace,
    RemovedTenant,
    RemovedTriggeredFlow,
    Snapshot,
    Tenant,
    TriggeredFlow,
    changed_groups,
)
from farhand.scheduler.store.groups import EncodeLog, settle_group
from farhand.scheduler.store.sql import SQL
from farhand.scheduler.store.tenant_quotas import read_quotas, write_quotas


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a step: the copy's revision now, whether this call moved it, and the keys of the jobs
    that ended with it."""

    revision: int
    moved: bool
    ended: tuple[int, ...] = ()


async def read_revision(connection: Connection) -> int:
    """The revision of the copy; 0: it never was filled."""
    revision: int = await connection.fetchval("SELECT revision FROM scheduler.copy_state")
    return revision


async def read(connection: Connection) -> Declared:
    """The whole copy, as of one moment."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return await _read(connection)


async def apply_change(connection: Connection, change: Change, *, writer: str, encode_log: EncodeLog) -> Applied:
    """Apply the change if it follows the copy's revision. An older one changes nothing. Raises OutOfOrder
    when revisions between are missing; the caller then asks for a snapshot."""
    async with connection.transaction():
        if not await connection.fetchval(
            "UPDATE scheduler.copy_state SET revision = $1 WHERE revision = $1 - 1 RETURNING true", change.revision
        ):
            revision = await read_revision(connection)
            if revision < change.revision:
                raise OutOfOrder(f"revision {change.revision} does not follow {revision}")
            return Applied(revision, moved=False)
        ended: list[int] = []
        match change.resource:
            case Tenant() as tenant:
                await _look_again(connection, tenant.id, "", tenant.plugin_defaults)
                await _put_tenants(connection, [tenant])
            case Namespace() as namespace:
                await _look_again(connection, namespace.tenant, namespace.name, namespace.plugin_defaults)
                await _put_namespaces(connection, [namespace])
            case Group() as group:
                ended = await _put_groups(connection, [group], writer=writer, encode_log=encode_log)
            case RemovedTenant(id):
                await connection.execute("DELETE FROM scheduler.tenant WHERE id = $1", id)
            case RemovedNamespace(tenant_id, name):
                await _look_again(connection, tenant_id, name, ())
                await connection.execute(
                    "DELETE FROM scheduler.namespace WHERE tenant = $1 AND name = $2", tenant_id, name
                )
            case RemovedGroup(uid):
                await _remove_groups(connection, [uid])
            case TriggeredFlow() as flow:
                await _put_triggered(connection, [flow])
            case RemovedTriggeredFlow(tenant_id, namespace_name, id):
                await connection.execute(SQL["remove_triggered_flows"], [tenant_id], [namespace_name], [id])
            case None:
                pass
        return Applied(change.revision, moved=True, ended=tuple(ended))


async def apply_snapshot(
    connection: Connection, told: Snapshot, *, writer: str, encode_log: EncodeLog, instead_of: int | None = None
) -> Applied:
    """Replace the copy by the snapshot if that is newer. `instead_of`: also if the copy is at this revision,
    which the registry says it has not reached (it was restored from a backup)."""
    snapshot = told.declared
    async with connection.transaction():
        if not await connection.fetchval(
            "UPDATE scheduler.copy_state SET revision = $1 WHERE revision < $1 OR revision = $2 RETURNING true",
            snapshot.revision,
            instead_of,
        ):
            return Applied(await read_revision(connection), moved=False)
        await _replace_triggered(connection, told.triggered)  # before the groups: queue.sql, the order of locks
        before = await _read(connection)  # nobody else changes it while we hold the row of copy_state
        for tenant_id, name in _otherwise_inherited(before, snapshot):
            await connection.execute(SQL["look_again"], tenant_id, name)
        changed = changed_groups(before, snapshot)
        await _lock_groups(connection, changed)  # all at once, in their order
        await _remove_groups(connection, changed - snapshot.groups_by_uid.keys())
        await connection.execute("DELETE FROM scheduler.tenant WHERE id <> ALL ($1::text[])", list(snapshot.tenants))
        await _put_tenants(connection, snapshot.tenants.values())
        await connection.execute(
            """DELETE FROM scheduler.namespace n WHERE NOT EXISTS (
                   SELECT FROM unnest($1::text[], $2::text[]) AS s(tenant, name)
                   WHERE s.tenant = n.tenant AND s.name = n.name)""",
            [tenant for tenant, _ in snapshot.namespaces],
            [name for _, name in snapshot.namespaces],
        )
        await _put_namespaces(connection, snapshot.namespaces.values())
        ended = await _put_groups(
            connection,
            [group for uid, group in snapshot.groups_by_uid.items() if uid in changed],
            writer=writer,
            encode_log=encode_log,
        )
        return Applied(snapshot.revision, moved=True, ended=tuple(ended))


async def _put_tenants(connection: Connection, tenants: Iterable[Tenant]) -> None:
    await connection.executemany(
        """INSERT INTO scheduler.tenant (id, default_worker_group, default_fallback, plugin_defaults)
           VALUES ($1, $2, $3, $4)
           ON CONFLICT (id) DO UPDATE SET default_worker_group = excluded.default_worker_group,
               default_fallback = excluded.default_fallback, plugin_defaults = excluded.plugin_defaults""",
        [(t.id, t.default_worker_group, t.default_fallback, _written(t.plugin_defaults)) for t in tenants],
    )


async def _put_namespaces(connection: Connection, namespaces: Iterable[Namespace]) -> None:
    await connection.executemany(
        """INSERT INTO scheduler.namespace (tenant, name, default_worker_group, default_fallback, plugin_defaults)
           VALUES ($1, $2, $3, $4, $5)
           ON CONFLICT (tenant, name) DO UPDATE SET default_worker_group = excluded.default_worker_group,
               default_fallback = excluded.default_fallback, plugin_defaults = excluded.plugin_defaults""",
        [
            (n.tenant, n.name, n.default_worker_group, n.default_fallback, _written(n.plugin_defaults))
            for n in namespaces
        ],
    )


async def _put_triggered(connection: Connection, flows: Iterable[TriggeredFlow]) -> None:
    rows = [(flow.tenant, flow.namespace, flow.id, flow.revision) for flow in flows]
    if rows:
        await connection.execute(SQL["put_triggered_flows"], *(list(column) for column in zip(*rows, strict=True)))


async def _look_again(connection: Connection, tenant: str, namespace: str, defaults: Sequence[PluginDefault]) -> None:
    """At the triggers of a tenant or namespace (empty: of the tenant), whose plugin defaults become these."""
    stored = await connection.fetchval(
        """SELECT plugin_defaults FROM scheduler.namespace WHERE tenant = $1 AND name = $2
           UNION ALL SELECT plugin_defaults FROM scheduler.tenant WHERE id = $1 AND $2 = ''""",
        tenant,
        namespace,
    )
    if json.loads(stored or "[]") != json.loads(_written(defaults)):
        await connection.execute(SQL["look_again"], tenant, namespace)


def _otherwise_inherited(before: Declared, now: Declared) -> Iterator[tuple[str, str]]:
    """Tenants (with an empty name) and namespaces whose plugin defaults are not as they were."""
    for tenant_id, tenant in now.tenants.items():
        known = before.tenants.get(tenant_id)
        if tenant.plugin_defaults != (known.plugin_defaults if known else ()):
            yield tenant_id, ""
    for name in before.namespaces.keys() | now.namespaces.keys():
        found = [each.namespaces[name].plugin_defaults if name in each.namespaces else () for each in (before, now)]
        if found[0] != found[1]:
            yield name


async def _replace_triggered(connection: Connection, flows: Iterable[TriggeredFlow]) -> None:
    told = {(flow.tenant, flow.namespace, flow.id): flow for flow in flows}
    known = await connection.fetch("SELECT tenant, namespace, flow_id, revision FROM scheduler.triggered_flow")
    revisions = {(row["tenant"], row["namespace"], row["flow_id"]): row["revision"] for row in known}
    if gone := sorted(revisions.keys() - told.keys()):
        columns = (list(column) for column in zip(*gone, strict=True))
        await connection.execute(SQL["remove_triggered_flows"], *columns)
    changed = [name for name in sorted(told) if revisions.get(name) != told[name].revision]
    await _put_triggered(connection, [told[name] for name in changed])


async def _lock_groups(connection: Connection, uids: Iterable[str]) -> set[str]:
    """Lets nothing pass in these groups until the transaction ends. Answers those that are there."""
    rows = await connection.fetch(
        "SELECT uid FROM scheduler.worker_group WHERE uid = ANY ($1::text[]) ORDER BY uid FOR UPDATE", list(uids)
    )
    return {row["uid"] for row in rows}


async def _put_groups(
    connection: Connection, groups: Iterable[Group], *, writer: str, encode_log: EncodeLog
) -> list[int]:
    groups = list(groups)
    known = await _lock_groups(connection, [group.uid for group in groups])
    await connection.executemany(
        """INSERT INTO scheduler.worker_group
               (uid, key, allowed_tenants, lease_ms, paused, deleting, force_deletion, quotas, gone)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, false)
           ON CONFLICT (uid) DO UPDATE SET key = excluded.key, allowed_tenants = excluded.allowed_tenants,
               lease_ms = excluded.lease_ms, paused = excluded.paused, deleting = excluded.deleting,
               force_deletion = excluded.force_deletion, quotas = excluded.quotas, gone = false""",
        [
            (
                group.uid,
                group.key,
                sorted(group.allowed_tenants),
                group.lease_ms,
                group.paused,
                group.deleting,
                group.force_deletion,
                write_quotas(group.quotas),
            )
            for group in groups
        ],
    )
    ended: list[int] = []
    for uid in sorted(known):  # one that came just now has no jobs
        ended += await settle_group(connection, uid, writer, encode_log)
    return ended


async def _remove_groups(connection: Connection, uids: Iterable[str]) -> None:
    """The rows stay, for the history of their jobs. Whatever still waits there, which only a registry that
    lost its memory can bring about, is ended by the deletion loop."""
    await connection.execute(
        "UPDATE scheduler.worker_group SET gone = true WHERE uid = ANY ($1::text[])",
        list(await _lock_groups(connection, uids)),
    )


async def _read(connection: Connection) -> Declared:
    revision = await read_revision(connection)
    tenants = await connection.fetch(
        "SELECT id, default_worker_group, default_fallback, plugin_defaults FROM scheduler.tenant"
    )
    namespaces = await connection.fetch(
        "SELECT tenant, name, default_worker_group, default_fallback, plugin_defaults FROM scheduler.namespace"
    )
    groups = await connection.fetch(
        """SELECT uid, key, allowed_tenants, lease_ms, paused, deleting, force_deletion, quotas
           FROM scheduler.worker_group WHERE NOT gone"""
    )
    return Declared.of(
        revision,
        [Tenant(row["id"], row["default_worker_group"], _fallback(row), _defaults(row)) for row in tenants],
        [
            Namespace(row["tenant"], row["name"], row["default_worker_group"], _fallback(row), _defaults(row))
            for row in namespaces
        ],
        [
            Group(
                row["uid"],
                row["key"],
                frozenset(row["allowed_tenants"]),
                row["lease_ms"],
                row["paused"],
                row["deleting"],
                row["force_deletion"],
                read_quotas(row["quotas"]),
            )
            for row in groups
        ],
    )


def _fallback(row: Record) -> Fallback | None:
    return Fallback(row["default_fallback"]) if row["default_fallback"] else None


def _defaults(row: Record) -> tuple[PluginDefault, ...]:
    return tuple(map(PluginDefault.model_validate, json.loads(row["plugin_defaults"])))


def _written(defaults: Sequence[PluginDefault]) -> str:
    return json.dumps([default.model_dump(mode="json", by_alias=True, exclude_unset=True) for default in defaults])
